//! Facts: what a verified token says, parsed once. Questions of one route (audience, scope, roles) are asked of them
//! per request, without allocation; which answers a route wants is the plugin's affair.

mod required;

use super::json::{Document, Kind, Value};
use super::jws::Jws;
use crate::reason::Reason;
pub use required::{Reading, Required, holds, texts};
use std::fmt;

/// A path of member names to a claim; usually of one name.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// A path from its names.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(names.into_iter().map(|name| Box::from(name.as_ref())).collect())
    }

    /// Whether this path is this one name.
    pub fn is(&self, name: &str) -> bool {
        matches!(&*self.0, [only] if &**only == name)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// Its names with dots between.
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join("."))
    }
}

/// What a verified token says.
pub struct Facts {
    document: Document,
    /// What its issuer says of it, where the document is the token's own payload.
    introspection: Option<Box<Document>>,
    /// That answer as it came, where it was signed.
    introspection_jwt: Option<Box<str>>,
    /// Whether the document is such an answer itself: the token is its issuer's secret.
    opaque: bool,
    exp_ms: Option<i64>,
    nbf_ms: Option<i64>,
    iat_ms: Option<i64>,
    bound: bool,
    id_token: bool,
    access_token: bool,
}

impl Facts {
    /// Parses a payload. `typ` is the header's, as `jws::short_type` gives it.
    pub fn parse(payload: Vec<u8>, typ: &str) -> Result<Self, Reason> {
        let document = Document::parse(payload).map_err(|_| Reason::TokenMalformed)?;
        let root = document.root();
        if root.kind() != Kind::Object {
            return Err(Reason::TokenMalformed);
        }
        let (mut exp_ms, mut nbf_ms, mut iat_ms, mut bound) = (None, None, None, false);
        let (mut marks, mut payload_typ) = (false, None);
        for (name, value) in root.members() {
            let time = || value.seconds_as_ms().ok_or(Reason::ClaimInvalid);
            // `\u0063nf` is `cnf`: an escape must not hide a claim from the check and show it to a policy (T27).
            match &*name.text().unwrap_or_default() {
                "exp" => exp_ms = Some(time()?),
                "nbf" => nbf_ms = Some(time()?),
                "iat" => iat_ms = Some(time()?),
                "iss" | "sub" | "jti" if !value.is_text() => return Err(Reason::ClaimInvalid),
                "cnf" => bound = true,
                "nonce" | "at_hash" | "c_hash" => marks = true,
                "typ" => payload_typ = Some(value),
                _ => {}
            }
        }
        if exp_ms.is_some_and(|exp| exp <= 0) {
            return Err(Reason::ClaimInvalid);
        }
        // Keycloak says in a claim what others say in the header, and keeps `nonce` in access tokens.
        let says = |what: &str| payload_typ.is_some_and(|typ| typ.is(what));
        let access_token = typ == "at+jwt" || says("Bearer");
        let id_token = !access_token && (marks || says("ID"));
        let (introspection, introspection_jwt, opaque) = (None, None, false);
        Ok(Self {
            introspection,
            introspection_jwt,
            opaque,
            exp_ms,
            nbf_ms,
            iat_ms,
            bound,
            id_token,
            access_token,
            document,
        })
    }

    /// Parses what an issuer said of an active token (RFC 7662, 2.2): the token itself says nothing.
    pub fn introspected(json: Vec<u8>, jwt: Option<Box<str>>) -> Result<Self, Reason> {
        let facts = Self::parse(json, "")?;
        // Issuers repeat claims of the token; the answer itself is no ID token.
        Ok(Self { introspection_jwt: jwt, opaque: true, id_token: false, access_token: true, ..facts })
    }

