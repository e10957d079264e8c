//! What clients get in place of an upstream that fails (F5: `fallbackHost`, `fallbackStatusCodes`): a redirect, or a page.

use std::borrow::Cow;

use crate::config::reader::Reader;
use crate::http::head::{Known, is_field_value};
use crate::plugin::{Answer, AnswerBody};
use crate::reason::Reason;

/// See the module text.
pub(super) struct Fallback {
    /// Statuses of upstreams in whose place it stands, beside failures to get any.
    statuses: Box<[u16]>,
    answer: Stands,
}

enum Stands {
    Redirect(Box<str>),
    Page { status: Option<u16>, content_type: Box<str>, body: Box<str> },
}

impl Fallback {
    /// Reads the object; problems go to the reader's sink.
    pub(super) fn parse(mut config: Reader<'_>) -> Option<Self> {
        let problems = config.sink().count();
        let statuses = config.integers("statuses", 400..=599).unwrap_or_default();
        let redirect = config.parsed("redirect", "a URL of http or https", |text| {
            let is_url = text.starts_with("http://") || text.starts_with("https://");
            (is_url && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Stands::Redirect(text.into()))
        });
        let page = config.object("page").and_then(page);
        if redirect.is_some() == page.is_some() && config.sink().count() == problems {
            config.sink().problem(config.line(), config.path(), "both or none", "one of `redirect` and `page`");
        }
        let sink = config.sink();
        config.finish();
        let answer = redirect.or(page).filter(|_| sink.count() == problems)?;
        // In range: read as such.
        Some(Self { statuses: statuses.into_iter().filter_map(|status| status.try_into().ok()).collect(), answer })
    }

    /// Whether an upstream's answer of this status is not for clients.
    pub(super) fn replaces(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// What is answered in place of this status.
    pub(super) fn answer(&self, status: u16, reason: Reason) -> Answer<'_> {
        match &self.answer {
            Stands::Redirect(url) => Answer {
                status: 302,
                reason,
                body: AnswerBody::Raw(Cow::Borrowed(b""), None),
                fields: vec![(Known::Location, url.as_bytes().to_vec())],
            },
            Stands::Page { status: own, content_type, body } => Answer {
                status: own.unwrap_or(status),
                reason,
                body: AnswerBody::Raw(Cow::Borrowed(body.as_bytes()), Some(content_type)),
                fields: Vec::new(),
            },
        }
    }
}

fn page(mut config: Reader<'_>) -> Option<Stands> {
    let status = config.integer("status", 200..=599).and_then(|status| status.try_into().ok());
    if matches!(status, Some(204 | 205 | 304)) {
        config.problem("status", "a status whose answers have no body", "another one");
    }
    let content_type =
        config.parsed("content_type", "a media type", |text| is_field_value(text.as_bytes()).then(|| Box::from(text)));
    let body = config.required_string("body", "the page").map(Box::from);
    config.finish();
    let content_type = content_type.unwrap_or_else(|| "text/html; charset=utf-8".into());
    Some(Stands::Page { status, content_type, body: body? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::read;

    #[test]
    fn settings_are_judged() {
        for (yaml, part) in [
            ("{}", "one of `redirect` and `page`"),
            ("{redirect: 'https://a', page: {body: b}}", "one of `redirect` and `page`"),
            ("{redirect: /a}", "a URL of http or https"),
            ("{redirect: \"https://a\\r\\nb\"}", "a URL of http or https"),
            ("{statuses: [200], redirect: 'https://a'}", "between 400 and 599"),
            ("{page: {}}", "the page"),
            ("{page: {body: a, status: 204}}", "a status whose answers have no body"),
            ("{page: {body: a, content_type: \"b\\nc\"}}", "a media type"),
            ("{host: a}", "unknown field"),
        ] {
            let (_, problems, _) = read("c", &format!("fallback: {yaml}"), |config| {
                Fallback::parse(config.object("fallback").expect("an object")).map(drop)
            });
            assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
        }
    }
}
