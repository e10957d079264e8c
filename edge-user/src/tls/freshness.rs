//! What issuers renew before it ends, and operators have to fetch: revocation lists and OCSP responses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Exposition, Kind as Metric, Registry};
use crate::store::Store;
use crate::token::Now;

/// How often the running edge looks whether something is to be renewed.
const LOOK: Duration = Duration::from_secs(3600);
/// From when on something that is not renewed is told, at the latest: what lives for a month has been late for days.
const NEAR_SECS: i64 = 86_400;

/// The time of one such file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Freshness {
    /// What it is.
    pub kind: Kind,
    /// Its file.
    pub file: Box<str>,
    /// `thisUpdate`, in seconds since 1970.
    pub begins: i64,
    /// `nextUpdate`: from then on it says nothing any more.
    pub ends: i64,
}

/// What may be near its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Of certificates of clients.
    RevocationList,
    /// About a certificate of ours.
    OcspResponse,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RevocationList => "revocation list",
            Self::OcspResponse => "OCSP response",
        })
    }
}

impl Freshness {
    /// Whether it counts.
    pub fn is_in_time(&self, unix_secs: i64) -> bool {
        (self.begins..self.ends).contains(&unix_secs)
    }

    /// What the operator should know about its time: in its last quarter, or its last day, whichever is shorter, and
    /// outside of it.
    pub fn remark(&self, unix_secs: i64) -> Option<String> {
        let Self { kind, file, begins, ends } = self;
        let near = (ends.saturating_sub(*begins) / 4).min(NEAR_SECS);
        let what = match kind {
            Kind::RevocationList => "clients with certificates that it covers are refused",
            Kind::OcspResponse => "it is not stapled",
        };
        match unix_secs {
            now if now < *begins => Some(format!("the {kind} {file} begins in {} min", (begins - now) / 60 + 1)),
            now if now >= *ends => Some(format!("the {kind} {file} ended {} min ago: {what}", (now - ends) / 60)),
            now if now >= ends - near => Some(format!("the {kind} {file} ends in {} min: renew it", (ends - now) / 60)),
            _ => None,
        }
    }
}

/// Tells every hour what is to be renewed, and in metrics when.
pub fn watch(store: Arc<Store>, registry: &Registry) -> impl Future<Output = ()> + use<> {
    let collected = store.clone();
    registry.register(move |to: &mut Exposition| collect(&collected.load().freshness, to));
    async move {
        let mut looks = tokio::time::interval(LOOK);
        // The first comes at once, and the start has told already.
        looks.tick().await;
        loop {
            looks.tick().await;
            let now = Now::read().unix_ms.div_euclid(1000);
            for remark in store.load().freshness.iter().filter_map(|one| one.remark(now)) {
                tracing::warn!("{remark}");
            }
        }
    }
}

/// When each of them ends.
fn collect(all: &[Freshness], to: &mut Exposition) {
    for (kind, name, help) in [
        (Kind::RevocationList, "edge_tls_crl_next_update_seconds", "When revocation lists of clients end, since 1970"),
        (Kind::OcspResponse, "edge_tls_ocsp_next_update_seconds", "When OCSP responses end, in seconds since 1970"),
    ] {
        to.family(name, Metric::Gauge, help);
        // A file may hold several lists.
        let mut ends = BTreeMap::new();
        for one in all.iter().filter(|one| one.kind == kind) {
            let first: &mut i64 = ends.entry(&*one.file).or_insert(one.ends);
            *first = one.ends.min(*first);
        }
        for (file, end) in ends {
            to.sample(&[("file", file)], end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_or_day_is_told() {
        let check = |kind, length: i64, now: i64, expected: Option<&str>| {
            let one = Freshness { kind, file: "x".into(), begins: 1_000_000, ends: 1_000_000 + length };
            let said = one.remark(1_000_000 + now);
            assert_eq!(said.as_deref(), expected, "{length} {now}");
            let inside = (0..length).contains(&now);
            assert_eq!(one.is_in_time(1_000_000 + now), inside, "{length} {now}");
        };
        let (hour, day) = (3600, 86_400);
        use Kind::{OcspResponse, RevocationList};
        check(RevocationList, 4 * hour, 0, None);
        check(RevocationList, 4 * hour, 3 * hour - 1, None);
        check(RevocationList, 4 * hour, 3 * hour, Some("the revocation list x ends in 60 min: renew it"));
        check(RevocationList, 30 * day, 29 * day - 1, None);
        check(OcspResponse, 30 * day, 29 * day, Some("the OCSP response x ends in 1440 min: renew it"));
        check(OcspResponse, day, day, Some("the OCSP response x ended 0 min ago: it is not stapled"));
        let refused = "the revocation list x ended 2 min ago: clients with certificates that it covers are refused";
        check(RevocationList, day, day + 120, Some(refused));
        check(RevocationList, day, -1, Some("the revocation list x begins in 1 min"));
    }

    #[test]
    fn a_file_has_one_sample_that_of_its_first_end() {
        let one = |kind, file: &str, ends| Freshness { kind, file: file.into(), begins: 0, ends };
        let all = [
            one(Kind::RevocationList, "a", 30),
            one(Kind::OcspResponse, "a", 5),
            one(Kind::RevocationList, "b", 40),
            one(Kind::RevocationList, "a", 20),
        ];
        let mut to = Exposition::default();
        collect(&all, &mut to);
        let text = to.finish();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "edge_tls_crl_next_update_seconds{file=\"a\"} 20",
                "edge_tls_crl_next_update_seconds{file=\"b\"} 40",
                "edge_tls_ocsp_next_update_seconds{file=\"a\"} 5",
            ]
        );
    }
}
