// Who may ask the issuer: one client for every way of authenticating (RFC 6749, 7523, 8705), and its own keys.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { exportJWK, generateKeyPair } from 'jose';

export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];

export async function keySet(generation) {
  return Promise.all(ALGORITHMS.map(async (alg) => {
    const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 });
    return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `${alg}-${generation}` };
  }));
}

/// The private keys of `key-jwt`: the issuer knows their public halves alone.
export const clientKeys = await keySet('client');
const publicKeys = clientKeys.map(({ d, p, q, dp, dq, qi, ...jwk }) => jwk);

const selfSigned = new X509Certificate(readFileSync(`${process.env.ISSUER_TLS}/self-signed.crt`));
const selfSignedKey = { ...selfSigned.publicKey.export({ format: 'jwk' }), x5c: [selfSigned.raw.toString('base64')] };

const GRANTS = ['client_credentials', 'password', 'refresh_token', 'urn:ietf:params:oauth:grant-type:token-exchange'];
const client = (id, method, more) => ({
  client_id: id, token_endpoint_auth_method: method, grant_types: GRANTS, redirect_uris: [], response_types: [],
  ...more,
});

export const clients = [
  client('app', 'client_secret_post', { client_secret: 'app-secret-of-the-tests' }),
  // Every character here means something else where it is not form-encoded (RFC 6749, 2.3.1).
  client('gate way:1', 'client_secret_basic', { client_secret: 's:e%c+r e/t' }),
  client('secret-jwt', 'client_secret_jwt', { client_secret: 'a-secret-of-more-than-thirty-two-bytes' }),
  client('key-jwt', 'private_key_jwt', { jwks: { keys: publicKeys }, userinfo_signed_response_alg: 'ES256' }),
  client('mtls', 'tls_client_auth', {
    tls_client_auth_subject_dn: 'CN=edge gateway', tls_client_certificate_bound_access_tokens: true,
  }),
  client('self-signed', 'self_signed_tls_client_auth', { jwks: { keys: [selfSignedKey] } }),
  client('public', 'none', { grant_types: ['password', 'refresh_token'] }),
];