    /// The same facts, of a token that may itself say what it is: an issuer that leaves `cnf` out of its answer does not
    /// make it a bearer token (RFC 8705, 3.2; RFC 9449, 6.2), and one that calls it active no access token (RFC 8725,
    /// 3.11). Nothing of what the token says is a claim.
    pub fn of_token(self, token: &[u8]) -> Result<Self, Reason> {
        /// Types of JWTs for other ends.
        const OTHERS: [&str; 6] = [
            "client-authentication+jwt",
            "dpop+jwt",
            "logout+jwt",
            "oauth-authz-req+jwt",
            "secevent+jwt",
            "token-introspection+jwt",
        ];
        let Ok(jws) = Jws::parse(token) else { return Ok(self) };
        if OTHERS.contains(&&*jws.typ) {
            return Err(Reason::TypNotAllowed);
        }
        let claims = jws.payload().ok().and_then(|payload| Self::parse(payload, &jws.typ).ok());
        let Some(Self { bound, id_token, access_token, .. }) = claims else { return Ok(self) };
        Ok(Self { bound: self.bound || bound, id_token, access_token, ..self })
    }

    /// The claims of the JWT that stands at a path of what the issuer said, with the rest of that. It is the issuer's word,
    /// whoever signed it.
    pub fn holding(self, path: &ClaimPath) -> Result<Self, Reason> {
        let jwt = self.claim(path).and_then(Value::text).ok_or(Reason::ClaimMissing)?;
        let jws = Jws::parse(jwt.as_bytes())?;
        let claims = Self::parse(jws.payload()?, &jws.typ)?;
        drop(jwt);
        Ok(claims.with_introspection(self))
    }

    /// The same facts with what the issuer said. Its times count as well: the earlier `exp`, the later `nbf`.
    pub fn with_introspection(self, said: Self) -> Self {
        Self {
            exp_ms: [self.exp_ms, said.exp_ms].into_iter().flatten().min(),
            nbf_ms: self.nbf_ms.max(said.nbf_ms),
            bound: self.bound || said.bound,
            introspection: Some(Box::new(said.document)),
            introspection_jwt: said.introspection_jwt,
            ..self
        }
    }

    /// `exp` as Unix milliseconds.
    pub fn exp_ms(&self) -> Option<i64> {
        self.exp_ms
    }

    /// `nbf` as it is in force, in Unix milliseconds.
    pub fn nbf_ms(&self) -> Option<i64> {
        self.nbf_ms
    }

    /// `iat` as Unix milliseconds.
    pub fn iat_ms(&self) -> Option<i64> {
        self.iat_ms
    }

    /// Compares `exp` and `nbf` with the clock, each widened by the leeway. A token without `exp` must be one that its
    /// issuer vouches for each time (RFC 7662, 2.2: `exp` is optional there).
    pub fn check_time(&self, now_ms: i64, leeway_ms: i64) -> Result<(), Reason> {
        if self.exp_ms.is_none() && !self.opaque {
            return Err(Reason::ClaimInvalid);
        }
        if self.exp_ms.is_some_and(|exp| now_ms >= exp.saturating_add(leeway_ms)) {
            return Err(Reason::TokenExpired);
        }
        if self.nbf_ms.is_some_and(|nbf| now_ms.saturating_add(leeway_ms) < nbf) {
            return Err(Reason::TokenNotYetValid);
        }
        Ok(())
    }

    /// Whether the token names a key its sender has to prove (RFC 7800).
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// Whether this is marked as an ID token: `nonce`, `at_hash`, `c_hash` or Keycloak's `typ`, or, where nothing marks
    /// it as an access token, one of these client ids as `aud` and no scope.
    pub fn is_id_token<S: AsRef<str>>(&self, client_ids: &[S]) -> bool {
        if self.access_token {
            return false;
        }
        let for_client = || {
            let aud = self.root().member("aud");
            let scoped = self.root().member("scope").is_some() || self.root().member("scp").is_some();
            !scoped && client_ids.iter().any(|id| aud.is_some_and(|aud| holds(aud, id.as_ref(), Reading::Whole)))
        };
        self.id_token || for_client()
    }

