// One process of npm `oidc-provider` (a certified OpenID provider), in memory, on loopback. Its settings are one JSON
// object in OIDC, so that no secret shows among the process' arguments.
//   mode "vendor": the external vendor's OAuth server. Confidential client, rotating refresh tokens, short access tokens
//   mode "sso":    the platform's identity provider. Claims email, name and groups, logout by the client
import Provider from 'oidc-provider';

const { port, mode, accessTokenTtl, redirectUris, clientId, clientSecret, scopes, people } = JSON.parse(process.env.OIDC);
const issuer = `http://127.0.0.1:${port}`;
const clients = [{
  client_id: clientId, client_secret: clientSecret, token_endpoint_auth_method: 'client_secret_basic',
  grant_types: ['authorization_code', 'refresh_token', 'client_credentials'], response_types: ['code'],
  redirect_uris: redirectUris, post_logout_redirect_uris: redirectUris,
}, {
  client_id: 'public-spa', token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], redirect_uris: redirectUris,
}];
const provider = new Provider(issuer, {
  clients,
  pkce: { required: () => true },
  scopes: ['openid', 'offline_access', ...scopes],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
  conformIdTokenClaims: false, // the claims are in the ID token, too, as Authentik has them
  features: {
    devInteractions: { enabled: true }, // its own login and consent pages: any login name, any password
    revocation: { enabled: true }, introspection: { enabled: true }, clientCredentials: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  rotateRefreshToken: true,
  clockTolerance: 0, // the default of 15 s would keep short-lived tokens alive
  issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token')
    && (mode === 'vendor' || code.scopes.has('offline_access')),
  ttl: {
    AccessToken: accessTokenTtl, AuthorizationCode: 60, IdToken: 3600, RefreshToken: 3600,
    Session: 3600, Interaction: 600, Grant: 3600, ClientCredentials: 60,
  },
  cookies: { keys: ['sandbox'] },
  findAccount: async (ctx, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, ...(people[id] ?? { email: `${id}@example.test`, email_verified: true, name: id, groups: [] }) }),
  }),
});
provider.listen(port, '127.0.0.1');
