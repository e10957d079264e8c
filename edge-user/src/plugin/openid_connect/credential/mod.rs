//! Where the credentials of a request stand, that they stand there once (RFC 6750, 2), and how they are taken out.

pub(super) mod basic;
pub(super) mod named;
mod places;

use std::borrow::Cow;
use std::fmt;

use crate::http::head::{Head, Known};
use crate::plugin::arguments::{self, Argument, Body};
use crate::plugin::{Request, RequestBody};
use crate::reason::Reason;
pub(super) use places::Places;
pub use places::Showing;
use places::{Fields, KONG_FIELDS};

/// The argument that bears a token (RFC 6750, 2.2 and 2.3).
pub(super) const ACCESS_TOKEN: &str = "access_token";

/// The status and reason of a refusal.
pub(super) type Refused = (u16, Reason);

const MISSING: Refused = (401, Reason::HeaderMissing);
const MALFORMED: Refused = (401, Reason::HeaderMalformed);
/// RFC 9110, 5.3: a field that is no list must not be repeated, even with equal values.
const REPEATED: Refused = (400, Reason::HeaderMalformed);
/// RFC 6750, 2 and 3.1: more than one method, or the same argument again.
const TWICE: Refused = (400, Reason::TokenInQuery);

/// The scheme a token came under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::plugin) enum Scheme {
    /// RFC 6750; every place but `Authorization` means this one.
    Bearer,
    /// RFC 9449, 7.1
    Dpop,
}

/// Which schemes bear tokens: any other one is no attempt at ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Schemes {
    /// `Bearer` alone.
    Bearer,
    /// `Bearer` and `DPoP`.
    BearerAndDpop,
}

/// Where a credential stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place<'p> {
    /// In the field of this name.
    Field(&'p str),
    /// In the query.
    Query,
    /// In the body.
    Body,
    /// In the cookie of this name.
    Cookie(&'p str),
}

/// As an operator calls it.
impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "the header {name}"),
            Self::Query => write!(f, "the query"),
            Self::Body => write!(f, "the body"),
            Self::Cookie(name) => write!(f, "the cookie {name}"),
        }
    }
}

/// What an operator is told of a credential that was found.
pub(super) fn found(scheme: Scheme, place: &Place<'_>) -> String {
    format!("{scheme:?} token in {place}")
}

impl Place<'_> {
    /// Whether this is `Authorization`.
    pub(super) fn is_authorization(&self) -> bool {
        matches!(self, Self::Field(name) if *name == Known::Authorization.spelling())
    }
}

/// The token of a request.
pub(super) struct Found<'a, 'p> {
    /// The token; only characters of RFC 6750's `b64token`.
    pub(super) token: Cow<'a, [u8]>,
    /// What it came under.
    pub(super) scheme: Scheme,
    /// Where it stands.
    pub(super) place: Place<'p>,
    /// Whether it is spelled `Authorization: Bearer <token>` already.
    pub(super) is_canonical: bool,
}

/// What of a request may bear credentials.
#[derive(Clone, Copy)]
pub(super) struct Sent<'a> {
    head: &'a Head,
    query: Option<&'a [u8]>,
    body: &'a dyn RequestBody,
}

impl<'a> Sent<'a> {
    /// What a request bears. Its body counts once it was collected (`Body::collect`).
    pub(super) fn of(request: &'a Request<'_>) -> Self {
        Self { head: request.head, query: request.query.as_deref(), body: &*request.body }
    }

    /// The text of the one field of a name.
    pub(super) fn text_of_field(&self, name: &str) -> Option<String> {
        let value = self.field(name).ok().flatten()?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    }

    /// The text of the one argument of a name, in the query or else in the body.
    pub(super) fn text_of_argument(&self, name: &str) -> Option<String> {
        let text = |argument| match argument {
            Argument::Once(value) => String::from_utf8(value.into_owned()).ok(),
            Argument::Absent | Argument::Unusable => None,
        };
        text(self.in_query(name)).or_else(|| text(self.in_body(name)))
    }

