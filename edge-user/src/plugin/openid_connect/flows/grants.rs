//! Grants: a client sends a refresh token, a user's name and password, or its own id and secret, and the edge asks for
//! the access token that the upstream gets.

use super::super::credential::named::{PairKind, ParamTypes};
use super::super::credential::{Place, Refused, Sent};
use super::super::{Denied, Request};
use super::{Verdicts, fetch, key};
use crate::crypto::FieldDigest;
use crate::oauth::fleet::{self, EntryName, Fleet};
use crate::oauth::kept::{Brought, Keep, Kept};
use crate::oauth::token_endpoint::{Ask, Grant, GrantKind, TokenEndpoint, Wanted};
use crate::oauth::tokens::{GrantError, Tokens};
use crate::reason::Reason;
use crate::token::introspection::Extras;
use crate::token::{Now, Validator};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How much longer tokens that are refused are kept: the issuer is not asked by each request.
const DISTRUSTED: Duration = Duration::from_secs(5);

const VERDICTS: Verdicts = Verdicts { refused: Reason::GrantRefused, failed: Reason::GrantFailed };

/// Which credentials stand for tokens, and where tokens come from.
pub(in super::super) struct Grants {
    pub(super) refresh: Option<(Box<str>, ParamTypes)>,
    pub(super) password: Option<ParamTypes>,
    pub(super) client: Option<ParamTypes>,
    pub(super) tokens: Source,
    /// `ignore_signature`: grants whose tokens are taken as the issuer gave them, and who judges those.
    pub(super) unsigned: Option<(Box<[GrantKind]>, Arc<Validator>)>,
}

/// One token endpoint, and what is kept of its answers.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) endpoint: Arc<TokenEndpoint>,
    pub(super) kept: Arc<Kept<Tokens, GrantError>>,
    pub(super) keep: Keep,
    /// `cache_tokens_salt`
    pub(super) salt: Box<str>,
    pub(super) fleet: Option<Fleet>,
}

/// Tokens that were fetched, and for which question.
pub(in super::super) struct Fetched {
    /// The tokens.
    pub(in super::super) tokens: Arc<Tokens>,
    question: [u8; 32],
}

/// A credential that stands for a token.
pub(in super::super) struct Presented<'p> {
    grant: Grant,
    /// Where it stands.
    pub(in super::super) place: Place<'p>,
    /// The names of its arguments, where it stands in some.
    pub(in super::super) arguments: Vec<&'p str>,
}

impl Presented<'_> {
    /// What it is.
    pub(in super::super) fn kind(&self) -> GrantKind {
        self.grant.kind()
    }
}

impl Grants {
    /// Whether some credential may stand in the body.
    pub(super) fn reads_body(&self) -> bool {
        let refresh = self.refresh.as_ref().map(|(_, types)| *types);
        [refresh, self.password, self.client].into_iter().flatten().any(ParamTypes::reads_body)
    }

    /// The name of the field that refresh tokens may stand in.
    pub(super) fn field_name(&self) -> Option<&str> {
        self.refresh.as_ref().filter(|(_, types)| types.reads_field()).map(|(name, _)| &**name)
    }

    /// Takes every such credential out of what goes upstream; `Authorization` is the caller's to remove.
    pub(super) fn remove(&self, request: &mut Request<'_>) {
        if let Some((name, types)) = &self.refresh {
            types.remove_named(name, request);
        }
        for (kind, types) in [(PairKind::Password, self.password), (PairKind::Client, self.client)] {
            if let Some(types) = types {
                types.remove_pair(kind, request);
            }
        }
    }

