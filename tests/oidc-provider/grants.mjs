// What access tokens are like, and two grants the library leaves to its users: the resource owner's password
// (RFC 6749, 4.3; every password is `<name>-password`) and token exchange (RFC 8693, 2).
import { errors } from 'oidc-provider';
import { decodeJwt } from 'jose';

const AUDIENCE = 'https://api.test';
const SCOPE = 'orders:read orders:write';

/// By the path of the resource: `/<algorithm or opaque>[/<seconds>]`.
export function resourceServer(resource, audience = AUDIENCE) {
  const [, kind, seconds] = new URL(resource).pathname.split('/');
  const format = kind === 'opaque'
    ? { accessTokenFormat: 'opaque' }
    : { accessTokenFormat: 'jwt', jwt: { sign: { alg: kind } } };
  return { scope: SCOPE, audience, accessTokenTTL: Number(seconds ?? 600), ...format };
}

async function issue(provider, ctx, subject, resource, server) {
  const { oidc: { client, params } } = ctx;
  const scopes = new Set((params.scope ?? '').split(' ').filter(Boolean));
  const grant = new provider.Grant({ accountId: subject, clientId: client.clientId });
  grant.addOIDCScope([...scopes].join(' '));
  const common = { accountId: subject, client, grantId: await grant.save(), gty: params.grant_type };
  const token = new provider.AccessToken({ ...common, scope: params.scope });
  if (server) {
    token.resourceServer = new provider.ResourceServer(resource, server);
    token.scope = [...scopes].filter((scope) => token.resourceServer.scopes.has(scope)).join(' ') || undefined;
  }
  ctx.oidc.entity('AccessToken', token);
  const accessToken = await token.save();
  const { expiration, tokenType, scope } = token;
  ctx.body = { access_token: accessToken, expires_in: expiration, token_type: tokenType, scope };
  if (scopes.has('offline_access')) {
    ctx.body.refresh_token = await new provider.RefreshToken({ ...common, resource, scope: params.scope }).save();
  }
  if (scopes.has('openid')) {
    const idToken = new provider.IdToken({ sub: subject }, { ctx });
    idToken.scope = 'openid';
    idToken.set('at_hash', accessToken);
    ctx.body.id_token = await idToken.issue({ use: 'idtoken' });
  }
}

export function registerGrants(provider, accounts) {
  const parameters = ['scope', 'resource', 'audience'];
  const server = ({ resource, audience }) => (
    resource || audience ? resourceServer(resource ?? 'https://api.test/RS256', audience) : undefined
  );
  provider.registerGrantType('password', async (ctx) => {
    const { params } = ctx.oidc;
    if (!accounts.includes(params.username) || params.password !== `${params.username}-password`) {
      throw new errors.InvalidGrant('the password is wrong');
    }
    await issue(provider, ctx, params.username, params.resource, server(params));
  }, [...parameters, 'username', 'password']);

  provider.registerGrantType('urn:ietf:params:oauth:grant-type:token-exchange', async (ctx) => {
    const { params } = ctx.oidc;
    if (params.subject_token_type !== 'urn:ietf:params:oauth:token-type:access_token') {
      throw new errors.InvalidRequest('the subject token is of another type');
    }
    const known = await provider.AccessToken.find(params.subject_token)
      ?? await provider.ClientCredentials.find(params.subject_token);
    let subject = known?.accountId ?? known?.clientId;
    try {
      // A party of tests: whose token it is matters, who signed it does not.
      subject ??= decodeJwt(params.subject_token).sub;
    } catch {
      throw new errors.InvalidRequest('the subject token is unknown');
    }
    await issue(provider, ctx, subject, params.resource, server(params));
    ctx.body.issued_token_type = params.subject_token_type;
  }, [...parameters, 'subject_token', 'subject_token_type', 'requested_token_type']);
}
