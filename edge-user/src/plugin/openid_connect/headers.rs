//! What upstreams and clients read of a verified caller in fields: tokens, keys, documents and single claims.
//!
//! A field's form follows from the claim's type, never from its content: a string stands as it is, an array of strings
//! is joined with `, `, numbers and booleans are written as in JSON, anything else is the base64 of its JSON; so are
//! keys and documents. A text that holds controls or characters beyond ASCII, or has white space at an end, is left
//! out, as is an array with such a text or with a comma in one: an encoding could be mistaken for another caller's text
//! (T35). What is left out or missing leaves no field behind: the client's own copies never pass (P1).

use super::sources::Sources;
use crate::config::reader::Reader;
use crate::config::value;
use crate::http::head::{Head, Known, Owner, is_field_name, is_field_value};
use crate::plugin::Notes;
use crate::plugin::fields::{is_of_hop, is_same};
use crate::plugin::naming::claim_path;
use crate::token::claims::ClaimPath;
use crate::token::json::{Kind, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The fields of one instance.
pub(super) struct Headers {
    hide_credentials: bool,
    upstream: Box<[Field]>,
    downstream: Box<[Field]>,
    /// Whether upstreams get the token alone, as `Authorization: Bearer`: the usual case, in which a request that came
    /// so is left as it is.
    is_plain: bool,
}

/// One field.
#[derive(PartialEq, Eq, Debug)]
struct Field {
    name: Box<str>,
    content: Content,
}

/// What a field says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    Part(Part),
    Claim(ClaimPath),
}

/// What a field says that is no single claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The access token.
    AccessToken,
    /// The same after `Bearer `.
    BearerToken,
    /// The key that verified it.
    AccessTokenJwk,
    /// What introspection answered.
    Introspection,
    /// The same as a JWT (RFC 9701).
    IntrospectionJwt,
    /// The ID token.
    IdToken,
    /// The key that verified it.
    IdTokenJwk,
    /// The refresh token.
    RefreshToken,
    /// What the user info endpoint answered.
    UserInfo,
    /// The same as a JWT.
    UserInfoJwt,
}

/// The parameters of parts, towards upstreams and towards clients.
const PARTS: [(&str, &str, Part); 9] = [
    ("upstream_access_token_header", "downstream_access_token_header", Part::AccessToken),
    ("upstream_access_token_jwk_header", "downstream_access_token_jwk_header", Part::AccessTokenJwk),
    ("upstream_introspection_header", "downstream_introspection_header", Part::Introspection),
    ("upstream_introspection_jwt_header", "downstream_introspection_jwt_header", Part::IntrospectionJwt),
    ("upstream_id_token_header", "downstream_id_token_header", Part::IdToken),
    ("upstream_id_token_jwk_header", "downstream_id_token_jwk_header", Part::IdTokenJwk),
    ("upstream_refresh_token_header", "downstream_refresh_token_header", Part::RefreshToken),
    ("upstream_user_info_header", "downstream_user_info_header", Part::UserInfo),
    ("upstream_user_info_jwt_header", "downstream_user_info_jwt_header", Part::UserInfoJwt),
];

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Upstream,
    Downstream,
}

/// What one request has of each part. Documents and keys are JSON, tokens are as received.
pub(super) struct Parts<'a> {
    /// Where claims are looked for.
    pub(super) sources: Sources<'a>,
    /// Absent where the request's `Authorization` says `Bearer` and the token already; see `Headers::needs_token`.
    pub(super) access_token: Option<&'a [u8]>,
    pub(super) access_token_jwk: Option<&'a str>,
    pub(super) introspection: Option<&'a str>,
    pub(super) introspection_jwt: Option<&'a [u8]>,
    pub(super) id_token: Option<&'a [u8]>,
    pub(super) id_token_jwk: Option<&'a str>,
    pub(super) refresh_token: Option<&'a [u8]>,
    pub(super) user_info: Option<&'a str>,
    pub(super) user_info_jwt: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Those of a request with nothing but a token that stands in its place.
    pub(super) fn of(sources: Sources<'a>) -> Self {
        Self {
            sources,
            access_token: None,
            access_token_jwk: None,
            introspection: None,
            introspection_jwt: None,
            id_token: None,
            id_token_jwk: None,
            refresh_token: None,
            user_info: None,
            user_info_jwt: None,
        }
    }

    /// The field's value; nothing where the part or claim is missing, or cannot stand in a field.
    fn value(&self, content: &Content) -> Option<Vec<u8>> {
        let token = |token: Option<&[u8]>| token.filter(|token| is_text(token)).map(<[u8]>::to_vec);
        let document = |json: Option<&str>| json.map(base64);
        let part = match content {
            Content::Claim(path) => return self.sources.find(path).and_then(claim_value),
            Content::Part(part) => part,
        };
        match part {
            Part::AccessToken => token(self.access_token),
            Part::BearerToken => token(self.access_token).map(|token| [b"Bearer ", &token[..]].concat()),
            Part::AccessTokenJwk => document(self.access_token_jwk),
            Part::Introspection => document(self.introspection),
            Part::IntrospectionJwt => token(self.introspection_jwt),
            Part::IdToken => token(self.id_token),
            Part::IdTokenJwk => document(self.id_token_jwk),
            Part::RefreshToken => token(self.refresh_token),
            Part::UserInfo => document(self.user_info),
            Part::UserInfoJwt => token(self.user_info_jwt),
        }
    }
}

