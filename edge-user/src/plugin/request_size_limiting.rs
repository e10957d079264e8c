//! `request-size-limiting`: refuses bodies over a size, by what they say of themselves or, where they say nothing, as
//! they come: the proxy keeps the limit left in the notes.

use super::{Access, Answer, Request};
use crate::config::reader::Reader;
use crate::http::h1::parse::Framing;
use crate::http::head::Known;
use crate::reason::Reason;

/// As in the configuration.
pub const NAME: &str = "request-size-limiting";
/// Kong's.
pub const PRIORITY: u32 = 951;
/// What a client with too long a body reads.
pub const MESSAGE: &str = "Request size limit exceeded";

/// One configured instance.
pub struct RequestSizeLimiting {
    limit_bytes: u64,
    require_content_length: bool,
}

impl RequestSizeLimiting {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>) -> Option<Self> {
        const UNITS: [(&str, u64); 3] = [("megabytes", 1 << 20), ("kilobytes", 1 << 10), ("bytes", 1)];
        let problems = config.sink().count();
        let size = config.integer("allowed_payload_size", 0..=i64::MAX).unwrap_or(128) as u64;
        let unit = config.word("size_unit", &UNITS).unwrap_or(1 << 20);
        let require_content_length = config.bool("require_content_length").unwrap_or(false);
        let sink = config.sink();
        config.finish();
        (sink.count() == problems).then(|| Self { limit_bytes: size.saturating_mul(unit), require_content_length })
    }

    /// The access phase.
    pub fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        match request.body.framing() {
            Framing::Length(length) if length > self.limit_bytes => {
                // RFC 9110, 10.1.1: a client that asks before it sends is told that its expectation fails.
                let status = if request.expects_continue { 417 } else { 413 };
                Access::Answer(Answer::error(status, Reason::PayloadTooLarge, MESSAGE))
            }
            Framing::Length(_) => Access::Continue,
            _ if self.require_content_length && !is_chunked(request) => {
                let message = "A valid Content-Length header is required";
                Access::Answer(Answer::error(411, Reason::LengthRequired, message))
            }
            _ => {
                let limit = request.notes.body_limit.map_or(self.limit_bytes, |limit| limit.min(self.limit_bytes));
                request.notes.body_limit = Some(limit);
                Access::Continue
            }
        }
    }
}

fn is_chunked(request: &Request<'_>) -> bool {
    request.head.get(Known::TransferEncoding) == Some(b"chunked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::AnswerBody;
    use crate::plugin::testing::{Scene, parse};

    /// The answer to a request with this framing, or the limit left for its body.
    async fn check(yaml: &str, framing: Framing, expects_continue: bool) -> Result<Option<u64>, (u16, String)> {
        let plugin = parse(NAME, yaml).expect("good settings");
        let fields: &[(&str, &str)] = match framing {
            Framing::Chunked => &[("Transfer-Encoding", "chunked")],
            _ => &[],
        };
        let mut scene = Scene::new("POST", fields);
        (scene.body.framing, scene.expects_continue) = (framing, expects_continue);
        match scene.access(&plugin).await {
            Access::Answer(Answer { status, body: AnswerBody::Error(message), .. }) => {
                Err((status, message.into_owned()))
            }
            _ => Ok(scene.notes.body_limit),
        }
    }

    #[tokio::test]
    async fn lengths_are_judged_at_once_and_the_rest_as_it_comes() {
        let too_large = |status| Err((status, MESSAGE.to_owned()));
        let required = Err((411, "A valid Content-Length header is required".to_owned()));
        let (kib, mib) = (1 << 10, 1 << 20);
        for (yaml, framing, expects_continue, expected) in [
            ("{}", Framing::Length(128 * mib), false, Ok(None)),
            ("{}", Framing::Length(128 * mib + 1), false, too_large(413)),
            ("{}", Framing::Length(128 * mib + 1), true, too_large(417)),
            ("{}", Framing::Chunked, false, Ok(Some(128 * mib))),
            ("{}", Framing::None, false, Ok(Some(128 * mib))),
            ("{allowed_payload_size: 2, size_unit: kilobytes}", Framing::Length(2 * kib), true, Ok(None)),
            ("{allowed_payload_size: 2, size_unit: kilobytes}", Framing::Length(2 * kib + 1), false, too_large(413)),
            ("{allowed_payload_size: 2, size_unit: bytes}", Framing::Length(3), false, too_large(413)),
            ("{allowed_payload_size: 0}", Framing::Length(0), false, Ok(None)),
            ("{allowed_payload_size: 0}", Framing::Length(1), false, too_large(413)),
            ("{allowed_payload_size: 0}", Framing::Chunked, false, Ok(Some(0))),
            ("require_content_length: true", Framing::None, false, required.clone()),
            ("require_content_length: true", Framing::Length(0), false, Ok(None)),
            ("require_content_length: true", Framing::Chunked, false, Ok(Some(128 * mib))),
            ("{allowed_payload_size: 9223372036854775807}", Framing::Length(u64::MAX), false, Ok(None)),
        ] {
            assert_eq!(check(yaml, framing, expects_continue).await, expected, "{yaml} {framing:?}");
        }
    }

    #[test]
    fn settings_are_judged() {
        for (yaml, part) in [
            ("allowed_payload_size: -1", "an integer between 0"),
            ("allowed_payload_size: 1.5", "an integer between 0"),
            ("size_unit: gigabytes", "one of: megabytes, kilobytes, bytes"),
            ("size: 1", "size_unit"),
        ] {
            let problems = parse(NAME, yaml).err().expect("a problem");
            assert!(problems.len() == 1 && problems[0].contains(part), "{yaml}: {problems:?}");
        }
    }
}
