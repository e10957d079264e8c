// A certified issuer on loopback: client_credentials with JWT access tokens. The last segment of the requested
// `resource` names the signing algorithm. `POST /-/rotate` publishes new keys before the old ones and signs with
// them; `POST /-/retire` drops the old ones. Prints `ready <issuer>` on standard output.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';
import { exportJWK, generateKeyPair } from 'jose';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];
const AUDIENCE = 'https://api.test';

let generation = 0;
async function freshKeys() {
  generation += 1;
  return Promise.all(ALGORITHMS.map(async (alg) => {
    const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
    return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `${alg}-${generation}` };
  }));
}

function provider(issuer, keys) {
  return new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'app', client_secret: 'app-secret-of-the-tests', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], token_endpoint_auth_method: 'client_secret_post',
    }],
    scopes: ['orders:read'],
    enabledJWA: { idTokenSigningAlgValues: ALGORITHMS },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({
          scope: 'orders:read', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 600,
          jwt: { sign: { alg: resource.split('/').pop() } },
        }),
      },
    },
  });
}

let keys = await freshKeys();
let handle;
const server = createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/-/rotate') {
    keys = [...(await freshKeys()), ...keys];
  } else if (request.method === 'POST' && request.url === '/-/retire') {
    keys = keys.slice(0, ALGORITHMS.length);
  } else {
    handle(request, response);
    return;
  }
  handle = provider(issuer, keys).callback();
  response.end(`${generation}\n`);
});
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const issuer = `http://127.0.0.1:${server.address().port}`;
handle = provider(issuer, keys).callback();
console.log(`ready ${issuer}`);
