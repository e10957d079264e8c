//! `request-transformer`: removes, renames, replaces, adds and appends fields, arguments and body members of a request,
//! and gives it another path or method.
//!
//! `settings.rs` reads the steps, `template.rs` their values; `arguments.rs`, `multipart.rs` and the JSON of
//! `response-transformer` take queries and bodies apart. All values are made before the first step: they see the request
//! as it came.

pub mod arguments;
pub mod multipart;
mod settings;
pub mod template;

use std::borrow::Cow;

use self::arguments::Arguments;
use self::multipart::Multipart;
use self::template::{Source, Template};
use super::json::{Object, appended, string};
use super::{Access, Answer, Request};
use crate::config::reader::Reader;
use crate::http::h1::parse::is_authority;
use crate::http::head::{Head, Known, Owner, is_field_value};
use crate::reason::Reason;
use crate::router;

/// As in the configuration.
pub const NAME: &str = "request-transformer";
/// Kong's.
pub const PRIORITY: u32 = 801;

/// One configured instance.
pub struct RequestTransformer {
    uri: Option<Template>,
    method: Option<Box<str>>,
    headers: Box<[Step]>,
    query: Box<[Step]>,
    body: Box<[Step]>,
}

/// What happens to one name, in the order in which it happens.
#[derive(Debug)]
pub enum Step {
    /// All of the name go.
    Remove(Box<str>),
    /// Old and new name.
    Rename(Box<str>, Box<str>),
    /// Where there is one.
    Replace(Box<str>, Template),
    /// Where there is none.
    Add(Box<str>, Template),
    /// Beside what there is.
    Append(Box<str>, Template),
}

/// The values of as many steps, empty for those that have none.
type Values<'p> = Vec<Cow<'p, [u8]>>;

/// What a template made of a request cannot stand where it should.
struct Unfit;

/// A body whose members are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Multipart,
    Form,
}

impl Kind {
    /// By the content type, as Kong looks for it.
    fn of(head: &Head) -> Option<Self> {
        let content_type = head.get(Known::ContentType)?.to_ascii_lowercase();
        let has = |text: &str| memchr::memmem::find(&content_type, text.as_bytes()).is_some();
        match () {
            () if has("application/json") => Some(Self::Json),
            () if has("multipart/form-data") => Some(Self::Multipart),
            () if has("application/x-www-form-urlencoded") => Some(Self::Form),
            () => None,
        }
    }
}

impl Step {
    fn value(&self, source: &Source<'_>) -> Cow<'_, [u8]> {
        match self {
            Self::Remove(_) | Self::Rename(..) => Cow::Borrowed(&[]),
            Self::Replace(_, value) | Self::Add(_, value) | Self::Append(_, value) => value.fill(source),
        }
    }
}

impl RequestTransformer {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>) -> Option<Self> {
        settings::parse(config)
    }

    /// The access phase.
    pub async fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        // An answer to HEAD has no body: no other method may ask for it, nor HEAD for another's.
        let method = self.method.as_deref().filter(|_| request.head.method() != b"HEAD");
        let may_read = !self.body.is_empty() || method == Some("GET");
        let kind = may_read.then(|| Kind::of(request.head)).flatten();
        // Kong gives a form's arguments to the query, too, where the new method has no body to speak of.
        let form_to_query = method == Some("GET") && kind == Some(Kind::Form);
        let body_kind = kind.filter(|_| !self.body.is_empty() || form_to_query);
        if body_kind.is_some() && request.body.collect(usize::MAX).await.is_none() {
            return Access::Answer(Answer::error(413, Reason::BodyTooLarge, "Payload too large"));
        }
        match self.apply(request, method, body_kind, form_to_query) {
            Ok(()) => Access::Continue,
            Err(Unfit) => Access::Answer(Answer::error(400, Reason::RequestMalformed, "Bad request")),
        }
    }

    fn apply(
        &self,
        request: &mut Request<'_>,
        method: Option<&str>,
        kind: Option<Kind>,
        form_to_query: bool,
    ) -> Result<(), Unfit> {
        let query = request.query.clone().unwrap_or_default();
        let source = Source {
            head: request.head,
            query: &query,
            captures: request.captures(),
            consumer: request.notes.caller.consumer.as_deref(),
            facts: &|_| None,
        };
        let uri = self.uri.as_ref().map(|uri| path(&uri.fill(&source))).transpose()?;
        let (headers, arguments, members) =
            (values(&self.headers, &source), values(&self.query, &source), values(&self.body, &source));
        if !headers.iter().all(|value| is_field_value(value.trim_ascii())) {
            return Err(Unfit);
        }

        if let Some(uri) = uri {
            request.notes.upstream_path = Some(uri);
        }
        if let Some(method) = method {
            request.notes.client_method.get_or_insert_with(|| request.head.method().into());
            request.head.set_method(method.as_bytes());
        }
        for (step, value) in self.headers.iter().zip(&headers) {
            apply_to_head(step, value.trim_ascii(), request)?;
        }
        let form = form_to_query.then(|| request.body.collected(usize::MAX).map(Arguments::parse)).flatten();
        if let Some(kind) = kind {
            self.apply_to_body(request, kind, &members)?;
        }
        if !self.query.is_empty() || form.is_some() {
            let mut changed = Arguments::parse(&query);
            if let Some(form) = form {
                changed.extend(form);
            }
            for (step, value) in self.query.iter().zip(&arguments) {
                changed.apply(step, value);
            }
            request.query = (!changed.is_empty() || request.query.is_some()).then(|| Cow::Owned(changed.text()));
        }
        Ok(())
    }

    fn apply_to_body(&self, request: &mut Request<'_>, kind: Kind, values: &Values<'_>) -> Result<(), Unfit> {
        let Some(body) = request.body.collected(usize::MAX).filter(|_| !self.body.is_empty()) else { return Ok(()) };
        let steps = self.body.iter().zip(values);
        let changed = match kind {
            Kind::Json => {
                let object = if body.is_empty() { Some(Object::default()) } else { Object::parse(body) };
                // What is no object stays as it is.
                let Some(mut object) = object else { return Ok(()) };
                for (step, value) in steps {
                    apply_to_object(step, value, &mut object)?;
                }
                if body.is_empty() && object.is_empty() { Vec::new() } else { object.text().into_bytes() }
            }
            Kind::Form => {
                let mut arguments = Arguments::parse(body);
                steps.for_each(|(step, value)| arguments.apply(step, value));
                arguments.text()
            }
            Kind::Multipart => {
                let content_type = request.head.get(Known::ContentType).unwrap_or_default();
                let parsed = multipart::boundary(content_type).and_then(|boundary| Multipart::parse(body, boundary));
                let Some(mut multipart) = parsed else { return Ok(()) };
                // Renamed first, then removed: the one place where the order is another one.
                let is_rename = |step: &Step| matches!(step, Step::Rename(..));
                let (renames, others): (Vec<_>, Vec<_>) = steps.partition(|(step, _)| is_rename(step));
                for (step, value) in renames.into_iter().chain(others) {
                    if multipart.ends_with(value) {
                        return Err(Unfit);
                    }
                    multipart.apply(step, value);
                }
                multipart.text()
            }
        };
        if changed != body {
            // It was collected whole.
            let _ = request.body.replace(changed);
        }
        Ok(())
    }
}

