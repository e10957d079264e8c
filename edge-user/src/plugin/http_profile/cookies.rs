//! Cookies of upstreams: attributes that browsers must see, and values that only the edge can read.
//!
//! An encrypted value is sealed under the node's secrets key for the cookie's name, and comes back to the upstream in clear.
//! What does not open, because it is another's, older than the key or altered, does not reach it at all.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::reader::Reader;
use crate::crypto::seal::Sealer;
use crate::http::head::{Head, Known, Owner, is_field_value, is_token_byte};

const SET_COOKIE: &[u8] = b"Set-Cookie";

/// The rules about cookies; of those for one name the first counts.
#[derive(Default)]
pub(super) struct Cookies {
    rules: Box<[CookieRule]>,
    /// There is one where a rule needs it.
    sealer: Option<Arc<Sealer>>,
}

struct CookieRule {
    name: Glob,
    secure: Option<bool>,
    http_only: Option<bool>,
    same_site: Option<&'static str>,
    domain: Option<Box<str>>,
    path: Option<Box<str>>,
    encrypt: bool,
}

/// A name, or what it begins and ends with.
enum Glob {
    Exact(Box<str>),
    Around(Box<str>, Box<str>),
}

const SAME_SITE: [(&str, &str); 3] = [("strict", "Strict"), ("lax", "Lax"), ("none", "None")];

impl Cookies {
    /// Reads the list; problems go to the reader's sink.
    pub(super) fn parse(config: &mut Reader<'_>, sealer: Option<&Arc<Sealer>>) -> Self {
        let rules: Box<[CookieRule]> = config.objects("cookies").into_iter().filter_map(CookieRule::parse).collect();
        let encrypts = rules.iter().any(|rule| rule.encrypt);
        if encrypts && sealer.is_none() {
            let expected = "no `encrypt` without the node's key: `[secrets] key_file` in edge.toml";
            config.problem("cookies", "`encrypt: true`", expected);
        }
        Self { rules, sealer: sealer.filter(|_| encrypts).cloned() }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn rule(&self, name: &[u8]) -> Option<&CookieRule> {
        self.rules.iter().find(|rule| rule.name.is_for(name))
    }

    /// Opens what a client sends back.
    pub(super) fn open(&self, head: &mut Head) {
        let Some(sealer) = &self.sealer else { return };
        let is_sealed = |pair: &[u8]| self.rule(split(pair).0).is_some_and(|rule| rule.encrypt);
        if !head.all(Known::Cookie).flat_map(pairs).any(is_sealed) {
            return;
        }
        let mut opened: Vec<Vec<u8>> = Vec::new();
        for pair in head.all(Known::Cookie).flat_map(pairs) {
            if !is_sealed(pair) {
                opened.push(pair.to_vec());
                continue;
            }
            let (name, value) = split(pair);
            let value = URL_SAFE_NO_PAD.decode(value).ok().and_then(|sealed| sealer.open(name, &sealed).ok());
            if let Some(value) = value.filter(|value| is_field_value(value) && !value.contains(&b';')) {
                opened.push([name, b"=", &value].concat());
            }
        }
        head.remove(Known::Cookie);
        if !opened.is_empty() {
            // The client's still: an allow-list may leave it out.
            head.push(Owner::Peer, Known::Cookie.spelling().as_bytes(), &opened.join(&b"; "[..]));
        }
    }

    /// Rewrites what a response sets.
    pub(super) fn seal(&self, head: &mut Head) {
        let is_set = |name: &[u8]| name.eq_ignore_ascii_case(SET_COOKIE);
        let named = |value: &[u8]| self.rule(split(pairs(value).next().unwrap_or_default()).0).is_some();
        if self.is_empty() || !head.fields().any(|field| is_set(field.name) && named(field.value)) {
            return;
        }
        let set: Vec<(Owner, Vec<u8>)> = head
            .fields()
            .filter(|field| is_set(field.name))
            .map(|field| (field.owner, self.rewritten(field.value).unwrap_or_else(|| field.value.to_vec())))
            .collect();
        head.remove_named(SET_COOKIE);
        set.iter().for_each(|(owner, value)| head.push(*owner, SET_COOKIE, value));
    }

    fn rewritten(&self, cookie: &[u8]) -> Option<Vec<u8>> {
        let mut parts = cookie.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let (name, value) = split(parts.next()?);
        let rule = self.rule(name)?;
        let mut text = [name, b"="].concat();
        match self.sealer.as_ref().filter(|_| rule.encrypt) {
            Some(sealer) => text.extend_from_slice(URL_SAFE_NO_PAD.encode(sealer.seal(name, value)).as_bytes()),
            None => text.extend_from_slice(value),
        }
        let is = |part: &[u8], name: &str| split(part).0.eq_ignore_ascii_case(name.as_bytes());
        for part in parts.filter(|part| !part.is_empty()) {
            let is_replaced = rule.secure.is_some() && is(part, "Secure")
                || rule.http_only.is_some() && is(part, "HttpOnly")
                || rule.same_site.is_some() && is(part, "SameSite")
                || rule.domain.is_some() && is(part, "Domain")
                || rule.path.is_some() && is(part, "Path");
            if !is_replaced {
                text.extend_from_slice(b"; ");
                text.extend_from_slice(part);
            }
        }
        let valued = [("Domain", rule.domain.as_deref()), ("Path", rule.path.as_deref()), ("SameSite", rule.same_site)];
        for (name, value) in valued.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            text.extend_from_slice(format!("; {name}={value}").as_bytes());
        }
        for (name, wanted) in [("Secure", rule.secure), ("HttpOnly", rule.http_only)] {
            if wanted == Some(true) {
                text.extend_from_slice(b"; ");
                text.extend_from_slice(name.as_bytes());
            }
        }
        Some(text)
    }
}