    fn root(&self) -> Value<'_> {
        self.document.root()
    }

    /// `iss`
    pub fn issuer(&self) -> Option<Value<'_>> {
        self.root().member("iss")
    }

    /// The claim at a path: the token's own, else what its issuer says.
    pub fn claim(&self, path: &ClaimPath) -> Option<Value<'_>> {
        at(&self.document, path).or_else(|| self.introspection.as_ref().and_then(|said| at(said, path)))
    }

    /// The claim at a path of the payload alone; of an opaque token, of what its issuer said.
    pub fn payload_claim(&self, path: &ClaimPath) -> Option<Value<'_>> {
        at(&self.document, path)
    }

    /// The claim at a path of what the issuer said, if it was asked.
    pub fn introspection_claim(&self, path: &ClaimPath) -> Option<Value<'_>> {
        match &self.introspection {
            Some(said) => at(said, path),
            None => self.opaque.then(|| at(&self.document, path)).flatten(),
        }
    }

    /// Whether the issuer was asked.
    pub fn is_introspected(&self) -> bool {
        self.opaque || self.introspection.is_some()
    }

    /// The payload's members in their order.
    pub fn members(&self) -> impl Iterator<Item = (Value<'_>, Value<'_>)> {
        self.root().members()
    }

    /// The payload as received; of an opaque token what its issuer said.
    pub fn json(&self) -> &str {
        self.root().raw()
    }

    /// What the issuer said of the token, if it was asked.
    pub fn introspection_json(&self) -> Option<&str> {
        match &self.introspection {
            Some(said) => Some(said.root().raw()),
            None => self.opaque.then(|| self.json()),
        }
    }

    /// The same as it came, where it was signed (RFC 9701).
    pub fn introspection_jwt(&self) -> Option<&str> {
        self.introspection_jwt.as_deref()
    }

    /// Whether these facts are of a token that only its issuer can read, or that only its issuer was asked about.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Bytes these facts take, themselves included.
    pub fn bytes(&self) -> usize {
        let said = self.introspection.as_ref().map_or(0, |said| size_of::<Document>() + said.heap_bytes());
        let jwt = self.introspection_jwt.as_ref().map_or(0, |jwt| jwt.len());
        size_of::<Self>() + self.document.heap_bytes() + said + jwt
    }
}

