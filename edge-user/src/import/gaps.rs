//! What is not translated, in the words of the report: one place, so that what comes later changes it here.

/// No template makes small letters.
pub(super) const LOWER: &str = "small letters made of a part of the request: a value has it as it came";
/// What the request was, where its answer is shaped.
pub(super) const GONE: &str =
    "path and fields of the request are no longer known where its answer is shaped: host and method are";
/// Cookies that the edge would read, set or remove one by one.
pub(super) const COOKIES: &str = "single cookies of a request, or new ones: attributes of those that members set can \
    change (`response.cookies` of http-profile)";

/// Templates and conditions are read when a request is there, not where the F5 comes to the line.
pub(super) const ANOTHER: &str = "a field that is another by then: the line before it changes it";

/// Why a command of iRules has no counterpart.
pub(super) fn command(name: &str) -> String {
    let why = match name {
        "HTTP::cookie" => COOKIES,
        "node" => "an address that no pool has: give it to a pool, and name that",
        "virtual" => "another virtual server: routes of its own do that here",
        "snat" | "snatpool" => "the edge connects from its own address",
        "persist" => "persistence is a pool's: `hash_on` of its upstream",
        "table" | "session" => "the edge keeps no table for rules",
        "foreach" | "for" | "while" | "catch" | "proc" | "call" | "eval" | "after" => {
            "Tcl that runs: the importer reads, and runs nothing"
        }
        "HTTP::collect" | "HTTP::payload" | "HTTP::release" | "STREAM::expression" | "STREAM::enable" => {
            "bodies: request-transformer and response-transformer change JSON and forms alone"
        }
        "b64encode" => "base64: http-profile tells a certificate as PEM, URL-encoded, or by RFC 9440 (`rfc9440`)",
        _ if name.starts_with("SSL::") || name.starts_with("X509::") => {
            "of a TLS session rules know the client's certificate: subject, issuer, serial number, fingerprint, and PEM"
        }
        _ if name.starts_with("TCP::") || name.starts_with("UDP::") => "bytes of a connection are not for rules here",
        _ if name.starts_with("ACCESS::") => "APM: openid-connect verifies tokens",
        _ if name.starts_with("ASM::") || name.starts_with("BOTDEFENSE::") => "no web application firewall",
        _ if name.starts_with("COMPRESS::") => "the edge does not compress",
        _ if name.starts_with("CACHE::") => "the edge does not cache answers",
        _ => "the importer does not know it",
    };
    format!("`{name}`: {why}")
}