impl CookieRule {
    fn parse(mut config: Reader<'_>) -> Option<Self> {
        let problems = config.sink().count();
        let expected = "the name of a cookie, with one `*` at most";
        let name = if config.missing("name", expected) { None } else { config.parsed("name", expected, Glob::parse) };
        let (secure, http_only) = (config.bool("secure"), config.bool("http_only"));
        let same_site = config.word("same_site", &SAME_SITE);
        let attribute = |text: &str| {
            let is_one = is_field_value(text.as_bytes()) && text.is_ascii() && !text.contains(';');
            is_one.then(|| Box::<str>::from(text))
        };
        let domain = config.parsed("domain", "a domain", attribute);
        let path = config.parsed("path", "a path: `/…`", |text| attribute(text).filter(|path| path.starts_with('/')));
        let encrypt = config.bool("encrypt").unwrap_or(false);
        if same_site == Some("None") && secure != Some(true) {
            config.warn("same_site", "browsers take `none` with `secure: true` alone");
        }
        let sink = config.sink();
        config.finish();
        let name = name.filter(|_| sink.count() == problems)?;
        Some(Self { name, secure, http_only, same_site, domain, path, encrypt })
    }
}

impl Glob {
    fn parse(text: &str) -> Option<Self> {
        let is_name = |text: &str| text.bytes().all(is_token_byte) && !text.contains('*');
        match text.split_once('*') {
            None => is_name(text).then(|| Self::Exact(text.into())),
            Some((start, end)) => (is_name(start) && is_name(end)).then(|| Self::Around(start.into(), end.into())),
        }
    }

    fn is_for(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(text) => name == text.as_bytes(),
            Self::Around(start, end) => {
                name.len() >= start.len() + end.len()
                    && name.starts_with(start.as_bytes())
                    && name.ends_with(end.as_bytes())
            }
        }
    }
}

/// The pairs of a field.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

