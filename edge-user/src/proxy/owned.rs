//! Field names by which the edge tells an upstream who the caller is. No client may send them, in any spelling that
//! a server behind the edge could fold into them (P1).

use crate::http::head::{KNOWN_BYTES, Known};

/// Names in these families, and these names, are the edge's whatever is configured: Kong's consumer and credential
/// fields, and those that carry a client certificate (S4).
const FAMILIES: [&[u8]; 3] = [b"x-consumer-", b"x-credential-", b"x-authenticated-"];
const NAMES: [&[u8]; 8] = [
    b"x-anonymous-consumer",
    b"x-userinfo",
    b"x-client-id",
    b"x-client-cert",
    b"x-forwarded-client-cert",
    b"client-cert",
    b"client-cert-chain",
    b"ssl-client-cert",
];

/// Whether the name, in any spelling, is one by which the edge itself says who the caller is. Those for certificates
/// are not among them: what writes one is configured.
pub fn is_identity(name: &[u8]) -> bool {
    const IDENTITY: usize = 3;
    FAMILIES.iter().any(|family| name.len() >= family.len() && is_folded(&name[..family.len()], family))
        || NAMES[..IDENTITY].iter().any(|owned| is_folded(name, owned))
}

/// The owned names of one configuration.
pub struct OwnedNames {
    names: Vec<Box<[u8]>>,
    /// The field of its own in which trusted peers name the client.
    real_ip: Option<Box<str>>,
    /// By first byte, both cases: whether any owned name begins so. Most fields are done after this look.
    first: [bool; 256],
}

impl OwnedNames {
    /// The built-in names and those plugins write.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>) -> Self {
        let mut first = [false; 256];
        let configured = configured.into_iter().map(|name| folded(name.as_bytes()));
        let names: Vec<Box<[u8]>> = NAMES.iter().map(|name| Box::from(*name)).chain(configured).collect();
        for byte in names.iter().filter_map(|name| name.first()).chain(FAMILIES.iter().map(|family| &family[0])) {
            first[usize::from(*byte)] = true;
            first[usize::from(byte.to_ascii_uppercase())] = true;
        }
        Self { names, real_ip: None, first }
    }

    /// The same where trusted peers name the client in this field, which nobody else may send. One that a plugin writes
    /// is the edge's alone.
    pub fn with_real_ip(mut self, name: Option<&str>) -> Self {
        let Some(name) = name.filter(|name| !self.owns(name.as_bytes())) else { return self };
        for byte in name.bytes().take(1) {
            self.first[usize::from(byte.to_ascii_lowercase())] = true;
            self.first[usize::from(byte.to_ascii_uppercase())] = true;
        }
        self.names.push(folded(name.as_bytes()));
        self.real_ip = Some(name.into());
        self
    }

    /// Whether this is the field, spelled as it should be, in which trusted peers name the client.
    pub fn is_real_ip(&self, name: &[u8]) -> bool {
        self.real_ip.as_ref().is_some_and(|real| name.eq_ignore_ascii_case(real.as_bytes()))
    }

    /// Whether a client's field of this name must go.
    pub fn owns(&self, name: &[u8]) -> bool {
        let Some(byte) = name.first() else { return false };
        self.first[usize::from(*byte)]
            && (FAMILIES.iter().any(|family| name.len() >= family.len() && is_folded(&name[..family.len()], family))
                || self.names.iter().any(|owned| is_folded(name, owned)))
    }
}

/// Whether the name is another spelling of one the edge knows, such as `X_Forwarded_For` or `Transfer_Encoding`: a server
/// that folds names would read a second one, which nobody has judged.
pub fn imitates_known(name: &[u8]) -> bool {
    if name.len() >= KNOWN_BYTES || !name.iter().any(|byte| matches!(byte, b'_' | b'.')) {
        return false;
    }
    let mut folded = [0; KNOWN_BYTES];
    let folded = &mut folded[..name.len()];
    folded.iter_mut().zip(name).for_each(|(to, from)| *to = fold(*from));
    Known::of(folded) != Known::Other
}

/// Lower case, with `_` and `.` as `-`: what CGI-like servers make of a name.
fn fold(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        byte => byte.to_ascii_lowercase(),
    }
}

/// A name in the one spelling that stands for all of them.
pub fn folded(name: &[u8]) -> Box<[u8]> {
    name.iter().copied().map(fold).collect()
}

fn is_folded(name: &[u8], folded: &[u8]) -> bool {
    name.len() == folded.len() && name.iter().zip(folded).all(|(byte, want)| fold(*byte) == *want)
}

#[cfg(test)]
mod tests {
    use super::*;

    // P1, S4
    #[test]
    fn every_spelling_of_an_owned_name_is_owned() {
        let owned = OwnedNames::new(["x-jwt-sub", "authorization_claims"]);
        for name in [
            "X-Consumer-ID",
            "x_consumer_id",
            "X.Consumer-Username",
            "x-consumer-anything",
            "X-CREDENTIAL-Identifier",
            "X-Authenticated-Groups",
            "x_userinfo",
            "X-Client-Cert",
            "Client_Cert",
            "X-Jwt-Sub",
            "x.jwt.sub",
            "Authorization-Claims",
        ] {
            assert!(owned.owns(name.as_bytes()), "{name}");
        }
        for name in ["", "X", "X-Consume", "Xconsumer-ID", "Consumer-ID", "X-Userinfos", "Authorization", "Cookie"] {
            assert!(!owned.owns(name.as_bytes()), "{name}");
        }
    }

    // P3
    #[test]
    fn the_field_that_names_the_client_is_owned_in_every_spelling() {
        let owned = OwnedNames::new([]).with_real_ip(Some("True-Client-IP"));
        for (name, is_owned, is_real) in [
            ("true-client-ip", true, true),
            ("TRUE_CLIENT.IP", true, false),
            ("True-Client-IPs", false, false),
            ("X-Userinfo", true, false),
        ] {
            assert_eq!((owned.owns(name.as_bytes()), owned.is_real_ip(name.as_bytes())), (is_owned, is_real), "{name}");
        }
        let owned = OwnedNames::new([]);
        assert!(!owned.owns(b"true-client-ip") && !owned.is_real_ip(b"true-client-ip"));
        let written = OwnedNames::new(["true_client_ip"]).with_real_ip(Some("True-Client-IP"));
        assert!(written.owns(b"true-client-ip") && !written.is_real_ip(b"true-client-ip"));
    }

    // P3, H1, H15
    #[test]
    fn imitations_of_known_fields_are_known() {
        for (name, imitates) in [
            ("X_Forwarded_For", true),
            ("x.real.ip", true),
            ("Transfer_Encoding", true),
            ("CONTENT.LENGTH", true),
            ("HTTP2_Settings", true),
            ("X-Forwarded-For", false),
            ("Content-Length", false),
            ("X_Other", false),
            ("X_Forwarded_For_X", false),
            (&"x_".repeat(40), false),
        ] {
            assert_eq!(imitates_known(name.as_bytes()), imitates, "{name}");
        }
    }
}
