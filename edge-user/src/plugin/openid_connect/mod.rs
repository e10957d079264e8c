//! `openid-connect` for APIs: finds the credential, has its token judged, asks of the facts what the route requires,
//! tells whom they stand for, and sets what upstream and client get to see.
//!
//! Steps and answers follow Kong's documented algorithm; where a security property differs, its default is the
//! property's and an explicit setting is Kong's.

mod alike;
mod challenge;
mod consumer;
mod credential;
mod demand;
mod flows;
mod headers;
mod inert;
mod possession;
pub mod refusal;
mod remote;
mod rules;
mod settings;
mod sources;

use crate::config::reader::Reader;
use crate::oauth::tokens::Tokens;
use crate::plugin::arguments::Body;
use crate::plugin::{Access, Place, PluginEnv, Refusal, Request};
use crate::reason::Reason;
use crate::token::claims::Facts;
use crate::token::introspection::Extras;
use crate::token::jws::{Shape, shape};
use crate::token::{Ask, Judgement, Progress, Refused, Validator, Verified};
use crate::trace::{Check, Observer};
pub use alike::Alike;
use challenge::Answers;
pub(in crate::plugin) use challenge::Challenge;
use consumer::Mapping;
pub use consumer::caller_text;
use credential::{ACCESS_TOKEN, Places, Schemes, Sent};
pub(in crate::plugin) use credential::{Scheme, is_b64token};
pub use demand::Showing;
use flows::Flows;
use headers::{Headers, Part, Parts};
use possession::{Possession, Shown, Unproven};
use refusal::Detail;
use remote::Along;
use rules::Rules;
use sources::Sources;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// As in the configuration.
pub const NAME: &str = "openid-connect";
/// Kong's.
pub const PRIORITY: u32 = 1050;

/// One configured instance.
pub struct OpenidConnect {
    /// As configured.
    issuer: Box<str>,
    run_on_preflight: bool,
    /// Whether requests may bring tokens at all: some routes take other credentials alone.
    takes_tokens: bool,
    places: Places,
    schemes: Schemes,
    /// What of a request goes along when its token is asked about.
    along: Along,
    validator: Arc<Validator>,
    flows: Flows,
    possession: Possession,
    rules: Rules,
    mapping: Mapping,
    headers: Headers,
    answers: Answers,
}

/// A verified token, and the credential it came as.
struct Admitted<'p> {
    facts: Verified,
    scheme: Scheme,
    place: credential::Place<'p>,
    /// The names of the credential's arguments, where it stands in some.
    arguments: Cow<'p, [&'p str]>,
    /// Whether it is spelled `Authorization: Bearer <token>`.
    is_canonical: bool,
    /// What the edge fetched for it: the token that the facts are of, and that the upstream gets.
    fetched: Option<Arc<Tokens>>,
}

/// A verified ID token.
struct IdToken {
    token: Box<[u8]>,
    facts: Verified,
}

/// Why a request does not pass as the caller it claims to be.
struct Denied {
    status: u16,
    reason: Reason,
    retry_after_secs: Option<u32>,
    scheme: Scheme,
    /// For the detail of a log line; never written itself.
    token: Box<[u8]>,
    /// What is wrong beside the token, or with what was fetched for it.
    fault: Option<String>,
    /// Whether the client made the token; the issuer's own failings prove nothing of its clients.
    is_clients: bool,
}

impl Denied {
    fn new(status: u16, reason: Reason) -> Self {
        let token = Box::default();
        Self { status, reason, retry_after_secs: None, scheme: Scheme::Bearer, token, fault: None, is_clients: true }
    }

    fn of_token(refused: Refused, scheme: Scheme, token: &[u8]) -> Self {
        let Refused { reason, retry_after_secs, fault } = refused;
        let status = challenge::status(reason);
        let fault = fault.map(|fault| format!("introspection: {fault}"));
        Self { retry_after_secs, scheme, token: token.into(), fault, ..Self::new(status, reason) }
    }

    /// Whether something was judged and found wrong, rather than not judged at all.
    fn is_verdict(&self) -> bool {
        self.retry_after_secs.is_none()
    }
}

