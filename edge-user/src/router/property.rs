//! The compiled router against one that follows the rules word by word: every route is asked, the heaviest match wins.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::tests::{Sent, header, path};
use super::*;

/// One route as the file spells it.
#[derive(Clone, Debug)]
struct Spec {
    methods: Vec<&'static str>,
    hosts: Vec<&'static str>,
    paths: Vec<&'static str>,
    headers: Vec<&'static str>,
    snis: Vec<&'static str>,
    regex_priority: i64,
}

const METHODS: [&str; 2] = ["GET", "POST"];
const HOSTS: [&str; 9] =
    ["a.test", "b.test", "a.test:81", "A.test:82", "*.test", "*.test:81", "*.b.test", "a.*", "x.b.*:81"];
const PATHS: [&str; 14] = [
    "/", "/a", "/b", "/a/b", "/ab", "/a/b/c", "/b/a", "~/a", "~/a/\\d", "~/(a|b)/", "~/a/b$", "~(?i)/A", "~.*/c",
    "~/b?",
];
const HEADERS: [&str; 8] = ["e=p", "e=p,Q", "e=~*^p", "t=1", "t=2", "t=1,2,3", "t=~*[23]", "long-name=x"];
const SNIS: [&str; 4] = ["s.test", "*.s.test", "s.*", "t.test."];

impl Spec {
    fn criteria(&self) -> Criteria {
        Criteria {
            methods: self.methods.iter().map(|method| (*method).into()).collect(),
            hosts: self.hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            paths: self.paths.iter().map(|text| path(text)).collect(),
            headers: self.headers.iter().map(|text| header(text)).collect(),
            snis: self.snis.iter().map(|sni| SniPattern::parse(sni).unwrap()).collect(),
            regex_priority: self.regex_priority,
        }
    }

    /// The weight of the heaviest virtual route that matches, and what it takes of the path.
    fn weigh(&self, sent: &Sent) -> Option<(Vec<i64>, usize)> {
        let request = sent.request();
        let method = std::str::from_utf8(request.head.method()).unwrap();
        if !self.methods.is_empty() && !self.methods.contains(&method) {
            return None;
        }
        let (host, port) = (sent.host.to_lowercase(), sent.port.to_string());
        let entries: Vec<(String, Option<&str>)> = self
            .hosts
            .iter()
            .map(|text| match text.split_once(':') {
                Some((host, port)) => (host.to_lowercase(), Some(port)),
                None => (text.to_lowercase(), None),
            })
            .collect();
        let mut hits = entries.iter().filter(|(wanted, wanted_port)| {
            fits(wanted, &host) && wanted_port.is_none_or(|wanted_port| wanted_port == port)
        });
        let named_port = hits.clone().any(|(_, port)| port.is_some());
        if !entries.is_empty() && hits.next().is_none() {
            return None;
        }
        let sni = sent.sni.as_ref().map(|sni| sni.trim_end_matches('.').to_lowercase());
        let sni_fits = |wanted: &&str| sni.as_ref().is_some_and(|sni| fits(wanted.trim_end_matches('.'), sni));
        if sent.tls && !self.snis.is_empty() && !self.snis.iter().any(sni_fits) {
            return None;
        }
        let mut names: Vec<&str> = self.headers.iter().map(|text| text.split_once('=').unwrap().0).collect();
        for (text, name) in self.headers.iter().zip(&names) {
            let wanted = text.split_once('=').unwrap().1;
            let mut values =
                request.head.fields().filter(|field| field.name == name.as_bytes()).map(|field| field.value);
            let fits = |value: &[u8]| {
                let value = std::str::from_utf8(value).unwrap().to_lowercase();
                match wanted.strip_prefix("~*") {
                    Some(text) => regex(text).is_match(&value),
                    None => wanted.to_lowercase().split(',').any(|wanted| wanted == value),
                }
            };
            if !values.any(fits) {
                return None;
            }
        }
        names.dedup();
        let lists = [&self.methods, &self.hosts, &self.paths, &self.headers, &self.snis];
        let kinds = lists.into_iter().filter(|list| !list.is_empty()).count() as i64;
        let plain = !entries.is_empty() && !entries.iter().any(|(host, _)| host.contains('*'));
        let weight = |regex, order: i64| {
            vec![kinds, i64::from(plain), names.len() as i64, i64::from(regex), order, i64::from(named_port)]
        };
        if self.paths.is_empty() {
            return Some((weight(false, 0), 0));
        }
        let (regexes, prefixes): (Vec<&str>, Vec<&str>) = self.paths.iter().partition(|path| path.starts_with('~'));
        let mut regexes = regexes.iter().filter_map(|text| {
            regex(&format!("^(?:{})", &text[1..]))
                .find(&sent.path)
                .map(|found| (weight(true, self.regex_priority), found.end()))
        });
        let prefixes = prefixes.iter().filter(|prefix| sent.path.starts_with(**prefix));
        regexes.next().or(prefixes.max_by_key(|prefix| prefix.len()).map(|prefix| {
            let length = prefix.len();
            (weight(false, length as i64), length)
        }))
    }
}