    fn in_query(&self, name: &str) -> Argument<'a> {
        self.query.map_or(Argument::Absent, |query| arguments::find(query, name))
    }

    fn in_body(&self, name: &str) -> Argument<'a> {
        Body::of(self.head, self.body).map_or(Argument::Absent, |body| body.find(name))
    }

    /// The one field of a name.
    fn field(&self, name: &str) -> Result<Option<&'a [u8]>, Refused> {
        let named = |name: &str, field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
        let mut values = self.head.fields().filter(|field| named(name, field.name)).map(|field| field.value);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(REPEATED),
        }
    }
}

impl Places {
    /// Finds the token, in Kong's order: field, query, body, cookie. A second one is refused wherever it is looked for,
    /// and in the query always: some server behind would take it from there.
    pub(super) fn find<'a, 'p>(&'p self, sent: &Sent<'a>, schemes: Schemes) -> Result<Found<'a, 'p>, Refused> {
        let mut found = self.find_field(sent, schemes)?;
        let query = sent.query.filter(|query| arguments::has(query, ACCESS_TOKEN));
        let arguments = [
            (
                Place::Query,
                query.filter(|_| self.query).map_or(Argument::Absent, |query| arguments::find(query, ACCESS_TOKEN)),
            ),
            (Place::Body, if self.body { sent.in_body(ACCESS_TOKEN) } else { Argument::Absent }),
        ];
        let cookie = self.cookie.as_deref().map(|name| (Place::Cookie(name), cookie(sent.head, name)));
        for (place, argument) in arguments.into_iter().chain(cookie) {
            match argument {
                Argument::Absent => {}
                Argument::Once(token) if found.is_none() => found = Some(bare(token, place)?),
                Argument::Once(_) | Argument::Unusable => return Err(TWICE),
            }
        }
        match found {
            None => Err(MISSING),
            Some(found) if query.is_some() && found.place != Place::Query => Err(TWICE),
            Some(found) => Ok(found),
        }
    }

    /// Takes every token out of what goes upstream, wherever one may stand. `Authorization` is the caller's to remove.
    pub(super) fn remove(&self, request: &mut Request<'_>) {
        match &self.fields {
            Fields::Nowhere | Fields::Authorization => {}
            Fields::Named(name) => remove(request, Place::Field(name), &[]),
            Fields::Kong => {
                KONG_FIELDS.iter().for_each(|name| remove(request, Place::Field(name), &[]));
            }
        }
        // Wherever it is looked for, and in the query always: some server behind would take it from there.
        remove(request, Place::Query, &[ACCESS_TOKEN]);
        if self.body {
            remove(request, Place::Body, &[ACCESS_TOKEN]);
        }
        if let Some(name) = &self.cookie {
            remove(request, Place::Cookie(name), &[]);
        }
    }

    fn find_field<'a, 'p>(&'p self, sent: &Sent<'a>, schemes: Schemes) -> Result<Option<Found<'a, 'p>>, Refused> {
        match &self.fields {
            Fields::Nowhere => Ok(None),
            Fields::Authorization => authorization(sent.head, schemes),
            Fields::Named(name) => match sent.field(name)? {
                None => Ok(None),
                Some(value) => field(value, name, schemes),
            },
            Fields::Kong => {
                let mut found = authorization(sent.head, schemes)?;
                for name in KONG_FIELDS {
                    match sent.field(name)? {
                        None => {}
                        Some(_) if found.is_some() => return Err(TWICE),
                        Some(value) => found = field(value, name, schemes)?,
                    }
                }
                Ok(found)
            }
        }
    }
}

/// Takes a credential out of what goes upstream: the field, the cookie, or the arguments of these names, where it was
/// found; all else stays as it came (T43).
pub(super) fn remove(request: &mut Request<'_>, place: Place<'_>, arguments: &[&str]) {
    match place {
        Place::Field(name) => request.head.remove_named(name.as_bytes()),
        Place::Cookie(name) => remove_cookie(request.head, name),
        Place::Query => {
            if let Some(rest) = request.query.as_deref().and_then(|query| arguments::without(query, arguments)) {
                request.query = (!rest.is_empty()).then_some(Cow::Owned(rest));
            }
        }
        Place::Body => {
            let rest = Body::of(request.head, request.body).and_then(|body| body.without(arguments));
            // Found in it, so it was collected whole.
            let _ = rest.is_some_and(|rest| request.body.replace(rest));
        }
    }
}

