//! Which plugins may write which fields.

use super::*;

/// Whether jwt-signer and http-profile in these places may write these names.
fn check(signer: (&str, &str), profile: (&str, &str), expected: bool) {
    let at = |place: &str| if place.is_empty() { String::new() } else { format!("  {place}\n") };
    let text = format!(
        "services:\n- {{name: s, host: a, routes: [{{name: r, paths: [/r]}}, {{name: q, paths: [/q]}}]}}\n\
         - {{name: t, host: b, routes: [{{name: u, paths: [/u]}}]}}\nplugins:\n- name: jwt-signer\n{}  \
         config: {{original_access_token_upstream_header: '{}'}}\n- name: http-profile\n{}  \
         config: {{request: {{headers: [{{action: insert, name: '{}', value: a, owned: true}}]}}}}\n",
        at(signer.0),
        signer.1,
        at(profile.0),
        profile.1
    );
    if expected {
        let owned = good(&text).owned_names;
        return assert!(owned.contains(&profile.1.to_ascii_lowercase().into()), "{owned:?}");
    }
    let problems = load_yaml(&format!("_format_version: \"3.0\"\n{text}")).err().unwrap_or_default();
    let problems: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    let says = |part: &str| problems.iter().any(|problem| problem.contains(part));
    assert!(says("plugins[1].config") && says("which jwt-signer at plugins[0] writes, too"), "{problems:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

// P1
#[test]
fn two_plugins_never_write_one_name_for_one_request() {
    for (signer, profile, expected) in [
        (("", "X-Token"), ("", "X-Token"), false),
        (("", "X-Token"), ("", "x_token"), false),
        (("", "X-Token"), ("", "X-Tokens"), true),
        (("", "X-Token"), ("route: r", "X-Token"), false),
        (("service: s", "X-Token"), ("route: r", "X-Token"), false),
        (("service: t", "X-Token"), ("route: r", "X-Token"), true),
        (("route: q", "X-Token"), ("route: r", "X-Token"), true),
        (("service: s", "X-Token"), ("service: t", "X-Token"), true),
        (("service: s", "X-Token"), ("service: s", "X-Token"), false),
    ] {
        check(signer, profile, expected);
    }
}