/// The expression, compiled once.
fn regex(text: &str) -> regex::Regex {
    static KNOWN: LazyLock<Mutex<HashMap<String, regex::Regex>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    known.entry(text.to_owned()).or_insert_with(|| regex::Regex::new(text).unwrap()).clone()
}

/// Whether a name is meant by an entry, both in lower case.
fn fits(wanted: &str, name: &str) -> bool {
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(end), _) => name.len() > end.len() && name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        (None, None) => wanted == name,
    }
}

fn naive(specs: &[Spec], sent: &Sent) -> Option<(usize, usize)> {
    let mut best: Option<(Vec<i64>, usize, usize)> = None;
    for (index, spec) in specs.iter().enumerate() {
        if let Some((weight, matched)) = spec.weigh(sent)
            && best.as_ref().is_none_or(|best| weight > best.0)
        {
            best = Some((weight, index, matched));
        }
    }
    best.map(|(_, index, matched)| (index, matched))
}

/// Mostly nothing, so that routes of equal weight meet.
fn some(pool: &'static [&'static str], most: usize, often: u32) -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        10 - often => Just(Vec::new()),
        often => subsequence(pool, 1..=most).prop_shuffle(),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    // One rule a name, as in a map.
    let headers = some(&HEADERS, 3, 4).prop_map(|mut headers| {
        headers.sort();
        headers.dedup_by_key(|text| text.split_once('=').unwrap().0);
        headers
    });
    let parts = (
        some(&METHODS, 2, 2),
        some(&HOSTS, 3, 6),
        some(&PATHS, 4, 9),
        headers,
        some(&SNIS, 2, 1),
        select(&[0, 0, 1, -1]),
    );
    parts.prop_map(|(methods, hosts, paths, headers, snis, regex_priority)| Spec {
        methods,
        hosts,
        paths,
        headers,
        snis,
        regex_priority,
    })
}

fn request() -> impl Strategy<Value = String> {
    let host = select(&["a.test", "B.test", "x.b.test", "a.de", "x.b.de", "test", "A.TEST"]);
    let port = select(&["80", "81", "82"]);
    let path = "/(|a|b|A|ab|a/b|a/b/c|a/1|b/a|c|a/bc|b/c)";
    let fields = subsequence(&["e=P", "e=q", "e=pq", "t=1", "t=2", "t=3", "long-name=x", "other=1"], 0..=5);
    let tls = select(&["", "", " tls", " sni=s.test", " sni=X.s.test.", " sni=s.de", " sni=t.test"]);
    (select(&METHODS), host, port, path, fields, tls).prop_map(|(method, host, port, path, fields, tls)| {
        let fields: String = fields.iter().map(|field| format!(" {field}")).collect();
        format!("{method} {host} {port} {path}{fields}{tls}")
    })
}

/// Many routes that differ in one thing alone, among others: what hashes find.
fn crowd() -> impl Strategy<Value = Vec<Spec>> {
    let crowd = (spec(), select(&PATHS), select(&HEADERS), 0..4usize, 0..40usize);
    proptest::collection::vec(crowd, 0..3).prop_map(|crowds| {
        let specs = crowds.into_iter().flat_map(|(spec, path, header, what, count)| {
            (0..count).map(move |index| {
                let mut spec = spec.clone();
                match what {
                    0 => spec.hosts = vec![HOSTS[index % HOSTS.len()]],
                    1 => spec.paths = vec![PATHS[index % PATHS.len()]],
                    2 => spec.headers = vec![HEADERS[index % HEADERS.len()]],
                    _ => (spec.paths, spec.headers) = (vec![path], vec![header]),
                }
                spec
            })
        });
        specs.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_compiled_router_chooses_as_the_rules_do(
        specs in proptest::collection::vec(spec(), 1..40),
        crowd in crowd(),
        first in any::<bool>(),
        requests in proptest::collection::vec(request(), 12),
    ) {
        let specs: Vec<Spec> = if first { [crowd, specs].concat() } else { [specs, crowd].concat() };
        let criteria: Vec<_> = specs.iter().map(Spec::criteria).collect();
        let router = Router::new(&criteria);
        for text in requests {
            let sent = Sent::parse(&text);
            let found = router.select(&sent.request()).map(|found| (found.route, found.matched));
            let expected = naive(&specs, &sent);
            let show = |index: Option<(usize, usize)>| index.map(|(index, _)| &specs[index]);
            prop_assert_eq!(found, expected, "{}: {:?}, expected {:?}", text, show(found), show(expected));
        }
    }
}
