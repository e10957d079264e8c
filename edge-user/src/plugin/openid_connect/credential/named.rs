//! Credentials other than the bearer token, and the choice of a client: in a field, the query or the body.

use super::basic::{Secret, basic};
use super::places::types;
use super::{MALFORMED, Place, Refused, Sent, TWICE};
use crate::config::reader::Reader;
use crate::http::head::{Known, is_field_name};
use crate::plugin::Request;
use crate::plugin::arguments::Argument;

/// Where one kind of credential is looked for: the parameters `*_param_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct ParamTypes {
    header: bool,
    query: bool,
    body: bool,
}

/// A credential that stands alone.
#[derive(Debug)]
pub(in super::super) struct Named<'p> {
    /// Its value.
    pub(in super::super) value: Secret,
    /// Where it stands.
    pub(in super::super) place: Place<'p>,
}

/// Which two arguments make a credential where it does not come as Basic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum PairKind {
    /// `client_id` and `client_secret`; as Basic both are form-encoded (RFC 6749, 2.3.1).
    Client,
    /// `username` and `password`.
    Password,
}

impl PairKind {
    /// The names of the arguments, which is what to remove.
    pub(in super::super) fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Client => ["client_id", "client_secret"],
            Self::Password => ["username", "password"],
        }
    }
}

/// A name and its secret.
#[derive(Debug)]
pub(in super::super) struct Pair {
    /// The client's id or the user's name.
    pub(in super::super) id: Secret,
    /// What proves it.
    pub(in super::super) secret: Secret,
    /// Where both stand.
    pub(in super::super) place: Place<'static>,
}

impl ParamTypes {
    /// The edge's default, as for bearer tokens: URLs end up in logs, and bodies cost the reading (RFC 9700, 4.3.2).
    const HEADER: Self = Self { header: true, query: false, body: false };

    /// Reads one of the parameters; problems go to the reader's sink.
    pub(in super::super) fn parse(config: &mut Reader<'_>, key: &'static str) -> Self {
        let header = Self::HEADER;
        let query = Self { header: false, query: true, body: false };
        let body = Self { header: false, query: false, body: true };
        let Some(types) = types(config, key, &[("header", header), ("query", query), ("body", body)]) else {
            return Self::HEADER;
        };
        if types.is_empty() {
            config.problem(key, "an empty list", "at least one of: header, query, body");
        }
        let has = |of: fn(&Self) -> bool| types.iter().any(of);
        Self { header: has(|types| types.header), query: has(|types| types.query), body: has(|types| types.body) }
    }

    /// Whether a field is among them.
    pub(in super::super) fn reads_field(self) -> bool {
        self.header
    }

    /// Whether the body is among them, and so must be collected first.
    pub(in super::super) fn reads_body(self) -> bool {
        self.body
    }

    /// Finds the credential in the field or argument of this name; in more than one place, or again in one, it is
    /// refused.
    pub(in super::super) fn named<'p>(self, name: &'p str, sent: &Sent<'_>) -> Result<Option<Named<'p>>, Refused> {
        let mut found = None;
        if self.header
            && let Some(value) = sent.field(name)?
        {
            found = Some(Named { value: Secret::new(value).ok_or(MALFORMED)?, place: Place::Field(name) });
        }
        for (place, argument) in self.arguments(name, sent) {
            match argument {
                Argument::Absent => {}
                Argument::Once(value) if found.is_none() => {
                    found = Some(Named { value: Secret::new(&value).ok_or(MALFORMED)?, place });
                }
                Argument::Once(_) | Argument::Unusable => return Err(TWICE),
            }
        }
        Ok(found)
    }

    /// Takes what stands under this name, where such a credential may stand, out of what goes upstream.
    pub(in super::super) fn remove_named(self, name: &str, request: &mut Request<'_>) {
        if self.header {
            super::remove(request, Place::Field(name), &[]);
        }
        self.remove_arguments(&[name], request);
    }

    /// The same for both arguments of a pair. `Authorization` is the caller's to remove.
    pub(in super::super) fn remove_pair(self, kind: PairKind, request: &mut Request<'_>) {
        self.remove_arguments(&kind.arguments(), request);
    }

    fn remove_arguments(self, names: &[&str], request: &mut Request<'_>) {
        for (place, _) in [(Place::Query, self.query), (Place::Body, self.body)].iter().filter(|(_, is_read)| *is_read)
        {
            super::remove(request, *place, names);
        }
    }