fn authorization<'a>(head: &'a Head, schemes: Schemes) -> Result<Option<Found<'a, 'static>>, Refused> {
    let mut fields = head.all(Known::Authorization);
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value, Known::Authorization.spelling(), schemes),
        (Some(_), Some(_)) => Err(REPEATED),
    }
}

/// A field of another name: the token alone, or as it stands in `Authorization`.
fn field<'a, 'p>(value: &'a [u8], name: &'p str, schemes: Schemes) -> Result<Option<Found<'a, 'p>>, Refused> {
    match value.contains(&b' ') || scheme(value, schemes).is_some() {
        true => parse(value, name, schemes),
        false => bare(Cow::Borrowed(value), Place::Field(name)).map(Some),
    }
}

fn bare<'a, 'p>(token: Cow<'a, [u8]>, place: Place<'p>) -> Result<Found<'a, 'p>, Refused> {
    match is_b64token(&token) {
        true => Ok(Found { token, scheme: Scheme::Bearer, place, is_canonical: false }),
        false => Err(MALFORMED),
    }
}

fn scheme(word: &[u8], schemes: Schemes) -> Option<Scheme> {
    match schemes {
        _ if word.eq_ignore_ascii_case(b"bearer") => Some(Scheme::Bearer),
        Schemes::BearerAndDpop if word.eq_ignore_ascii_case(b"dpop") => Some(Scheme::Dpop),
        _ => None,
    }
}

/// A scheme and its token; nothing where the scheme is another one.
fn parse<'a, 'p>(value: &'a [u8], name: &'p str, schemes: Schemes) -> Result<Option<Found<'a, 'p>>, Refused> {
    let word_len = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (word, rest) = value.split_at(word_len);
    let Some(scheme) = scheme(word, schemes) else {
        // Another scheme with its credentials is no attempt at ours; anything else is a broken one.
        let other = !rest.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        return if other { Ok(None) } else { Err(MALFORMED) };
    };
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = &rest[spaces..];
    if !is_b64token(token) {
        return Err(MALFORMED);
    }
    let is_canonical = spaces == 1 && word == b"Bearer" && name == Known::Authorization.spelling();
    Ok(Some(Found { token: Cow::Borrowed(token), scheme, place: Place::Field(name), is_canonical }))
}

/// RFC 6750, 2.1: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
pub(in crate::plugin) fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &token[..token.len() - padding];
    !body.is_empty() && body.iter().all(|byte| B64TOKEN[usize::from(*byte)])
}

const B64TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        table[byte] = it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    table
};

/// What there is of a cookie (RFC 6265, 4.2.1).
fn cookie<'a>(head: &'a Head, name: &str) -> Argument<'a> {
    let mut values = head.all(Known::Cookie).flat_map(crumbs).filter_map(|crumb| cookie_value(crumb, name));
    match (values.next(), values.next()) {
        (None, _) => Argument::Absent,
        (Some(value), None) => Argument::Once(Cow::Borrowed(value)),
        (Some(_), Some(_)) => Argument::Unusable,
    }
}

fn crumbs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';')
}

fn cookie_value<'a>(crumb: &'a [u8], name: &str) -> Option<&'a [u8]> {
    crumb.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn remove_cookie(head: &mut Head, name: &str) {
    let kept = |crumb: &&[u8]| cookie_value(crumb, name).is_none();
    let fields = head.all(Known::Cookie).map(|field| crumbs(field).filter(kept).collect::<Vec<_>>().join(&b';'));
    let fields: Vec<Vec<u8>> = fields.collect();
    let fields: Vec<&[u8]> = fields.iter().map(|field| field.trim_ascii()).filter(|field| !field.is_empty()).collect();
    match fields.is_empty() {
        true => head.remove(Known::Cookie),
        false => {
            let rest = fields.join(&b"; "[..]);
            head.set_known(Known::Cookie, &rest);
        }
    }
}

#[cfg(test)]
mod tests;
