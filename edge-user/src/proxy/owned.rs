//! Field names by which the edge tells an upstream who the caller is. No client may send them, in any spelling that
//! a server behind the edge could fold into them (P1).

use crate::http::head::Known;

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
        Self { names, first }
    }

    /// Whether a client's field of this name must go.
    pub fn owns(&self, name: &[u8]) -> bool {
        let Some(byte) = name.first() else { return false };
        self.first[usize::from(*byte)]
            && (FAMILIES.iter().any(|family| name.len() >= family.len() && is_folded(&name[..family.len()], family))
                || self.names.iter().any(|owned| is_folded(name, owned)))
    }
}

/// Whether the name is another spelling of a forwarding field, such as `X_Forwarded_For`.
pub fn imitates_forwarding(name: &[u8]) -> bool {
    const FORWARDING: [Known; 8] = [
        Known::XForwardedFor,
        Known::XForwardedProto,
        Known::XForwardedHost,
        Known::XForwardedPort,
        Known::XForwardedPath,
        Known::XForwardedPrefix,
        Known::XRealIp,
        Known::Forwarded,
    ];
    name.iter().any(|byte| matches!(byte, b'_' | b'.'))
        && FORWARDING.iter().any(|known| {
            let spelling = known.spelling().as_bytes();
            spelling.len() == name.len() && spelling.iter().zip(name).all(|(a, b)| fold(*a) == fold(*b))
        })
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
    fn imitations_of_forwarding_fields_are_known() {
        for (name, imitates) in
            [("X_Forwarded_For", true), ("x.real.ip", true), ("X-Forwarded-For", false), ("X_Other", false)]
        {
            assert_eq!(imitates_forwarding(name.as_bytes()), imitates, "{name}");
        }
    }
}