    /// Finds both parts of a credential, as Basic or as two arguments of one place; one alone is none.
    pub(in super::super) fn pair(self, kind: PairKind, sent: &Sent<'_>) -> Result<Option<Pair>, Refused> {
        let mut found = None;
        if self.header
            && let Some(basic) = basic(sent.head)?
        {
            let basic = if kind == PairKind::Client { basic.form_decoded().ok_or(MALFORMED)? } else { basic };
            let place = Place::Field(Known::Authorization.spelling());
            found = Some(Pair { id: basic.id, secret: basic.secret, place });
        }
        let [id, secret] = kind.arguments().map(|name| self.arguments(name, sent));
        for ((place, id), (_, secret)) in id.into_iter().zip(secret) {
            match (id, secret) {
                (Argument::Absent, _) | (_, Argument::Absent) => {}
                (Argument::Once(id), Argument::Once(secret)) if found.is_none() => {
                    let (id, secret) = Secret::new(&id).zip(Secret::new(&secret)).ok_or(MALFORMED)?;
                    found = Some(Pair { id, secret, place });
                }
                _ => return Err(TWICE),
            }
        }
        Ok(found)
    }

    fn arguments<'a>(self, name: &str, sent: &Sent<'a>) -> [(Place<'static>, Argument<'a>); 2] {
        [
            (Place::Query, if self.query { sent.in_query(name) } else { Argument::Absent }),
            (Place::Body, if self.body { sent.in_body(name) } else { Argument::Absent }),
        ]
    }
}

/// `client_arg`: by what a request chooses one of several clients.
#[derive(Debug)]
pub(in super::super) struct ClientArg {
    name: Box<str>,
    /// `x_y` is `X-X-Y` and `X-Y` among fields.
    fields: [Box<str>; 2],
}

impl ClientArg {
    /// Reads the parameter; problems go to the reader's sink.
    pub(in super::super) fn parse(config: &mut Reader<'_>) -> Self {
        let name = config.string("client_arg").unwrap_or("client_id");
        if !is_field_name(name.as_bytes()) {
            config.problem("client_arg", format!("{name:?}"), "letters, digits, `-` and `_`");
        }
        let field = name.replace('_', "-");
        Self { name: name.into(), fields: [format!("X-{field}").into(), field.into()] }
    }

    /// The place among `ids` of the client a request names, by its id or counted from 1; the first where it names none of
    /// them. The body has a say once it was collected.
    pub(in super::super) fn choose(&self, sent: &Sent<'_>, ids: &[impl AsRef<str>]) -> usize {
        let field = self.fields.iter().find_map(|name| sent.field(name).ok().flatten());
        let index = |value: &[u8]| {
            let text = std::str::from_utf8(value).ok()?;
            let by_id = ids.iter().position(|id| id.as_ref() == text);
            by_id.or_else(|| text.parse::<usize>().ok()?.checked_sub(1).filter(|index| *index < ids.len()))
        };
        let argument = |argument: Argument<'_>| match argument {
            Argument::Once(value) => Some(index(&value)),
            Argument::Absent | Argument::Unusable => None,
        };
        // Whoever names a client first is heard, even if it is unknown.
        let chosen = field.map(index).or_else(|| argument(sent.in_query(&self.name)));
        chosen.or_else(|| argument(sent.in_body(&self.name))).flatten().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;
    use crate::http::h1::parse::Framing;
    use crate::plugin::testing::Scene;

    const ALL: ParamTypes = ParamTypes { header: true, query: true, body: true };
    const FORM: &str = "application/x-www-form-urlencoded";

