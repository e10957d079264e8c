//! One request to an endpoint while it is put together.

use crate::http_client::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// Pairs of `application/x-www-form-urlencoded`. Values may be any bytes; all of them stay data.
#[derive(Default)]
pub struct Form(Vec<(Bytes, Bytes)>);

type Bytes = Box<[u8]>;

impl Form {
    /// Appends a pair.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push((name.as_ref().into(), value.as_ref().into()));
    }

    /// Appends a pair unless one of this name stands there: no parameter may be sent twice (RFC 6749, 3.2).
    pub fn push_new(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if !self.has(&name) {
            self.push(name, value);
        }
    }

    /// Whether a pair of this name stands there.
    pub fn has(&self, name: impl AsRef<[u8]>) -> bool {
        self.0.iter().any(|(known, _)| **known == *name.as_ref())
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The encoded text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push('&');
            }
            encode(name, &mut out);
            out.push('=');
            encode(value, &mut out);
        }
        out
    }

    /// Values that may be secret: all but those of parameters that never are.
    fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        const OPEN: [&[u8]; 9] = [
            b"audience",
            b"client_assertion_type",
            b"client_id",
            b"grant_type",
            b"requested_token_type",
            b"resource",
            b"scope",
            b"subject_token_type",
            b"token_type_hint",
        ];
        self.0.iter().filter(|(name, _)| !OPEN.contains(&&**name)).map(|(_, value)| &**value)
    }
}

/// Encodes one name or value; a space becomes `+`.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    out.extend(form_urlencoded::byte_serialize(bytes));
}

/// What is sent to an endpoint.
#[derive(Default)]
pub struct Request {
    /// `Accept`; empty is `application/json`.
    pub accept: &'static str,
    /// Header fields beside it.
    pub headers: HeaderMap,
    /// The body of a POST; without one it is a GET.
    pub form: Option<Form>,
    /// Appended to the endpoint's URL.
    pub query: Form,
    /// What of it no log may show, beside the values of form and query.
    hidden: Vec<Box<[u8]>>,
}

impl Request {
    /// A POST with an empty form.
    pub fn post() -> Self {
        Self { form: Some(Form::default()), ..Self::default() }
    }

    /// The form; one that was none becomes an empty one.
    pub fn form(&mut self) -> &mut Form {
        self.form.get_or_insert_default()
    }

    /// Sets `Authorization`, in place of what stood there.
    pub fn authorize(&mut self, value: &str) {
        // Basic and Bearer credentials are visible ASCII; one that is not cannot be sent, and is refused by the issuer.
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(AUTHORIZATION, value);
        }
    }

    /// Sets a header, in place of what stood there. Nothing happens where it is none, or one that belongs to the message.
    pub fn header(&mut self, name: &str, value: &str) {
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        else {
            return;
        };
        if !is_framing(name.as_str()) {
            self.hide(value.as_bytes());
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
    }

    /// Keeps a secret out of what is logged of the answer.
    pub fn hide(&mut self, secret: impl AsRef<[u8]>) {
        self.hidden.push(secret.as_ref().into());
    }

    /// Whatever of it no log may show, however it is answered.
    pub(super) fn secrets(&self) -> Secrets {
        // Shorter ones are in many a word; no secret is that short.
        const SHORTEST: usize = 4;
        let form = self.form.iter().flat_map(Form::secrets);
        let all = form.chain(self.query.secrets()).chain(self.hidden.iter().map(|secret| &**secret));
        Secrets(all.filter(|value| value.len() >= SHORTEST).map(|value| Zeroizing::new(value.to_vec())).collect())
    }

    /// The method with its body.
    pub(super) fn method(&self) -> Method {
        match &self.form {
            None => Method::Get,
            Some(form) => Method::PostForm(form.encode()),
        }
    }

    /// The URL with the query of this request.
    pub(super) fn url(&self, endpoint: &str) -> String {
        match (self.query.is_empty(), endpoint.contains('?')) {
            (true, _) => endpoint.to_owned(),
            (false, false) => format!("{endpoint}?{}", self.query.encode()),
            (false, true) => format!("{endpoint}&{}", self.query.encode()),
        }
    }
}

/// The secrets of a request that is under way.
#[derive(Default)]
pub(super) struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl Secrets {
    /// Whether a text of the issuer repeats one of them (L1).
    pub(super) fn are_echoed_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| memchr::memmem::find(text.as_bytes(), secret).is_some())
    }
}

/// Names that the message itself needs: nobody's to set.
pub(super) fn is_framing(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    // I9
    #[test]
    fn every_byte_of_a_value_stays_data() {
        for (value, encoded) in [
            (&b"a&b=c"[..], "token=a%26b%3Dc"),
            (b"a+b c%2B", "token=a%2Bb+c%252B"),
            (b"a\r\nHost: b", "token=a%0D%0AHost%3A+b"),
            (b"\0\xff\xc3\xa9", "token=%00%FF%C3%A9"),
            (b"", "token="),
            (b"Az09-._*", "token=Az09-._*"),
        ] {
            let mut form = Form::default();
            form.push("token", value);
            assert_eq!(form.encode(), encoded);
            let parsed: Vec<_> = form_urlencoded::parse(encoded.as_bytes()).collect();
            assert_eq!(parsed[0].1, String::from_utf8_lossy(value), "{encoded}");
        }
    }

    #[test]
    fn a_name_is_sent_once_and_a_query_is_appended() {
        let mut request = Request::post();
        request.form().push("a&", "1");
        request.form().push_new("a&", "2");
        request.form().push_new("b", "3");
        assert_eq!(request.form().encode(), "a%26=1&b=3");
        request.query.push("q", "x y");
        assert_eq!(request.url("https://a/u"), "https://a/u?q=x+y");
        assert_eq!(request.url("https://a/u?v=1"), "https://a/u?v=1&q=x+y");
    }

    #[test]
    fn headers_of_the_message_are_nobodys_to_set() {
        let mut request = Request::post();
        for (name, value, set) in [
            ("X-Tenant", "a", true),
            ("authorization", "Bearer x", true),
            ("Content-Length", "1", false),
            ("transfer-encoding", "chunked", false),
            ("HOST", "b", false),
            ("x y", "a", false),
            ("x-a", "b\r\nc: d", false),
        ] {
            request.header(name, value);
            assert_eq!(request.headers.contains_key(name), set, "{name}");
        }
        assert!(!format!("{:?}", request.headers).contains("Bearer"));
    }

    // L1
    #[test]
    fn an_echo_is_noticed() {
        let mut request = Request::post();
        request.form().push("token", "opaque-token");
        request.form().push("token_type_hint", "access_token");
        request.form().push("client_id", "edge-client");
        request.hide("hunter22");
        for (text, echoed) in [
            ("token opaque-token is unknown", true),
            ("client hunter22", true),
            ("client edge-client is unknown", false),
            ("the access_token is unknown", false),
            ("", false),
        ] {
            assert_eq!(request.secrets().are_echoed_in(text), echoed, "{text}");
        }
    }
}