/// Name and value of a pair.
fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', pair) {
        Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()),
        None => (pair, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::read;
    use crate::crypto::seal::{Purpose, SecretsKey};
    use crate::http::head::Version;

    fn sealer(digit: &str) -> Arc<Sealer> {
        let key = SecretsKey::from_text(&digit.repeat(64)).expect("a key");
        Arc::new(Sealer::new(&key, Purpose::Cookies))
    }

    fn cookies(rules: &str, sealer: &Arc<Sealer>) -> Cookies {
        let (cookies, problems, _) =
            read("c", &format!("cookies: [{rules}]"), |config| Cookies::parse(config, Some(sealer)));
        assert!(problems.is_empty(), "{problems:?}");
        cookies
    }

    fn set(cookies: &Cookies, cookie: &str) -> String {
        let mut head = Head::default();
        head.start_response(200, b"", Version::Http11);
        head.push(Owner::Peer, b"set-cookie", cookie.as_bytes());
        cookies.seal(&mut head);
        crate::plugin::testing::fields(&head)[0].1.clone()
    }

    fn sent(cookies: &Cookies, fields: &[&str]) -> Vec<String> {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        fields.iter().for_each(|field| head.push(Owner::Peer, b"Cookie", field.as_bytes()));
        cookies.open(&mut head);
        crate::plugin::testing::fields(&head).into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn attributes_are_as_the_first_rule_for_the_name_says() {
        for (rule, cookie, expected) in [
            ("{name: a, secure: true, http_only: true}", "a=1; Path=/", "a=1; Path=/; Secure; HttpOnly"),
            ("{name: a, secure: true}", "a=1; secure; HttpOnly", "a=1; HttpOnly; Secure"),
            ("{name: a, secure: false, http_only: false}", "a=1; Secure; httponly; Max-Age=1", "a=1; Max-Age=1"),
            ("{name: a, same_site: strict}", "a=1; SameSite=None", "a=1; SameSite=Strict"),
            ("{name: a, domain: x.example, path: /p}", "a=1; domain=y; path=/q;", "a=1; Domain=x.example; Path=/p"),
            ("{name: '*', same_site: lax}", "b=1", "b=1; SameSite=Lax"),
            ("{name: 'S*ID', secure: true}", "SESSID=1=2", "SESSID=1=2; Secure"),
            ("{name: 'S*ID', secure: true}", "SI=1", "SI=1"),
            ("{name: a, secure: true}", "A=1", "A=1"),
            ("{name: a, secure: true}", "ab=1", "ab=1"),
            ("{name: 'a*', secure: true}, {name: ab, http_only: true}", "ab=1", "ab=1; Secure"),
        ] {
            assert_eq!(set(&cookies(rule, &sealer("1")), cookie), expected, "{rule} {cookie}");
        }
    }

    // L1
    #[test]
    fn what_is_sealed_opens_for_its_name_and_key_alone() {
        let ours = cookies("{name: 's*', encrypt: true}", &sealer("1"));
        let cookie = set(&ours, "sid=secret; Path=/");
        let (pair, rest) = cookie.split_once(';').expect("an attribute");
        assert!(!cookie.contains("secret") && rest == " Path=/", "{cookie}");
        assert_ne!(cookie, set(&ours, "sid=secret; Path=/"), "a nonce of its own each time");
        let value = pair.strip_prefix("sid=").expect("its name");
        assert_eq!(sent(&ours, &[&format!("a=1; {pair}; b=2"), "c=3"]), ["a=1; sid=secret; b=2; c=3"]);
        assert_eq!(sent(&ours, &["a=1;b=2"]), ["a=1;b=2"], "nothing of it is touched");
        for forged in ["sid=secret".to_owned(), "sid=".into(), "sid".into(), format!("six={value}"), format!("{pair}A")]
        {
            assert_eq!(sent(&ours, &[&forged]), Vec::<String>::new(), "{forged}");
            assert_eq!(sent(&ours, &[&format!("{forged}; a=1")]), ["a=1"], "{forged}");
        }
        let others = cookies("{name: 's*', encrypt: true}", &sealer("2"));
        assert_eq!(sent(&others, &[pair]), Vec::<String>::new());
    }

    #[test]
    fn rules_are_judged() {
        for (rule, part) in [
            ("{}", "the name of a cookie"),
            ("{name: 'a*b*'}", "with one `*` at most"),
            ("{name: 'a b'}", "the name of a cookie"),
            ("{name: a, same_site: maybe}", "one of: strict, lax, none"),
            ("{name: a, path: b}", "a path"),
            ("{name: a, domain: 'b; Secure'}", "a domain"),
            ("{name: a, max_age: 1}", "unknown field"),
            ("{name: a, encrypt: true}", "`[secrets] key_file`"),
        ] {
            let (_, problems, _) = read("c", &format!("cookies: [{rule}]"), |config| Cookies::parse(config, None));
            assert!(problems.iter().any(|problem| problem.contains(part)), "{rule}: {problems:?}");
        }
    }
}