    /// What `read` makes of a request with these fields, query, and form.
    fn sent<T>(fields: &[(&str, &str)], query: &str, form: &str, read: impl FnOnce(&Sent<'_>) -> T) -> T {
        let mut scene = Scene::new("POST", &[fields, &[("Content-Type", FORM)]].concat());
        (scene.query, scene.body.bytes) = (Some(query.to_owned()), form.into());
        scene.body.framing = Framing::Length(form.len() as u64);
        read(&Sent::of(&scene.request()))
    }

    fn settings<T>(yaml: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, usize) {
        let (out, problems, _) = testing::read("config", yaml, read);
        (out, problems.len())
    }

    #[test]
    fn settings_say_where_to_look() {
        for (yaml, expected, problems) in [
            ("{}", ParamTypes::HEADER, 0),
            ("{t: [body, header, query]}", ALL, 0),
            ("{t: query}", ParamTypes { header: false, query: true, body: false }, 0),
            ("{t: [cookie]}", ParamTypes { header: false, query: false, body: false }, 2),
            ("{t: []}", ParamTypes { header: false, query: false, body: false }, 1),
        ] {
            assert_eq!(settings(yaml, |config| ParamTypes::parse(config, "t")), (expected, problems), "{yaml}");
            assert_eq!(expected.reads_body(), expected.body);
        }
    }

    #[test]
    fn a_named_credential_stands_once() {
        let header = ParamTypes::HEADER;
        let one = |value: &str, place| Ok(Some((value.to_owned(), place)));
        for (types, field, query, form, expected) in [
            (ALL, Some("a"), "", "", one("a", Place::Field("r_t"))),
            (ALL, None, "r_t=%61b", "", one("ab", Place::Query)),
            (ALL, None, "", "x=1&r_t=a+b", one("a b", Place::Body)),
            (ALL, None, "", "", Ok(None)),
            (header, None, "r_t=a", "r_t=b", Ok(None)),
            (header, Some("a"), "r_t=a", "r_t=b", one("a", Place::Field("r_t"))),
            (ALL, Some("a"), "r_t=a", "", Err(TWICE)),
            (ALL, None, "r_t=a", "r_t=a", Err(TWICE)),
            (ALL, None, "r_t=a&r_t=a", "", Err(TWICE)),
            (ALL, None, "r_t=%00", "", Err(MALFORMED)),
        ] {
            let fields: Vec<_> = field.map(|value| ("R_T", value)).into_iter().collect();
            let found = sent(&fields, query, form, |sent| types.named("r_t", sent));
            let found = found.map(|found| found.map(|found| (found.value.expose().to_owned(), found.place)));
            assert_eq!(found, expected, "{fields:?} {query} {form}");
        }
    }

    #[test]
    fn both_parts_stand_in_one_place() {
        let field = Place::Field("Authorization");
        let one = |id: &str, secret: &str, place| Ok(Some((id.to_owned(), secret.to_owned(), place)));
        // `a%3Ab:c%2Bd`
        let basic = [("Authorization", "Basic YSUzQWI6YyUyQmQ=")];
        for (types, kind, fields, query, form, expected) in [
            (ALL, PairKind::Client, &basic[..], "", "", one("a:b", "c+d", field)),
            (ALL, PairKind::Password, &basic, "", "", one("a%3Ab", "c%2Bd", field)),
            (ALL, PairKind::Client, &[], "client_id=i&client_secret=s", "", one("i", "s", Place::Query)),
            (ALL, PairKind::Client, &[], "client_id=i", "client_secret=s", Ok(None)),
            (ALL, PairKind::Password, &[], "", "username=u&password=%C3%A4", one("u", "\u{e4}", Place::Body)),
            (ALL, PairKind::Client, &basic, "client_id=i", "", one("a:b", "c+d", field)),
            (ALL, PairKind::Client, &basic, "client_id=i&client_secret=s", "", Err(TWICE)),
            (ALL, PairKind::Client, &[], "client_id=i&client_id=i&client_secret=s", "", Err(TWICE)),
            (ParamTypes::HEADER, PairKind::Client, &[], "client_id=i&client_secret=s", "", Ok(None)),
        ] {
            let found = sent(fields, query, form, |sent| types.pair(kind, sent));
            let text = |secret: &Secret| secret.expose().to_owned();
            let found = found.map(|found| found.map(|found| (text(&found.id), text(&found.secret), found.place)));
            assert_eq!(found, expected, "{kind:?} {fields:?} {query} {form}");
        }
    }

    #[test]
    fn a_request_chooses_its_client() {
        let (arg, _) = settings("{}", ClientArg::parse);
        let (other, _) = settings("{client_arg: app}", ClientArg::parse);
        let ids = ["one", "two", "1"];
        for (arg, fields, query, form, expected) in [
            (&arg, &[("X-Client-ID", "two")][..], "", "", 1),
            (&arg, &[("client-id", "2")], "client_id=one", "", 1),
            (&arg, &[], "client_id=two", "client_id=one", 1),
            (&arg, &[], "", "client_id=2", 1),
            (&arg, &[], "client_id=1", "", 2),
            (&arg, &[], "client_id=0", "", 0),
            (&arg, &[], "client_id=4", "", 0),
            (&arg, &[("client-id", "unknown")], "client_id=two", "", 0),
            (&arg, &[], "client_id=two&client_id=two", "", 0),
            (&arg, &[], "", "", 0),
            (&other, &[("X-App", "two")], "", "", 1),
            (&other, &[("Client-ID", "two")], "", "", 0),
        ] {
            assert_eq!(sent(fields, query, form, |sent| arg.choose(sent, &ids)), expected, "{fields:?} {query} {form}");
        }
    }
}