impl Headers {
    /// Reads the settings; problems go to the reader's sink.
    pub(super) fn parse(config: &mut Reader<'_>) -> Self {
        let hide_credentials = config.bool("hide_credentials").unwrap_or(true);
        let upstream = listing(config, Way::Upstream);
        let downstream = listing(config, Way::Downstream);
        let is_plain = match &upstream[..] {
            [only] => only.content == Content::Part(Part::BearerToken) && is_authorization(&only.name),
            _ => false,
        };
        Self { hide_credentials, upstream, downstream, is_plain }
    }

    /// Lower-case names of the fields by which it speaks to upstreams. `Authorization` is the client's until it is
    /// judged.
    pub(super) fn owned_names(&self) -> Vec<Box<str>> {
        let names = self.upstream.iter().map(|field| field.name.to_ascii_lowercase());
        names.filter(|name| name != "authorization").map(Box::from).collect()
    }

    /// Whether credentials that came with the request are kept from upstreams.
    pub(super) fn hide_credentials(&self) -> bool {
        self.hide_credentials
    }

    /// Whether some field says this part, so that the request has to have it.
    pub(super) fn wants(&self, part: Part) -> bool {
        let says = |field: &Field| field.content == Content::Part(part);
        self.upstream.iter().chain(&self.downstream).any(says)
    }

    /// Whether `apply_*` has to be told the access token. `is_canonical`: the client sent exactly what upstreams are to
    /// get, `Authorization: Bearer <token>`, and nowhere else.
    pub(super) fn needs_token(&self, is_canonical: bool) -> bool {
        let stays = |field: &Field| {
            is_canonical && field.content == Content::Part(Part::BearerToken) && is_authorization(&field.name)
        };
        let is_token = |field: &Field| matches!(field.content, Content::Part(Part::AccessToken | Part::BearerToken));
        self.upstream.iter().any(|field| is_token(field) && !stays(field)) || self.downstream.iter().any(is_token)
    }

    /// Sets what upstreams read. Credentials in other places than `Authorization` are the caller's to remove.
    pub(super) fn apply_upstream(&self, head: &mut Head, parts: &Parts<'_>) {
        if self.is_plain && parts.access_token.is_none() {
            return;
        }
        let keeps = |field: &Field| {
            parts.access_token.is_none()
                && field.content == Content::Part(Part::BearerToken)
                && is_authorization(&field.name)
        };
        if self.hide_credentials && !self.upstream.iter().any(keeps) {
            head.remove(Known::Authorization);
        }
        for field in self.upstream.iter().filter(|field| !keeps(field)) {
            head.remove_named(field.name.as_bytes());
            if let Some(value) = parts.value(&field.content) {
                head.push(Owner::Edge, field.name.as_bytes(), &value);
            }
        }
    }

    /// Leaves nothing of a credential that was not verified: what upstreams see of an anonymous caller. Without
    /// `hide_credentials` a client's `Authorization` passes, if it is not one of the names the edge speaks by.
    pub(super) fn apply_anonymous(&self, head: &mut Head, notes: &mut Notes) {
        if self.hide_credentials || self.upstream.iter().any(|field| is_authorization(&field.name)) {
            head.remove(Known::Authorization);
        }
        for field in &self.downstream {
            notes.withhold(String::from(&*field.name));
        }
    }

    /// Sets what clients read; an upstream's own fields of these names never pass.
    pub(super) fn apply_downstream(&self, notes: &mut Notes, parts: &Parts<'_>) {
        for field in &self.downstream {
            match parts.value(&field.content) {
                Some(value) => notes.reply(String::from(&*field.name), value),
                None => notes.withhold(String::from(&*field.name)),
            }
        }
    }
}

fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("authorization")
}

/// Whether a text may stand in a field as it is.
fn is_text(text: &[u8]) -> bool {
    !text.is_empty() && text.is_ascii() && is_field_value(text) && !text.contains(&b'\t')
}

/// A text of a claim that may stand in a field as it is.
pub(super) fn is_clean(text: &str) -> bool {
    is_text(text.as_bytes())
}

fn base64(json: &str) -> Vec<u8> {
    STANDARD.encode(json).into_bytes()
}

/// A claim as a field says it.
fn claim_value(claim: Value<'_>) -> Option<Vec<u8>> {
    match claim.kind() {
        Kind::Text | Kind::Escaped => claim.text().filter(|text| is_clean(text)).map(|text| text.as_bytes().to_vec()),
        Kind::Number | Kind::True | Kind::False => Some(claim.raw().as_bytes().to_vec()),
        Kind::Null => None,
        Kind::Array if claim.items().all(Value::is_text) => {
            let mut joined = Vec::new();
            for item in claim.items() {
                let item = item.text().filter(|text| is_clean(text) && !text.contains(','))?;
                if !joined.is_empty() {
                    joined.extend_from_slice(b", ");
                }
                joined.extend_from_slice(item.as_bytes());
            }
            (!joined.is_empty()).then_some(joined)
        }
        Kind::Array | Kind::Object => Some(base64(claim.raw())),
    }
}

