// A certified issuer on loopback, in clear text and, for clients with certificates, over TLS.
//
// The path of the requested `resource` says what an access token is: `https://api.test/RS256` a JWT signed by that
// algorithm, `https://api.test/opaque/5` an opaque token that lives 5 s (600 by default).
// `POST /-/rotate` publishes new keys before the old ones and signs with them; `POST /-/retire` drops the old ones.
// `GET /-/counts` says how often each path was asked for and each token introspected; `GET /-/client-keys` gives the
// private keys of the client `key-jwt`. Prints `ready <issuer> <the same over TLS>` on standard output.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import Provider from 'oidc-provider';
import { ALGORITHMS, clientKeys, clients, keySet } from './clients.mjs';
import { registerGrants, resourceServer } from './grants.mjs';

/// What clients and tokens are kept in: outlives a rotation, and forgets nothing.
const rows = new Map();
class Adapter {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload) { rows.set(this.key(id), payload); }
  async find(id) { return rows.get(this.key(id)); }
  async findByUid(uid) { return [...rows.values()].find((row) => row.uid === uid); }
  async findByUserCode() { return undefined; }
  async consume(id) { rows.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { rows.delete(this.key(id)); }
  async revokeByGrantId(id) {
    for (const [key, row] of rows) if (row.grantId === id) rows.delete(key);
  }
}

const ACCOUNTS = { alice: { email: 'alice@api.test', name: 'Alice' }, bob: { email: 'bob@api.test', name: 'Bob' } };
const counts = { paths: {}, introspected: {} };

async function count(ctx, next) {
  counts.paths[ctx.path] = (counts.paths[ctx.path] ?? 0) + 1;
  await next();
  if (ctx.oidc?.route === 'introspection' && ctx.oidc.params?.token) {
    const { token } = ctx.oidc.params;
    counts.introspected[token] = (counts.introspected[token] ?? 0) + 1;
  }
}

const lifetime = (_ctx, token) => token.resourceServer?.accessTokenTTL ?? 600;

function provider(issuer, secureIssuer, keys) {
  const secure = (path) => `${secureIssuer}${path}`;
  const provider = new Provider(issuer, {
    adapter: Adapter,
    jwks: { keys },
    clients,
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
      'self_signed_tls_client_auth', 'none',
    ],
    scopes: ['openid', 'offline_access', 'profile', 'email', 'orders:read', 'orders:write'],
    claims: { openid: ['sub'], email: ['email'], profile: ['name'] },
    findAccount: (_ctx, id) => ACCOUNTS[id] && { accountId: id, claims: () => ({ sub: id, ...ACCOUNTS[id] }) },
    enabledJWA: {
      idTokenSigningAlgValues: ALGORITHMS,
      introspectionSigningAlgValues: ALGORITHMS,
      userinfoSigningAlgValues: ALGORITHMS,
    },
    discovery: {
      mtls_endpoint_aliases: {
        token_endpoint: secure('/token'), introspection_endpoint: secure('/token/introspection'),
        revocation_endpoint: secure('/token/revocation'), userinfo_endpoint: secure('/me'),
      },
      introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    },
    ttl: { AccessToken: lifetime, ClientCredentials: lifetime, Grant: 3600, IdToken: 600, RefreshToken: 3600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      jwtIntrospection: { enabled: true },
      jwtUserinfo: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate: ({ socket }) => socket.getPeerX509Certificate?.(),
        certificateAuthorized: ({ socket }) => socket.authorized === true,
        certificateSubjectMatches: ({ socket }, _property, expected) => (
          socket.getPeerX509Certificate().subject === expected
        ),
      },
      resourceIndicators: { enabled: true, getResourceServerInfo: (_ctx, resource) => resourceServer(resource) },
    },
  });
  registerGrants(provider, Object.keys(ACCOUNTS));
  provider.use(count);
  return provider.callback();
}

let generation = 1;
let keys = await keySet(generation);
let handle;

const control = {
  'GET /-/counts': () => counts,
  'GET /-/client-keys': () => clientKeys,
  'POST /-/rotate': async () => {
    generation += 1;
    keys = [...(await keySet(generation)), ...keys];
    handle = provider(issuer, secureIssuer, keys);
    return generation;
  },
  'POST /-/retire': () => {
    keys = keys.slice(0, ALGORITHMS.length);
    handle = provider(issuer, secureIssuer, keys);
    return generation;
  },
};

async function answer(request, response) {
  const command = control[`${request.method} ${request.url}`];
  if (!command) return handle(request, response);
  return response.end(`${JSON.stringify(await command())}\n`);
}

async function listen(server) {
  await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
  return server.address().port;
}

const file = (name) => readFileSync(`${process.env.ISSUER_TLS}/${name}`);
const issuer = `http://127.0.0.1:${await listen(createServer(answer))}`;
const secureIssuer = `https://127.0.0.1:${await listen(createTlsServer({
  cert: file('server.crt'), key: file('server.key'), ca: file('root.crt'), requestCert: true, rejectUnauthorized: false,
}, answer))}`;
handle = provider(issuer, secureIssuer, keys);
console.log(`ready ${issuer} ${secureIssuer}`);
