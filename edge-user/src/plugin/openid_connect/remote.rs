//! Introspection as the verdict engine asks it, and what of a request goes along with the question.

use super::credential::Sent;
use super::credential::named::ClientArg;
use crate::oauth::Introspection;
use crate::token::introspection::{Asking, Extras, Introspect, Unanswered};
use std::sync::Arc;

impl Introspect for Introspection {
    fn id(&self) -> [u8; 32] {
        Introspection::id(self)
    }

    fn ask<'a>(&'a self, token: &'a [u8], extras: &'a Extras) -> Asking<'a> {
        Box::pin(async move {
            let said = Introspection::ask(self, token, extras).await;
            said.map_err(|failure| Unanswered { retry_after_secs: failure.retry_after_secs })
        })
    }
}

/// What of a request goes along when its token is asked about.
pub(super) struct Along {
    arg: ClientArg,
    /// Our clients' ids; fewer than two leave no choice.
    ids: Box<[Box<str>]>,
    introspection: Option<Arc<Introspection>>,
}

impl Along {
    /// The choice among these clients, and what introspection wants of a request.
    pub(super) fn new(arg: ClientArg, ids: Box<[Box<str>]>, introspection: Option<Arc<Introspection>>) -> Self {
        Self { arg, ids, introspection }
    }

    fn has_choice(&self) -> bool {
        self.introspection.is_some() && self.ids.len() > 1
    }

    /// Whether the body has a say, and so must be collected first.
    pub(super) fn reads_body(&self) -> bool {
        self.has_choice() || self.introspection.as_ref().is_some_and(|asked| !asked.client_args().is_empty())
    }

    /// The part of one request: nothing for most configurations, at no cost.
    pub(super) fn of(&self, sent: &Sent<'_>) -> Extras {
        let mut extras = Extras::default();
        let Some(introspection) = &self.introspection else { return extras };
        if self.has_choice() {
            extras.client = self.arg.choose(sent, &self.ids);
        }
        let field = |name: &str| sent.text_of_field(name).map(|value| (name.to_owned(), value));
        extras.headers.extend(introspection.client_headers().iter().filter_map(|name| field(name)));
        let args = introspection.client_args().iter();
        extras.args.extend(args.filter_map(|name| Some((name.to_string(), sent.text_of_argument(name)?))));
        extras.args.extend(introspection.client_header_args().iter().filter_map(|name| field(name)));
        extras
    }
}
