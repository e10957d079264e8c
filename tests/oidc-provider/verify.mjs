// Verifies a token by a key set, as an upstream would: {"jwks": …, "token": "…"} on standard input, header and payload on
// standard output. Its exit code is 1 where the token is not good.
import { createLocalJWKSet, jwtVerify } from 'jose';

let text = '';
for await (const chunk of process.stdin) text += chunk;
const { jwks, token } = JSON.parse(text);
try {
  const { protectedHeader, payload } = await jwtVerify(token, createLocalJWKSet(jwks), { clockTolerance: '10y' });
  console.log(JSON.stringify({ header: protectedHeader, payload }));
} catch (error) {
  console.error(error.code ?? error.message);
  process.exit(1);
}