/// All fields of one way, each name once.
fn listing(config: &mut Reader<'_>, way: Way) -> Box<[Field]> {
    let mut listing = Listing { way, list: Vec::new() };
    for (upstream, downstream, part) in PARTS {
        let key = if way == Way::Upstream { upstream } else { downstream };
        if let Some((name, part)) = part_header(config, key, part) {
            listing.add(config, key, name, Content::Part(part));
        }
    }
    let (key, claims, names) = match way {
        Way::Upstream => ("upstream_headers", "upstream_headers_claims", "upstream_headers_names"),
        Way::Downstream => ("downstream_headers", "downstream_headers_claims", "downstream_headers_names"),
    };
    for mut item in config.objects(key) {
        let name = item.required_string("header", "the header's name");
        let path = if item.missing("path", "the claim's path") { None } else { claim_path(&mut item, "path") };
        item.finish();
        if let Some((name, path)) = name.zip(path) {
            listing.add(config, key, name, Content::Claim(path));
        }
    }
    let listed = config.strings_lenient(claims).unwrap_or_default();
    let named = config.strings_lenient(names).unwrap_or_default();
    if listed.len() != named.len() {
        config.problem(
            names,
            format!("{} names for {} claims", named.len(), listed.len()),
            format!("as many as `{claims}`"),
        );
    }
    for (claim, name) in listed.into_iter().zip(named) {
        listing.add(config, names, name, Content::Claim(ClaimPath::new([claim])));
    }
    listing.list.into()
}

/// The name of a part's field. The access token may stand after its scheme: `name:bearer`.
fn part_header<'a>(config: &mut Reader<'a>, key: &'static str, part: Part) -> Option<(&'a str, Part)> {
    let is_null = config.is_null(key);
    let spelled = match config.raw(key).map(|value| &value.kind) {
        // Nothing and `null` differ: the token goes upstream unless that is switched off.
        None if key == "upstream_access_token_header" && !is_null => "authorization:bearer",
        None => return None,
        Some(value::Kind::String(text)) => text.as_str(),
        Some(_) => {
            config.problem(key, "no string", "a header name");
            return None;
        }
    };
    if part != Part::AccessToken {
        return (!spelled.is_empty()).then_some((spelled, part));
    }
    let (name, part) = match spelled.split_once(':') {
        Some((name, form)) if form.eq_ignore_ascii_case("bearer") => (name, Part::BearerToken),
        Some(_) => {
            config.problem(key, format!("{spelled:?}"), "a header name, alone or with `:bearer`");
            return None;
        }
        None => (spelled, part),
    };
    if is_authorization(name) && part == Part::AccessToken {
        config.warn(key, "sends the token without `Bearer `, as in Kong; the default is `authorization:bearer`");
    }
    (!name.is_empty()).then_some((name, part))
}

/// Fields under way.
struct Listing {
    way: Way,
    list: Vec<Field>,
}

impl Listing {
    fn add(&mut self, config: &Reader<'_>, key: &str, name: &str, content: Content) {
        if let Some(expected) = self.refused(config, name) {
            config.problem(key, format!("{name:?}"), expected);
            return;
        }
        let name = if is_authorization(name) { "Authorization" } else { name };
        match self.list.iter().find(|field| is_same(field.name.as_bytes(), name.as_bytes())) {
            // Kong's dumps say the deprecated pair beside what replaces it.
            Some(field) if field.content == content => {}
            Some(_) => {
                config.problem(key, format!("{name:?} again"), "each header once: two would say different things")
            }
            None => self.list.push(Field { name: name.into(), content }),
        }
    }

    /// Why a name cannot be configured.
    fn refused(&self, config: &Reader<'_>, name: &str) -> Option<&'static str> {
        if !is_field_name(name.as_bytes()) {
            return Some("a header name");
        }
        let is = |others: &[&str]| others.iter().any(|other| is_same(name.as_bytes(), other.as_bytes()));
        let ours = match Known::of(name.as_bytes()) {
            Known::Other | Known::Authorization | Known::Cookie | Known::Accept | Known::UserAgent => false,
            // What frames the message, and what the edge says of itself and of the way.
            _ => true,
        };
        if ours || is_of_hop(name) {
            return Some("another name: the edge writes this header itself");
        }
        if self.way == Way::Downstream {
            return None;
        }
        let has = |keys: &[&str]| keys.iter().any(|key| config.has(key));
        if is(&["X-Credential-Identifier", "X-Anonymous-Consumer"])
            || is(&["X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username"])
                && has(&["consumer_claim", "consumer_claims", "anonymous"])
            || is(&["X-Authenticated-Groups"]) && has(&["authenticated_groups_claim"])
        {
            return Some("another name: consumers and credentials are told by this one");
        }
        None
    }
}

#[cfg(test)]
mod tests;