fn at<'d>(document: &'d Document, path: &ClaimPath) -> Option<Value<'d>> {
    path.names().try_fold(document.root(), |value, name| value.member(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn facts(payload: &str) -> Result<Facts, Reason> {
        Facts::parse(payload.as_bytes().to_vec(), "")
    }

    fn time(payload: &str, leeway_ms: i64) -> Option<Reason> {
        facts(payload).and_then(|facts| facts.check_time(NOW, leeway_ms)).err()
    }

    #[test]
    fn exp_is_required_and_a_positive_number() {
        // T29
        for bad in [
            "{}",
            "{\"exp\":null}",
            "{\"exp\":\"1700000100\"}",
            "{\"exp\":true}",
            "{\"exp\":[1700000100]}",
            "{\"exp\":{}}",
            "{\"exp\":-1}",
            "{\"exp\":0}",
            "{\"exp\":-0.0}",
        ] {
            assert_eq!(time(bad, 0), Some(Reason::ClaimInvalid), "{bad}");
        }
        assert_eq!(time("{\"exp\":1700000100}", 0), None);
    }

    #[test]
    fn times_may_be_fractional_or_absurd() {
        // T30
        assert_eq!(time("{\"exp\":1700000000.5}", 0), None);
        assert_eq!(time("{\"exp\":1699999999.5}", 0), Some(Reason::TokenExpired));
        assert_eq!(time("{\"exp\":1700000100,\"nbf\":1700000000.5}", 0), Some(Reason::TokenNotYetValid));
        assert_eq!(time("{\"exp\":2147483648}", 0), None);
        for huge in ["9223372036854775808", "18446744073709551617", "1e400", &format!("1{}", "0".repeat(400))] {
            assert_eq!(time(&format!("{{\"exp\":{huge}}}"), 0), Some(Reason::ClaimInvalid), "{huge}");
            let nbf = format!("{{\"exp\":1700000100,\"nbf\":{huge}}}");
            assert_eq!(time(&nbf, 0), Some(Reason::ClaimInvalid), "{huge}");
        }
    }

    #[test]
    fn exp_and_nbf_have_a_leeway() {
        // T31
        for (payload, leeway, expected) in [
            ("{\"exp\":1700000001}", 0, None),
            ("{\"exp\":1700000000}", 0, Some(Reason::TokenExpired)),
            ("{\"exp\":1699999970}", 30_000, Some(Reason::TokenExpired)),
            ("{\"exp\":1699999971}", 30_000, None),
            ("{\"exp\":1700000100,\"nbf\":1700000000}", 0, None),
            ("{\"exp\":1700000100,\"nbf\":1700000001}", 0, Some(Reason::TokenNotYetValid)),
            ("{\"exp\":1700000100,\"nbf\":1700000030}", 30_000, None),
            ("{\"exp\":1700000100,\"nbf\":1700000031}", 30_000, Some(Reason::TokenNotYetValid)),
        ] {
            assert_eq!(time(payload, leeway), expected, "{payload} {leeway}");
        }
    }

    #[test]
    fn payloads_are_objects_with_typed_claims() {
        // T26
        for bad in ["[]", "1", "\"a\"", "null", "", "{\"exp\":1}x", "{\"exp\":1,\"exp\":2}"] {
            assert_eq!(facts(bad).err(), Some(Reason::TokenMalformed), "{bad}");
        }
        for bad in ["{\"iss\":1}", "{\"sub\":[]}", "{\"jti\":{}}", "{\"nbf\":\"1\"}", "{\"iat\":\"x\"}"] {
            assert_eq!(facts(bad).err(), Some(Reason::ClaimInvalid), "{bad}");
        }
    }

    #[test]
    fn a_claim_is_known_by_its_name_however_it_is_spelled() {
        // T27
        assert!(facts("{\"\\u0063nf\":{}}").expect("claims").is_bound());
        assert_eq!(time("{\"\\u0065xp\":1700000100}", 0), None);
        assert_eq!(time("{\"e\\u0078p\":1699999999}", 0), Some(Reason::TokenExpired));
        assert_eq!(time("{\"exp\":1700000100,\"\\u006ebf\":1700000050}", 0), Some(Reason::TokenNotYetValid));
        assert_eq!(facts("{\"s\\u0075b\":1}").err(), Some(Reason::ClaimInvalid));
        assert!(facts("{\"\\u006eonce\":\"n\"}").expect("claims").is_id_token::<&str>(&[]));
    }

    #[test]
    fn id_tokens_are_told_by_their_marks() {
        // T25
        let id = |claims: &str, typ: &str| {
            Facts::parse(claims.as_bytes().to_vec(), typ).expect("claims").is_id_token(&["web"])
        };
        for (claims, typ, expected) in [
            ("{\"nonce\":\"n\"}", "jwt", true),
            ("{\"at_hash\":\"n\",\"scope\":\"openid\"}", "", true),
            ("{\"c_hash\":\"n\"}", "", true),
            ("{\"typ\":\"ID\"}", "jwt", true),
            ("{\"aud\":\"web\"}", "jwt", true),
            ("{\"aud\":[\"web\"]}", "", true),
            ("{\"aud\":\"web\",\"scope\":\"a\"}", "jwt", false),
            ("{\"aud\":\"web\",\"scp\":\"a\"}", "jwt", false),
            ("{\"aud\":\"api\"}", "jwt", false),
            ("{\"nonce\":\"n\"}", "at+jwt", false),
            ("{\"nonce\":\"n\",\"typ\":\"Bearer\"}", "jwt", false),
        ] {
            assert_eq!(id(claims, typ), expected, "{claims} {typ}");
        }
    }

    #[test]
    fn facts_are_compact() {
        let claims = format!(
            "{{\"iss\":\"https://idp.example.com/realms/main\",\"sub\":\"{}\",\"aud\":[\"api\",\"account\"],\"exp\":1700000000,\
             \"iat\":1690000000,\"jti\":\"{}\",\"scope\":\"read write profile email\",\"client_id\":\"app\",\"pad\":\"{}\"}}",
            "s".repeat(36),
            "j".repeat(36),
            "p".repeat(200)
        );
        assert!(facts(&claims).expect("claims").bytes() < 1024);
    }
}
