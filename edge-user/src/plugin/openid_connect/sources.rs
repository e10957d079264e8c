//! Where a claim of one request is looked for: what the issuer said of the caller, most important first.

use crate::token::claims::{ClaimPath, Facts};
use crate::token::json::{Kind, Value};

/// What is known of one caller. Consumers, credentials and headers take claims from all of it; authorization looks at
/// `facts` alone.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    /// The access token's, or what introspection says of it.
    pub(super) facts: &'a Facts,
    /// The ID token's, where one came with it.
    pub(super) id_token: Option<&'a Facts>,
    /// The issuer's user info, where it was asked for.
    pub(super) user_info: Option<&'a Facts>,
}

impl<'a> Sources<'a> {
    /// The claim at a path in the first source that has it. `null` is no claim.
    pub(super) fn find(&self, path: &ClaimPath) -> Option<Value<'a>> {
        let sources = [Some(self.facts), self.id_token, self.user_info].into_iter().flatten();
        sources.filter_map(|facts| facts.claim(path)).find(|claim| claim.kind() != Kind::Null)
    }
}

#[cfg(test)]
impl<'a> Sources<'a> {
    /// Those of an access token alone.
    pub(super) fn of(facts: &'a Facts) -> Self {
        Self { facts, id_token: None, user_info: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(claims: &str) -> Facts {
        Facts::parse(claims.as_bytes().to_vec(), "").expect("claims")
    }

    #[test]
    fn the_first_source_with_the_claim_counts() {
        let (token, id, info) =
            (facts(r#"{"sub":"t","email":null}"#), facts(r#"{"sub":"i","email":"i"}"#), facts(r#"{"name":"u"}"#));
        let all = Sources { facts: &token, id_token: Some(&id), user_info: Some(&info) };
        let check = |sources: Sources<'_>, name: &str, expected: Option<&str>| {
            let found = sources.find(&ClaimPath::new([name])).and_then(Value::text);
            assert_eq!(found.as_deref(), expected, "{name}");
        };
        check(all, "sub", Some("t"));
        check(all, "email", Some("i"));
        check(all, "name", Some("u"));
        check(all, "phone", None);
        check(Sources::of(&token), "email", None);
    }
}
