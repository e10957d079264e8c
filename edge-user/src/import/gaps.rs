//! What is not translated, in the words of the report: one place, so that what comes later changes it here.

/// The plugin for the header work of an F5's HTTP profile.
pub(super) const PROFILE: &str = "for the plugin http-profile, which the importer does not write: add it by hand";

/// Something that the plugin alone could do.
pub(super) fn profile(what: &str) -> String {
    format!("{what}: {PROFILE}")
}

/// Why a command of iRules has no counterpart.
pub(super) fn command(name: &str) -> String {
    let why = match name {
        "HTTP::cookie" => return profile("cookies of a request or answer"),
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
        _ if name.starts_with("SSL::") || name.starts_with("X509::") => return profile("facts of the TLS session"),
        _ if name.starts_with("TCP::") || name.starts_with("UDP::") => "bytes of a connection are not for rules here",
        _ if name.starts_with("ACCESS::") => "APM: openid-connect verifies tokens",
        _ if name.starts_with("ASM::") || name.starts_with("BOTDEFENSE::") => "no web application firewall",
        _ if name.starts_with("COMPRESS::") => "the edge does not compress",
        _ if name.starts_with("CACHE::") => "the edge does not cache answers",
        _ => "the importer does not know it",
    };
    format!("`{name}`: {why}")
}
