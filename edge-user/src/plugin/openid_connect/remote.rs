//! Introspection as the verdict engine asks it, and what of a request goes along with the question.

use super::credential::Sent;
use super::credential::named::ClientArg;
use crate::oauth::Introspection;
use crate::oauth::failure::{Failure, FailureKind};
use crate::oauth::token_endpoint::TokenEndpoint;
use crate::oauth::tokens::GrantError;
use crate::oauth::userinfo::{UserInfo, UserInfoEndpoint};
use crate::token::claims::Facts;
use crate::token::introspection::{Asking, Extras, Introspect, Said, Unanswered};
use std::sync::Arc;

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        let Failure { kind, retry_after_secs } = failure;
        Self { retry_after_secs, fault: kind.fault(), is_nobody: kind == FailureKind::NoEndpoint }
    }
}

impl Introspect for Introspection {
    fn id(&self) -> [u8; 32] {
        Introspection::id(self)
    }

    fn ask<'a>(&'a self, token: &'a [u8], extras: &'a Extras) -> Asking<'a> {
        Box::pin(async move { Introspection::ask(self, token, extras).await.map_err(Unanswered::from) })
    }
}

/// The method `userinfo`: a token is good if the issuer says whose it is.
impl Introspect for UserInfoEndpoint {
    fn id(&self) -> [u8; 32] {
        UserInfoEndpoint::id(self)
    }

    fn ask<'a>(&'a self, token: &'a [u8], extras: &'a Extras) -> Asking<'a> {
        Box::pin(async move {
            // Found by RFC 6750's alphabet, which is ASCII.
            let token = std::str::from_utf8(token).unwrap_or_default();
            match UserInfoEndpoint::ask(self, token, extras).await {
                Ok(info) => Ok(Said::Active { json: info.json.into(), jwt: info.jwt }),
                Err(GrantError::Refused(_)) => Ok(Said::Inactive),
                Err(GrantError::Failed(failure)) => Err(failure.into()),
            }
        })
    }
}

/// Names of fields and arguments of a request that go along to one endpoint.
pub(super) struct Wanted<'e> {
    headers: &'e [Box<str>],
    args: &'e [Box<str>],
    /// Fields that become arguments.
    header_args: &'e [Box<str>],
}

impl<'e> From<&'e TokenEndpoint> for Wanted<'e> {
    fn from(endpoint: &'e TokenEndpoint) -> Self {
        Self { headers: endpoint.client_headers(), args: endpoint.client_args(), header_args: &[] }
    }
}

impl<'e> From<&'e UserInfoEndpoint> for Wanted<'e> {
    fn from(endpoint: &'e UserInfoEndpoint) -> Self {
        Self { headers: endpoint.client_headers(), args: endpoint.client_args(), header_args: &[] }
    }
}

/// What of a request goes along when an issuer is asked.
pub(super) struct Along {
    arg: ClientArg,
    /// Our clients' ids; fewer than two leave no choice.
    ids: Box<[Box<str>]>,
    introspection: Option<Arc<Introspection>>,
    /// Of the method `userinfo`, where that is asked instead.
    user_info: Option<Arc<UserInfoEndpoint>>,
}

impl Along {
    /// The choice among these clients, and what introspection wants of a request.
    pub(super) fn new(arg: ClientArg, ids: Box<[Box<str>]>, introspection: Option<Arc<Introspection>>) -> Self {
        Self { arg, ids, introspection, user_info: None }
    }

    /// The same, where tokens are judged by what user info says.
    pub(super) fn by_user_info(arg: ClientArg, ids: Box<[Box<str>]>, user_info: Arc<UserInfoEndpoint>) -> Self {
        Self { arg, ids, introspection: None, user_info: Some(user_info) }
    }

    /// Who is asked about tokens, if anybody is.
    pub(super) fn introspection(&self) -> Option<&Introspection> {
        self.introspection.as_deref()
    }

    /// What user info said of a token that was judged by it.
    pub(super) fn user_info_of(&self, facts: &Facts) -> Option<UserInfo> {
        let json = self.user_info.as_ref().and_then(|_| facts.introspection_json())?;
        Some(UserInfo { json: json.as_bytes().into(), jwt: facts.introspection_jwt().map(Box::from) })
    }

    /// Whether the body has a say, and so must be collected first.
    pub(super) fn reads_body(&self) -> bool {
        let asked = self.introspection.as_ref().map(|asked| asked.client_args());
        let args = asked.or(self.user_info.as_ref().map(|asked| asked.client_args()));
        self.ids.len() > 1 || args.is_some_and(|args| !args.is_empty())
    }

    /// What goes along when the token of a request is asked about: nothing for most configurations, at no cost.
    pub(super) fn of(&self, sent: &Sent<'_>) -> Extras {
        if let Some(asked) = &self.user_info {
            return self.with(sent, (&**asked).into());
        }
        let Some(asked) = &self.introspection else { return Extras::default() };
        let (headers, args) = (asked.client_headers(), asked.client_args());
        self.with(sent, Wanted { headers, args, header_args: asked.client_header_args() })
    }

    /// What goes along to one endpoint.
    pub(super) fn with(&self, sent: &Sent<'_>, wanted: Wanted<'_>) -> Extras {
        let mut extras = Extras::default();
        if self.ids.len() > 1 {
            extras.client = self.arg.choose(sent, &self.ids);
        }
        let field = |name: &str| sent.text_of_field(name).map(|value| (name.to_owned(), value));
        extras.headers.extend(wanted.headers.iter().filter_map(|name| field(name)));
        let args = wanted.args.iter();
        extras.args.extend(args.filter_map(|name| Some((name.to_string(), sent.text_of_argument(name)?))));
        extras.args.extend(wanted.header_args.iter().filter_map(|name| field(name)));
        extras
    }
}
