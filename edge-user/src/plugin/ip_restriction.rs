//! `ip-restriction`: lets clients pass by their address.

use std::borrow::Cow;
use std::net::IpAddr;

use super::fields::optional;
use super::{Access, Answer, Request};
use crate::config::reader::Reader;
use crate::reason::Reason;
use crate::settings::{Cidr, CidrSet};

/// As in the configuration.
pub const NAME: &str = "ip-restriction";
/// Kong's.
pub const PRIORITY: u32 = 990;

/// One configured instance.
pub struct IpRestriction {
    /// Where there is such a list, only clients in it pass.
    allow: Option<CidrSet>,
    deny: CidrSet,
    status: u16,
    /// What the client reads, where it is not the default.
    message: Option<Box<str>>,
}

impl IpRestriction {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>) -> Option<Self> {
        let problems = config.sink().count();
        let allow = ranges(&mut config, "allow");
        let deny = ranges(&mut config, "deny");
        let mut status = config.integer("status", i64::MIN..=i64::MAX).unwrap_or(403);
        let mut message = optional(&mut config, "message");
        if !(400..=599).contains(&status) {
            config.warn("status", "is none of an error: refused clients get 500, as from Kong");
            (status, message) = (500, Some("An unexpected error occurred"));
        }
        let sink = config.sink();
        if allow.is_empty() && deny.is_empty() && sink.count() == problems {
            let expected = "at least one of these fields must be non-empty: 'config.allow', 'config.deny'";
            sink.problem(config.line(), config.path(), "neither", expected);
        }
        config.finish();
        (sink.count() == problems).then(|| Self {
            allow: (!allow.is_empty()).then(|| CidrSet::new(&allow)),
            deny: CidrSet::new(&deny),
            status: status as u16,
            message: message.map(Box::from),
        })
    }

    /// Whether a client of this address may pass.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
    }

    /// The access phase.
    pub fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        let client = request.client.to_canonical();
        if self.admits(client) {
            return Access::Continue;
        }
        let message = match &self.message {
            Some(message) => Cow::Borrowed(&**message),
            None => Cow::Owned(format!("IP address not allowed: {client}")),
        };
        Access::Answer(Answer::error(self.status, Reason::AddressNotAllowed, message))
    }
}

fn ranges(config: &mut Reader<'_>, key: &'static str) -> Vec<Cidr> {
    let texts = config.strings(key).unwrap_or_default();
    let ranges = texts.into_iter().map(|text| Cidr::parse(text).ok_or(text));
    ranges
        .filter_map(|range| {
            let wrong = |text: &str| {
                config.problem(key, format!("{text:?}"), format!("invalid ip or cidr range: '{text}'"));
            };
            range.map_err(wrong).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::AnswerBody;
    use crate::plugin::testing::{Scene, parse};

    /// The status and message a client of this address gets, nothing where it passes.
    async fn check(yaml: &str, client: &str) -> Option<(u16, String)> {
        let plugin = parse(NAME, yaml).expect("good settings");
        let mut scene = Scene::new("GET", &[]);
        scene.client = client.parse().expect("an address");
        match scene.access(&plugin).await {
            Access::Answer(Answer { status, body: AnswerBody::Error(message), reason, .. }) => {
                assert_eq!(reason, Reason::AddressNotAllowed);
                Some((status, message.into_owned()))
            }
            Access::Continue => None,
            _ => panic!("another answer"),
        }
    }

    #[tokio::test]
    async fn denial_comes_first_and_then_leave() {
        for (yaml, client, passes) in [
            ("allow: [192.0.2.0/24]", "192.0.2.1", true),
            ("allow: [192.0.2.0/24]", "192.0.3.1", false),
            ("allow: [192.0.2.0/24]", "::ffff:192.0.2.1", true),
            ("allow: ['::ffff:192.0.2.0/120']", "192.0.2.1", true),
            ("allow: [192.0.2.9/24]", "192.0.2.1", true),
            ("deny: [192.0.2.1]", "192.0.2.1", false),
            ("deny: [192.0.2.1]", "192.0.2.2", true),
            ("deny: ['2001:db8::/32']", "2001:db8:1::1", false),
            ("deny: ['2001:db8::/32']", "2001:db9::1", true),
            ("{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "10.2.0.1", true),
            ("{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "10.1.0.1", false),
            ("{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "11.0.0.1", false),
            ("allow: [0.0.0.0/0]", "203.0.113.9", true),
            ("allow: [0.0.0.0/0]", "::1", false),
            ("{allow: [], deny: [10.0.0.0/8]}", "192.0.2.1", true),
        ] {
            assert_eq!(check(yaml, client).await.is_none(), passes, "{yaml} {client}");
        }
    }

    #[tokio::test]
    async fn status_and_message_are_those_of_the_settings() {
        for (yaml, client, status, message) in [
            ("deny: [10.0.0.1]", "::ffff:10.0.0.1", 403, "IP address not allowed: 10.0.0.1"),
            ("{deny: [10.0.0.1], status: 418, message: No.}", "10.0.0.1", 418, "No."),
            ("{deny: [10.0.0.1], message: ''}", "10.0.0.1", 403, "IP address not allowed: 10.0.0.1"),
            ("{deny: [10.0.0.1], status: 200, message: No.}", "10.0.0.1", 500, "An unexpected error occurred"),
        ] {
            assert_eq!(check(yaml, client).await, Some((status, message.to_owned())), "{yaml}");
        }
    }

    #[test]
    fn settings_are_judged() {
        for (yaml, part) in [
            ("{}", "at least one of these fields must be non-empty: 'config.allow', 'config.deny'"),
            ("{allow: [], deny: null}", "at least one of these fields must be non-empty"),
            ("allow: [10.0.0.0/33]", "invalid ip or cidr range: '10.0.0.0/33'"),
            ("deny: [host]", "invalid ip or cidr range: 'host'"),
            ("{deny: [10.0.0.1], status: text}", "an integer"),
            ("{deny: [10.0.0.1], statuses: 1}", "`status`"),
        ] {
            let problems = parse(NAME, yaml).err().expect("a problem");
            assert!(problems.len() == 1 && problems[0].contains(part), "{yaml}: {problems:?}");
        }
    }
}
