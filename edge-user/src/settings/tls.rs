//! `[tls]`: what all listeners over TLS have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::resolve_path;
use crate::config::reader::Reader;

/// `[tls]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// `ticket_period`: how long one key seals session tickets, in seconds. The one before opens them still, so that a
    /// session can be resumed for one to two of these. Default 21600.
    pub ticket_period: Duration,
    /// `ocsp_responses`: files with an OCSP response each, in DER, read anew with every configuration. Each goes with the
    /// certificate that it is about. Default: none.
    pub ocsp_responses: Vec<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ticket_period: Duration::from_secs(21_600), ocsp_responses: Vec::new() }
    }
}

/// Twice that is a week, the longest life of a ticket (RFC 8446, 4.6.1).
const LONGEST_SECS: i64 = 302_400;

pub(super) fn tls(reader: &mut Reader<'_>, base: &Path) -> Tls {
    let default = Tls::default();
    let period = reader.integer("ticket_period", 1..=LONGEST_SECS).map(|secs| Duration::from_secs(secs as u64));
    let files = reader.strings("ocsp_responses").unwrap_or_default();
    Tls {
        ticket_period: period.unwrap_or(default.ticket_period),
        ocsp_responses: files.into_iter().map(|path| resolve_path(base, path)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_section_says_how_long_tickets_last_and_what_is_stapled() {
        let check = |section: &str, expected: Result<(u64, &[&str]), &str>| {
            let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{section}");
            let read = Settings::load_text(&text, Path::new("/etc/edge/edge.toml"));
            match (read, expected) {
                (Ok(settings), Ok((secs, files))) => {
                    let ocsp_responses = files.iter().map(PathBuf::from).collect();
                    assert_eq!(settings.tls, Tls { ticket_period: Duration::from_secs(secs), ocsp_responses });
                }
                (Err(problems), Err(text)) => assert!(problems.to_string().contains(text), "{problems}"),
                (read, _) => panic!("{section}: {read:?}"),
            }
        };
        check("", Ok((21_600, &[])));
        let both = "[tls]\nticket_period = 3600\nocsp_responses = [\"a.ocsp\", \"/b.ocsp\"]";
        check(both, Ok((3600, &["/etc/edge/a.ocsp", "/b.ocsp"])));
        check("[tls]\nticket_period = 0", Err("tls.ticket_period: found 0"));
        check("[tls]\nticket_period = 302401", Err("tls.ticket_period: found 302401"));
        check("[tls]\nocsp_responses = \"a\"", Err("tls.ocsp_responses: found"));
        check("[tls]\nticket_key = \"a\"", Err("tls.ticket_key: found an unknown field"));
    }
}
