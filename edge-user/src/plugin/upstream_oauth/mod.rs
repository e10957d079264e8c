//! `upstream-oauth`: the edge is a client itself and sends its own token upstream, in place of whatever the caller sent.
//!
//! The caller's token is not looked at: that is `openid-connect`'s part, which runs before. Without a token the upstream
//! is not asked. What the upstream refuses is forgotten; whether the request is then sent once more, which is beyond
//! Kong, decides `proxy::again`.

mod settings;
mod source;
mod token;

use std::sync::Arc;
use std::time::Duration;

use crate::config::reader::Reader;
use crate::http::head::{Head, Known, Owner};
use crate::plugin::fields::is_same;
use crate::plugin::{Access, Answer, AnswerBody, Place, PluginEnv, Request};
use crate::reason::Reason;
use crate::token::Now;
use source::Source;
pub use source::Store;
pub use token::{Unissued, UpstreamToken};

/// As in the configuration.
pub const NAME: &str = "upstream-oauth";
/// Kong's: after `openid-connect` and `request-transformer`, whose word on the header it overrules.
pub const PRIORITY: u32 = 760;

/// One configured instance.
pub struct UpstreamOauth {
    source: Source,
    header: Header,
    /// `purge_token_on_upstream_status_codes`
    purges_on: Box<[u16]>,
    /// `retry_on_purge`
    retries: bool,
    failure: FailureAnswer,
}

/// `upstream_access_token_header_name`
enum Header {
    Authorization,
    Named(Box<str>),
}

/// `idp_error_response_…`
struct FailureAnswer {
    status: u16,
    content_type: Box<str>,
    body: Box<str>,
}

impl UpstreamOauth {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, place, env)
    }

    /// Lower-case names of the fields that only the edge may write.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        match &self.header {
            Header::Authorization => Vec::new(),
            Header::Named(name) => vec![name.to_ascii_lowercase().into()],
        }
    }

    /// The access phase.
    pub async fn access<'a>(self: &'a Arc<Self>, request: &mut Request<'_>) -> Access<'a> {
        // Anew: a body that another plugin collected may have been long in coming.
        let token = self.source.token(Now::read(), request.key_wait, &mut request.notes.waited).await;
        let Some(token) = token else { return Access::Answer(self.failure.answer()) };
        let sent = Sent { by: Arc::clone(self), token };
        sent.write(request.head);
        request.notes.sent = Some(sent);
        Access::Continue
    }
}

impl FailureAnswer {
    fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            reason: Reason::UpstreamTokenFailed,
            body: AnswerBody::Raw(self.body.as_bytes().into(), Some(&self.content_type)),
            fields: Vec::new(),
        }
    }
}

/// The token that a request goes upstream with.
pub struct Sent {
    by: Arc<UpstreamOauth>,
    token: Arc<UpstreamToken>,
}

impl Sent {
    /// Whether an upstream that answers so does not take the token.
    pub fn is_refused_by(&self, status: u16) -> bool {
        self.by.purges_on.contains(&status)
    }

    /// Whether a request that may be repeated is to be sent once more with another token.
    pub fn wants_another(&self) -> bool {
        self.by.retries
    }

    /// Forgets the token, unless another stands in its place by now. Whether another may be had.
    pub fn purge(&self) -> bool {
        self.by.source.purge(&self.token)
    }

    /// Another token in place of one that was purged; nothing where there is no other, or not in this time. What the wait
    /// was is added to `waited`.
    pub async fn another(&self, limit: Duration, waited: &mut Option<Duration>) -> Option<Self> {
        let token = self.by.source.fetch(limit, waited).await?;
        (token.value() != self.token.value()).then(|| Self { by: Arc::clone(&self.by), token })
    }

    /// Puts the token where it belongs, in place of all that stands there in any spelling (T43).
    pub fn write(&self, head: &mut Head) {
        let value = self.token.value().as_bytes();
        match &self.by.header {
            Header::Authorization => head.set_known(Known::Authorization, value),
            Header::Named(name) => {
                head.retain(|field| !is_same(field.name, name.as_bytes()));
                head.push(Owner::Edge, name.as_bytes(), value);
            }
        }
    }
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