impl OpenidConnect {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, place, env)
    }

    /// Lower-case names of the fields that only the edge may write.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        self.headers.owned_names().into_iter().chain(self.certificate_name()).collect()
    }

    /// Lower-case names of the fields, besides `Authorization`, in which clients send credentials. Where one is owned
    /// too, it is theirs until it was read.
    pub fn credential_names(&self) -> Vec<Box<str>> {
        let names = self.places.field_names().into_iter().chain(self.flows.field_names());
        names.map(|name| name.to_ascii_lowercase().into()).collect()
    }

    /// The lower-case name of the field in which a proxy in front shows a client's certificate.
    pub fn certificate_name(&self) -> Option<Box<str>> {
        self.possession.certificate_header().map(|name| name.to_ascii_lowercase().into())
    }

    /// The issuer as configured.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The validator: what the kernel's eligibility rules compare.
    pub fn validator(&self) -> &Validator {
        &self.validator
    }

    /// How long a token passes after its end.
    pub fn leeway(&self) -> Duration {
        self.validator.settings().leeway
    }

    /// The access phase. A request whose issuer is being asked gives the worker back and is judged again.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        if !self.run_on_preflight && request.head.method() == b"OPTIONS" {
            return Access::Continue;
        }
        if self.places.reads_body() || self.along.reads_body() || self.flows.reads_body() {
            Body::collect(request).await;
        }
        match self.admit(request).await {
            Ok(()) => Access::Continue,
            Err(denied) => self.turn_away(request, denied),
        }
    }

    /// Everything up to the head that goes upstream.
    async fn admit(&self, request: &mut Request<'_>) -> Result<(), Denied> {
        let admitted = self.judged(request).await?;
        if admitted.facts.is_bound() || self.possession.demands_proof() || admitted.scheme == Scheme::Dpop {
            self.prove(request, &admitted)?;
        }
        let denied = |request: &Request<'_>, admitted: &Admitted<'_>, reason: Reason| {
            Denied::of_token(reason.into(), admitted.scheme, &self.token(request, admitted))
        };
        if let Err(reason) = self.rules.check(&admitted.facts, request.head, request.now, request.observer) {
            // Whom a refusal concerns is known all the same (S1): the claims hold, whatever the route thinks of them.
            let sources = Sources { facts: &admitted.facts, id_token: None, user_info: None };
            request.notes.caller = self.mapping.identify(&sources, request.consumers, Observer::default()).0;
            return Err(denied(request, &admitted, reason));
        }
        let id_token = self.id_token(request, &admitted).await?;
        let user_info = self.user_info(request, &admitted).await?;
        let sources = Sources {
            facts: &admitted.facts,
            id_token: id_token.as_ref().map(|id_token| &*id_token.facts),
            user_info: user_info.as_ref().and_then(|named| named.claims.as_ref()),
        };
        let (mut caller, known) = self.mapping.identify(&sources, request.consumers, request.observer);
        caller.facts = Some(admitted.facts.clone());
        caller.expires_unix_ms = self.validator.expiry_ms(&admitted.facts);
        request.notes.caller = caller;
        known.map_err(|reason| denied(request, &admitted, reason))?;
        let exchanged = match &self.flows.legacy {
            Some(legacy) => Some(legacy.run(request, &self.token(request, &admitted)).await?),
            None => None,
        };
        let facts: &Facts = &admitted.facts;
        let introspected = self.along.introspection().map(|_| facts);
        let token = match exchanged.as_ref().or(admitted.fetched.as_ref()) {
            Some(tokens) => Some(tokens.access_token.as_bytes().into()),
            None if self.headers.needs_token(admitted.is_canonical) => Some(self.token(request, &admitted)),
            None => None,
        };
        let jwk = if self.headers.wants(Part::AccessTokenJwk) { self.validator.key_of(&admitted.facts) } else { None };
        let id_token_jwk = self.flows.id_tokens.as_ref().zip(id_token.as_ref());
        let id_token_jwk = id_token_jwk.and_then(|(flow, id_token)| flow.validator().key_of(&id_token.facts));
        let answer = user_info.as_ref().map(|named| &named.answer);
        let parts = Parts {
            access_token: token.as_deref(),
            access_token_jwk: jwk.as_deref(),
            introspection: introspected.and_then(Facts::introspection_json),
            introspection_jwt: introspected.and_then(Facts::introspection_jwt).map(str::as_bytes),
            id_token: id_token.as_ref().map(|id_token| &*id_token.token),
            id_token_jwk: id_token_jwk.as_deref(),
            refresh_token: admitted.fetched.as_ref().and_then(|it| it.refresh_token.as_ref()).map(|it| it.as_bytes()),
            user_info: answer.and_then(|answer| std::str::from_utf8(&answer.json).ok()),
            user_info_jwt: answer.and_then(|answer| answer.jwt.as_ref()).map(|jwt| jwt.as_bytes()),
            ..Parts::of(sources)
        };
        self.rewrite(request, &admitted, &parts);
        Ok(())
    }

    /// Finds the credential and has its token judged, waiting where somebody has to be asked.
    async fn judged(&self, request: &mut Request<'_>) -> Result<Admitted<'_>, Denied> {
        if let Some(exchange) = &self.flows.exchange
            && let Some(admitted) = self.exchanged(request, exchange).await?
        {
            request.observer.note(Check::Grant, true, || "exchanged by the issuer".to_owned());
            return Ok(admitted);
        }
        let extras = self.along.of(&Sent::of(request));
        let mut progress = Progress::First;
        loop {
            let wait = {
                let found = match self.find(&Sent::of(request)) {
                    Ok(found) => found,
                    Err((401, Reason::HeaderMissing)) if self.flows.grants.is_some() => {
                        return self.granted(request).await;
                    }
                    Err((status, reason)) => return Err(Denied::new(status, reason)),
                };
                let (scheme, place, is_canonical) = (found.scheme, found.place, found.is_canonical);
                let (source, observer) = (request.client, request.observer);
                observer.note(Check::Credential, true, || credential::found(scheme, &place));
                let ask = Ask { token: &found.token, now: request.now, source, extras: &extras, observer };
                match self.validator.judge(request.cache, ask, progress) {
                    Judgement::Verified(facts) => {
                        let arguments = its_argument();
                        return Ok(Admitted { facts, scheme, place, arguments, is_canonical, fetched: None });
                    }
                    Judgement::Refused(refused) => return Err(Denied::of_token(refused, scheme, &found.token)),
                    Judgement::Wait(wait) => wait,
                }
            };
            progress = request.wait(wait).await;
        }
    }

    /// The token of a request, on a route that takes tokens.
    fn find<'a>(&self, sent: &Sent<'a>) -> Result<credential::Found<'a, '_>, credential::Refused> {
        if !self.takes_tokens {
            return Err((401, Reason::HeaderMissing));
        }
        self.places.find(sent, self.schemes)
    }

    /// The token that the one of the request is exchanged for; nothing where it is judged as it is.
    async fn exchanged(
        &self,
        request: &mut Request<'_>,
        exchange: &flows::Exchange,
    ) -> Result<Option<Admitted<'_>>, Denied> {
        let sent = Sent::of(request);
        let Ok(found) = self.find(&sent) else { return Ok(None) };
        let (scheme, place) = (found.scheme, found.place);
        request.observer.note(Check::Credential, true, || credential::found(scheme, &place));
        let token: Box<[u8]> = found.token.as_ref().into();
        let extras = self.along.with(&sent, exchange.endpoint().into());
        let is_id_token = |facts: &Facts| self.rules.is_id_token(facts);
        let Some(fetched) = exchange.run(request, &token, extras, is_id_token).await? else { return Ok(None) };
        let judged = self.judge_fetched(request, &self.validator, &fetched.tokens).await;
        if judged.as_ref().is_err_and(Denied::is_verdict) {
            exchange.distrust(&fetched, request.now);
        }
        let facts = judged?;
        let (arguments, fetched) = (its_argument(), Some(fetched.tokens));
        Ok(Some(Admitted { facts, scheme, place, arguments, is_canonical: false, fetched }))
    }

    /// Fetches the token that another credential stands for.
    async fn granted(&self, request: &mut Request<'_>) -> Result<Admitted<'_>, Denied> {
        let missing = || Denied::new(401, Reason::HeaderMissing);
        let grants = self.flows.grants.as_ref().ok_or_else(missing)?;
        let sent = Sent::of(request);
        let presented = grants.find(&sent).map_err(|(status, reason)| Denied::new(status, reason))?;
        let presented = presented.ok_or_else(missing)?;
        let extras = self.along.with(&sent, grants.endpoint().into());
        let validator = grants.validator(presented.kind()).unwrap_or(&self.validator);
        let (grant, place, arguments) = presented.into_parts();
        let fetched = grants.fetch(request, grant, extras).await?;
        let judged = self.judge_fetched(request, validator, &fetched.tokens).await;
        if judged.as_ref().is_err_and(Denied::is_verdict) {
            grants.distrust(&fetched, request.now);
        }
        let facts = judged?;
        let (arguments, fetched) = (Cow::Owned(arguments), Some(fetched.tokens));
        Ok(Admitted { facts, scheme: Scheme::Bearer, place, arguments, is_canonical: false, fetched })
    }

    /// Judges a token that the issuer gave out just now. An opaque one that nobody can be asked about is what the issuer
    /// says it is.
    async fn judge_fetched(
        &self,
        request: &mut Request<'_>,
        validator: &Arc<Validator>,
        tokens: &Tokens,
    ) -> Result<Verified, Denied> {
        let token = tokens.access_token.as_bytes();
        if shape(token) == Shape::Opaque && validator.remote().is_none() {
            return Ok(Validator::vouch(tokens.ends_ms(), tokens.scope.as_deref()));
        }
        let extras = self.along.of(&Sent::of(request));
        let judged = judge(validator, request, token, &extras, request.observer).await;
        judged.map_err(|refused| Denied { is_clients: false, ..Denied::of_token(refused, Scheme::Bearer, token) })
    }

    /// Whether the sender holds what the token is bound to (RFC 8705, RFC 9449).
    fn prove(&self, request: &mut Request<'_>, admitted: &Admitted<'_>) -> Result<(), Denied> {
        let token = self.token(request, admitted);
        let shown = Shown {
            scheme: admitted.scheme,
            token: &token,
            facts: &admitted.facts,
            head: request.head,
            https: request.https,
            path: request.path,
            connection: request.connection,
            certificates: &request.notes.certificates,
            now: request.now,
        };
        let (nonce, unproven) = match self.possession.check(&shown) {
            Ok(nonce) => (nonce, None),
            Err(Unproven { reason, fault, nonce }) => (nonce, Some((reason, fault))),
        };
        if let Some(nonce) = nonce {
            request.notes.reply("DPoP-Nonce", nonce);
        }
        let observer = request.observer;
        observer.note(Check::ProofOfPossession, unproven.is_none(), || possession::found(&admitted.facts, &unproven));
        let Some((reason, fault)) = unproven else { return Ok(()) };
        let fault = fault.map(|fault| fault.to_string());
        Err(Denied { fault, ..Denied::of_token(reason.into(), admitted.scheme, &token) })
    }

    /// The ID token beside the access token, verified; where it came with the request it goes no further.
    async fn id_token(&self, request: &mut Request<'_>, admitted: &Admitted<'_>) -> Result<Option<IdToken>, Denied> {
        let Some(flow) = &self.flows.id_tokens else { return Ok(None) };
        let sent = flow.find(&Sent::of(request))?;
        if self.headers.hide_credentials() {
            flow.remove(request);
        }
        let fetched = admitted.fetched.as_ref().and_then(|tokens| tokens.id_token.as_ref());
        // What the issuer gave in one answer belongs together.
        let (token, belongs): (Box<[u8]>, bool) = match (fetched, sent) {
            (Some(token), _) => (token.as_bytes().into(), true),
            (None, Some(token)) => (token, false),
            (None, None) => return Ok(None),
        };
        let facts = flow.judge(request, &token).await?;
        if !belongs {
            flow.fits(&facts, &admitted.facts)?;
        }
        Ok(Some(IdToken { token, facts }))
    }

    /// What the issuer says of the user, where somebody wants to know.
    async fn user_info(
        &self,
        request: &mut Request<'_>,
        admitted: &Admitted<'_>,
    ) -> Result<Option<flows::Named>, Denied> {
        let Some(users) = &self.flows.users else { return Ok(None) };
        if let Some(answer) = self.along.user_info_of(&admitted.facts) {
            return users.name(Arc::new(answer), &admitted.facts).map(Some);
        }
        let extras = self.along.with(&Sent::of(request), users.endpoint().into());
        let token = self.token(request, admitted);
        users.fetch(request, &token, &admitted.facts, extras).await.map(Some)
    }

    /// The token that the facts are of: what was fetched, or what came, found again rather than carried along.
    fn token(&self, request: &Request<'_>, admitted: &Admitted<'_>) -> Box<[u8]> {
        match &admitted.fetched {
            Some(tokens) => tokens.access_token.as_bytes().into(),
            None => self.sent_token(request),
        }
    }

    fn sent_token(&self, request: &Request<'_>) -> Box<[u8]> {
        self.find(&Sent::of(request)).map(|found| found.token.as_ref().into()).unwrap_or_default()
    }

    /// Sets what upstream and client read.
    fn rewrite(&self, request: &mut Request<'_>, admitted: &Admitted<'_>, parts: &Parts<'_>) {
        if self.headers.hide_credentials() && !admitted.place.is_authorization() {
            credential::remove(request, admitted.place, &admitted.arguments);
        }
        self.headers.apply_upstream(request.head, parts);
        self.headers.apply_downstream(request.notes, parts);
        let replay = admitted.fetched.iter().flat_map(|tokens| &tokens.replay);
        replay.for_each(|(name, value)| request.notes.reply(String::from(&**name), &**value));
        self.possession.clean(request.head);
        consumer::write(request.head, &request.notes.caller);
    }

    /// What becomes of a request without a caller: it passes as the anonymous consumer, where there is one.
    fn turn_away<'a>(&'a self, request: &mut Request<'_>, denied: Denied) -> Access<'a> {
        let Denied { status, reason, retry_after_secs, scheme, token, fault, is_clients } = denied;
        request.observer.refused(reason);
        if let Some(caller) = self.mapping.anonymous(status, reason, request.consumers) {
            request.observer.note(Check::Anonymous, true, || consumer::named(&caller));
            if self.headers.hide_credentials() {
                self.places.remove(request);
                self.flows.remove_credentials(request);
            }
            self.headers.apply_anonymous(request.head, request.notes);
            self.possession.clean(request.head);
            consumer::write(request.head, &caller);
            request.notes.caller = caller;
            return Access::Continue;
        }
        let status = self.mapping.status(status, reason);
        let answer = self.answers.answer(status, reason, scheme, request.host);
        Access::Refuse(Refusal {
            plugin: NAME,
            status,
            reason,
            challenges: answer.challenges,
            message: answer.message,
            description: answer.description,
            retry_after: retry_after_secs,
            issuer: Some(&self.issuer),
            bad_token: if is_clients { refusal::bad_token(reason, &token) } else { None },
            detail: Detail::new(&self.validator, token, request.now, fault),
        })
    }
}

/// The name under which a token stands in a query or body.
fn its_argument<'p>() -> Cow<'p, [&'p str]> {
    Cow::Borrowed(&[ACCESS_TOKEN])
}

/// Judges a token that does not stand in the request, waiting where somebody has to be asked.
async fn judge(
    validator: &Arc<Validator>,
    request: &mut Request<'_>,
    token: &[u8],
    extras: &Extras,
    observer: Observer<'_>,
) -> Result<Verified, Refused> {
    let mut progress = Progress::First;
    loop {
        let ask = Ask { token, now: request.now, source: request.client, extras, observer };
        let wait = match validator.judge(request.cache, ask, progress) {
            Judgement::Verified(facts) => return Ok(facts),
            Judgement::Refused(refused) => return Err(refused),
            Judgement::Wait(wait) => wait,
        };
        progress = request.wait(wait).await;
    }
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