fn values<'p>(steps: &'p [Step], source: &Source<'_>) -> Values<'p> {
    steps.iter().map(|step| step.value(source)).collect()
}

fn apply_to_head(step: &Step, value: &[u8], request: &mut Request<'_>) -> Result<(), Unfit> {
    let has = |head: &Head, name: &str| head.fields().any(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
    let head = &mut *request.head;
    match step {
        Step::Remove(name) => head.remove_named(name.as_bytes()),
        Step::Rename(old, new) if has(head, old) => {
            let is_old = |name: &[u8]| name.eq_ignore_ascii_case(old.as_bytes());
            let values: Vec<Vec<u8>> =
                head.fields().filter(|field| is_old(field.name)).map(|field| field.value.to_vec()).collect();
            head.remove_named(old.as_bytes());
            head.remove_named(new.as_bytes());
            values.iter().for_each(|value| head.push(Owner::Edge, new.as_bytes(), value));
        }
        // A template may come to nothing: then nothing is set, as with a value that is empty.
        Step::Replace(..) | Step::Add(..) | Step::Append(..) if value.is_empty() => {}
        Step::Replace(name, _) if name.eq_ignore_ascii_case("host") => {
            is_authority(value).then_some(()).ok_or(Unfit)?;
            request.notes.upstream_host = Some(value.to_vec());
        }
        Step::Replace(name, _) if has(head, name) => head.replace(name.as_bytes(), value),
        Step::Add(name, _) if !has(head, name) => head.push(Owner::Edge, name.as_bytes(), value),
        Step::Append(name, _) => head.push(Owner::Edge, name.as_bytes(), value),
        Step::Rename(..) | Step::Replace(..) | Step::Add(..) => {}
    }
    Ok(())
}

fn apply_to_object(step: &Step, value: &[u8], object: &mut Object) -> Result<(), Unfit> {
    let value = string(std::str::from_utf8(value).map_err(|_| Unfit)?);
    match step {
        Step::Remove(name) => object.remove(name),
        Step::Rename(old, new) => object.rename(old, new),
        Step::Replace(name, _) if object.get(name).is_some() => object.set(name, value.into()),
        Step::Add(name, _) if object.get(name).is_none() => object.set(name, value.into()),
        Step::Append(name, _) => {
            let appended = appended(object.get(name), &value);
            object.set(name, appended.into());
        }
        Step::Replace(..) | Step::Add(..) => {}
    }
    Ok(())
}

/// A path as it goes upstream: what cannot stand in one is escaped, and one that climbs is none.
fn path(filled: &[u8]) -> Result<Vec<u8>, Unfit> {
    let mut path = Vec::with_capacity(filled.len() + 1);
    if filled.first() != Some(&b'/') {
        path.push(b'/');
    }
    for (index, byte) in filled.iter().enumerate() {
        let is_escape = || filled.get(index + 1..index + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        match byte {
            b'%' if is_escape() => path.push(b'%'),
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte) => path.push(*byte),
            byte => path.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    let mut scratch = Vec::new();
    let normal = router::normalize_path(&path, &mut scratch).map_err(|_| Unfit)?;
    let segments = |path: &[u8]| path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).count();
    // A dot segment, spelled out or escaped, would leave the place that the configuration names.
    (segments(normal) == segments(&path)).then_some(path).ok_or(Unfit)
}

#[cfg(test)]
mod tests;