    /// The credential of a request, in Kong's order: refresh token, password, client.
    pub(in super::super) fn find(&self, sent: &Sent<'_>) -> Result<Option<Presented<'_>>, Refused> {
        let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        if let Some((name, types)) = &self.refresh
            && let Some(found) = types.named(name, sent)?
        {
            let grant = Grant::RefreshToken(secret(found.value.expose()));
            return Ok(Some(Presented { grant, place: found.place, arguments: vec![name] }));
        }
        for (kind, types) in [(PairKind::Password, self.password), (PairKind::Client, self.client)] {
            let Some(types) = types else { continue };
            let Some(pair) = types.pair(kind, sent)? else { continue };
            let (id, word) = (secret(pair.id.expose()), secret(pair.secret.expose()));
            let grant = match kind {
                PairKind::Password => Grant::Password { username: id, password: word },
                PairKind::Client => Grant::ClientCredentials { id, secret: word },
            };
            return Ok(Some(Presented { grant, place: pair.place, arguments: kind.arguments().into() }));
        }
        Ok(None)
    }

    /// The tokens it stands for.
    pub(in super::super) async fn fetch(
        &self,
        request: &mut Request<'_>,
        grant: Grant,
        extras: Extras,
    ) -> Result<Fetched, Denied> {
        self.tokens.fetch(request, grant.into(), extras, VERDICTS).await
    }

    /// Has tokens that are refused asked for anew.
    pub(in super::super) fn distrust(&self, fetched: &Fetched, now: Now) {
        self.tokens.distrust(fetched, now);
    }

    /// Who judges the tokens of a grant, where that is not who judges all others.
    pub(in super::super) fn validator(&self, kind: GrantKind) -> Option<&Arc<Validator>> {
        self.unsigned.as_ref().filter(|(kinds, _)| kinds.contains(&kind)).map(|(_, validator)| validator)
    }

    /// What of a request goes along.
    pub(in super::super) fn endpoint(&self) -> &TokenEndpoint {
        &self.tokens.endpoint
    }
}

impl<'p> Presented<'p> {
    /// The grant, and where it stood.
    pub(in super::super) fn into_parts(self) -> (Grant, Place<'p>, Vec<&'p str>) {
        (self.grant, self.place, self.arguments)
    }
}

/// Under which the fleet keeps the tokens: who keeps them for other times gets none that is older than those allow.
fn entry_name(fleet: &Fleet, question: &[u8], keep: Keep) -> EntryName {
    fleet.name(fleet::Kind::Tokens, &[question, format!("{keep:?}").as_bytes()])
}

impl Source {
    /// The tokens that a question brings.
    pub(super) async fn fetch(
        &self,
        request: &mut Request<'_>,
        ask: Ask,
        extras: Extras,
        verdicts: Verdicts,
    ) -> Result<Fetched, Denied> {
        let question = self.question(&ask, &extras);
        let (endpoint, fleet, keep) = (Arc::clone(&self.endpoint), self.fleet.clone(), self.keep);
        let tokens = fetch(request, &self.kept, (&[&question], keep), verdicts, move || async move {
            match (&fleet, keep) {
                (Some(fleet), Keep::For(lifetimes)) => {
                    let name = entry_name(fleet, &question, keep);
                    endpoint.grant_shared(&ask, &extras, fleet, &name, lifetimes).await
                }
                _ => endpoint.grant(&ask, &extras).await.map(|tokens| {
                    let left = tokens.left;
                    Brought { value: tokens, left }
                }),
            }
        })
        .await?;
        Ok(Fetched { tokens, question })
    }

    /// Has tokens that are refused end soon here, and at once for the fleet.
    pub(super) fn distrust(&self, fetched: &Fetched, now: Now) {
        let question: &[&[u8]] = &[&fetched.question];
        let news = self.kept.shorten(&key(&self.kept, question, self.keep), DISTRUSTED, now);
        if news && let (Some(fleet), Some(control)) = (self.fleet.clone(), self.kept.control()) {
            let name = entry_name(&fleet, &fetched.question, self.keep);
            control.spawn(async move { fleet.delete(&name).await });
        }
    }

    /// A hash over all that makes another question of it, the same on every node: scopes are in each of its parts.
    fn question(&self, ask: &Ask, extras: &Extras) -> [u8; 32] {
        let digest = FieldDigest::default().field(self.endpoint.id()).field(&*self.salt);
        let digest = digest.field(ask.grant.kind().word()).list(ask.grant.credentials().into_iter());
        let digest = [&ask.scopes, &ask.audience].into_iter().fold(digest, |digest, wanted| match wanted {
            Wanted::Configured => digest.field("configured"),
            Wanted::These(these) => digest.field("these").list(these.iter().map(|one| one.as_bytes())),
        });
        digest.field(extras.digest()).finish()
    }
}
