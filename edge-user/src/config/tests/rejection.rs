//! For which hosts bad tokens may be refused in the kernel.

use super::*;

/// A route of this name with these fields, and openid-connect where `config` is given (members of `config`, or `{}`).
fn route(name: &str, fields: &str, config: Option<&str>) -> String {
    let plugins = config.map(|config| {
        format!(
            "    plugins:\n    - name: openid-connect\n      config: {{issuer: https://idp.example, auth_methods: [bearer]{}}}\n",
            config
        )
    });
    format!("  - name: {name}\n    {fields}\n{}", plugins.unwrap_or_default())
}

fn report(routes: &[String], more: &str) -> Vec<String> {
    let text = format!("services:\n- host: h\n  routes:\n{}{more}", routes.concat());
    let report = good(&text).kernel_rejection.report();
    report.into_iter().map(|line| line.replace("kernel_reject: ", "")).collect()
}

const YES: &str = "bad tokens are refused in the kernel";

#[test]
fn every_route_of_a_host_has_to_refuse_alike() {
    let all = |config| route("all", "paths: [/]", config);
    assert_eq!(report(&[all(Some(""))], ""), [format!("other hosts: {YES}")]);
    let check = |routes: &[String], expected: &[(&str, &str)]| {
        let expected: Vec<String> = expected
            .iter()
            .map(|(host, why)| match why.is_empty() {
                true => format!("{host}: {YES}"),
                false => format!("{host}: userspace refuses bad tokens, for {why}"),
            })
            .collect();
        assert_eq!(report(routes, ""), expected, "{routes:?}");
    };
    // A route for all hosts is one of each host's.
    let a = route("a", "hosts: [A.example]", Some(""));
    check(std::slice::from_ref(&a), &[("a.example", ""), ("other hosts", "no route is for them")]);
    check(&[a.clone(), all(Some(""))], &[("a.example", ""), ("other hosts", "")]);
    let none = "route all has no openid-connect";
    check(&[a.clone(), all(None)], &[("a.example", none), ("other hosts", none)]);
    let wide = route("wide", "hosts: [\"*.example:8000\"]", None);
    let none = "route wide has no openid-connect";
    check(&[a.clone(), wide], &[("a.example", none), ("other hosts", none)]);
    let elsewhere = route("b", "hosts: [b.example]", None);
    let none = "route b has no openid-connect";
    check(&[a.clone(), elsewhere], &[("a.example", ""), ("b.example", none), ("other hosts", "no route is for them")]);
    let other = all(Some(", algorithms_allowed: [RS256]"));
    let differ = "routes a and all refuse tokens differently";
    check(&[a.clone(), other], &[("a.example", differ), ("other hosts", "")]);
    // The same tokens, in other words: a client would see which of the two the kernel has heard of first.
    let other = all(Some(", unauthorized_error_message: No"));
    check(&[a, other], &[("a.example", differ), ("other hosts", "")]);
}

#[test]
fn what_goes_first_or_changes_the_answer_forbids_it() {
    for (fields, config, expected) in [
        ("paths: [/]", ", anonymous: nobody", "has an openid-connect with `anonymous`"),
        ("paths: [/]", ", run_on_preflight: false", "has an openid-connect that lets preflights pass"),
        (
            "paths: [/]",
            ", bearer_token_param_type: [header, query]",
            "has an openid-connect that takes tokens elsewhere than in `Authorization`",
        ),
        ("paths: [/]", ", proof_of_possession_dpop: optional", "has an openid-connect that takes DPoP"),
        ("protocols: [https]", "", "does not take clear text"),
    ] {
        let fields = if fields.starts_with("paths") { fields.to_owned() } else { format!("{fields}\n    hosts: [x]") };
        let lines = report(&[route("all", &fields, Some(config))], "");
        let line = lines.iter().find(|line| line.contains(expected));
        assert!(line.is_some(), "{fields} {config}: {lines:?}");
    }
    for (plugin, expected) in [
        ("name: cors", "has a plugin that changes answers"),
        ("name: correlation-id", "has a plugin that changes answers"),
        ("name: request-termination", ""),
        ("name: rate-limiting\n  config: {minute: 5}", ""),
        ("name: ip-restriction\n  config: {deny: [192.0.2.1]}", ""),
        ("name: prometheus", ""),
    ] {
        let lines = report(&[route("all", "paths: [/]", Some(""))], &format!("plugins:\n- {plugin}\n"));
        let expected = match expected {
            "" => format!("other hosts: {YES}"),
            why => format!("other hosts: userspace refuses bad tokens, for route all {why}"),
        };
        assert_eq!(lines, [expected], "{plugin}");
    }
}

#[test]
fn hosts_are_compared_as_requests_bring_them() {
    let a = route("a", "hosts: [a.example]", Some(""));
    let snapshot = good(&format!("services:\n- host: h\n  routes:\n{a}{}", route("b", "hosts: [b.example]", None)));
    let allows = |host: &str| snapshot.kernel_rejection.allows(host.as_bytes());
    assert!(allows("a.example") && allows("A.Example") && allows("a.example:8000"));
    assert!(!allows("b.example") && !allows("c.example") && !allows("") && !allows("a.example:x"));
    assert!(!snapshot.kernel_rejection.allows(b"\xff"));
}
