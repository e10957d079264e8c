//! What rules and profiles become as settings of http-profile, option by option and command by command.

use super::*;

#[test]
fn rules_become_settings_of_http_profile() {
    for (body, parts) in [
        (
            "when HTTP_REQUEST { HTTP::header insert X-A [IP::client_addr]:[TCP::client_port] X-B [HTTP::path] }",
            &["value: \"$(client.address):$(client.port)\"", "value: \"$(request.path)\""][..],
        ),
        (
            "when HTTP_REQUEST { HTTP::header remove X-A; HTTP::header insert X-A {$(x)} }",
            &["$(\\\"$\\\")(x)", "erase"],
        ),
        ("when HTTP_REQUEST { HTTP::header replace X-Forwarded-For [IP::client_addr] }", &["xforwarded_for: replace"]),
        (
            "when HTTP_REQUEST { HTTP::header remove X-Forwarded-For; HTTP::header insert X-Forwarded-For [IP::client_addr] }",
            &["xforwarded_for: replace"],
        ),
        ("when HTTP_REQUEST { HTTP::host [HTTP::header X-Host] }", &["host: \"$(headers[\\\"x-host\\\"])\""]),
        ("when HTTP_REQUEST { HTTP::header sanitize Accept \"Cookie\" }", &["allow: [accept, cookie]"]),
        (
            "when CLIENTSSL_CLIENTCERT { if {[SSL::cert count] > 0} { set s [X509::subject [SSL::cert 0]] } }\n\
             when HTTP_REQUEST { if {[info exists s]} { HTTP::header insert X-S $s } else { HTTP::header replace X-N 1 } }",
            &["value: \"$(certificate.subject)\"", "client_cert: true", "not:"],
        ),
        (
            "when HTTP_REQUEST { set c [SSL::cert 0]; HTTP::header replace X-C [URI::encode [X509::whole $c]] }",
            &["$(certificate.pem)"],
        ),
        (
            "when HTTP_REQUEST { if {[HTTP::header X-A] contains \"b\" and not ([HTTP::method] eq \"PUT\")} { HTTP::header insert X-B 1 } }",
            &["matches: b", "method: [PUT]"],
        ),
        (
            "when HTTP_RESPONSE { if {[HTTP::status] starts_with \"40\"} { HTTP::header replace Cache-Control no-store } }",
            &["status: [400, 401, 402, 403, 404, 405, 406, 407, 408, 409]"],
        ),
        (
            "when HTTP_RESPONSE { switch [HTTP::status] { 404 - 410 { HTTP::header remove X-A } default { HTTP::header insert X-B 1 } } }",
            &["status: [404, 410]", "not:"],
        ),
        ("when HTTP_RESPONSE { HTTP::header insert X-L [HTTP::header Location] }", &["headers[\\\"location\\\"]"]),
        ("when HTTP_RESPONSE { HTTP::header sanitize X-A }", &["allow: [x-a]"]),
        (
            "when HTTP_RESPONSE { if {[HTTP::is_redirect]} { HTTP::header replace Location [string map {http:// https://} [HTTP::header value Location]] } }",
            &["location: all"],
        ),
        (
            "when HTTP_RESPONSE { if {[HTTP::status] == 502 or [HTTP::status] == 503} { HTTP::redirect \"https://sorry.example.com/\" } }",
            &["statuses: [502, 503]", "redirect: \"https://sorry.example.com/\""],
        ),
        (
            "when HTTP_RESPONSE { foreach c [HTTP::cookie names] { HTTP::cookie secure $c enable; HTTP::cookie httponly $c enable }\n\
             HTTP::cookie path sid /a }",
            &["name: \"*\"", "name: sid", "path: \"/a\""],
        ),
        ("when HTTP_RESPONSE { HTTP::cookie encrypt sid key }", &["encrypt: true"]),
        (
            "when HTTP_REQUEST { HTTP::respond 200 content ok noserver X-A [IP::client_addr] }",
            &["erase", "$(client.address)"],
        ),
    ] {
        let translation = ruled(body);
        let text = file(&translation, "kong.yaml");
        parts
            .iter()
            .for_each(|part| assert!(text.contains(part), "{body}: no {part} in\n{text}\n{}", translation.report));
        // The pools above the rule may be nobody's.
        let is_lost = |line: &Option<ledger::Verdict>| line.as_ref().is_some_and(|line| line.bin == Bin::Dropped);
        assert!(!translation.report.files[0].lines[2..].iter().any(is_lost), "{body}: {}", translation.report);
        loads(&translation);
    }
}

#[test]
fn what_http_profile_cannot_do_is_told() {
    for (body, why) in [
        ("when HTTP_REQUEST { HTTP::header insert Authorization x }", "hide_credentials"),
        ("when HTTP_REQUEST { HTTP::header insert X-Consumer-ID x }", "who the caller is"),
        ("when HTTP_REQUEST { HTTP::header insert Content-Length 1 }", "framing"),
        ("when HTTP_REQUEST { HTTP::header insert X-A [HTTP::uri] }", "query"),
        ("when HTTP_REQUEST { HTTP::header insert X-A [b64encode [X509::whole [SSL::cert 0]]] }", "base64"),
        ("when HTTP_REQUEST { HTTP::header insert \"X A\" x }", "the name of a field"),
        ("when HTTP_REQUEST { HTTP::header insert X-A \"a\\rb\" }", "control characters"),
        ("when HTTP_REQUEST { HTTP::respond 99 }", "99"),
        ("when HTTP_REQUEST { HTTP::respond 204 content {{vault://env/X}} }", "reference"),
        ("when HTTP_REQUEST { if {[SSL::cert count] == 0} { HTTP::respond 403 } }", "only changes of fields"),
        (
            "when HTTP_REQUEST { set a [HTTP::header X-A] }\nwhen HTTP_RESPONSE { HTTP::header insert X-A $a }",
            "no longer known",
        ),
        (
            "when HTTP_RESPONSE { if {[HTTP::header exists X-A]} { HTTP::header remove X-A } else { HTTP::header insert X-A 1 } }",
            "another by then",
        ),
        ("when HTTP_RESPONSE { if {[HTTP::status] == 404} { HTTP::respond 200 X-A 1 } }", "fields of an answer"),
        (
            "when HTTP_RESPONSE { HTTP::header replace Set-Cookie \"[HTTP::header Set-Cookie]; Secure\" }",
            "would become one",
        ),
        ("when HTTP_RESPONSE { HTTP::cookie secure \"a;b\" enable }", "the name of a cookie"),
    ] {
        let translation = ruled(body);
        let told = translation.report.to_string();
        assert!(told.contains(why), "{body}: no {why} in {told}");
        loads(&translation);
    }
}

/// One virtual server with these options of its http profile.
fn profiled(options: &str) -> Translation {
    of_text(&format!(
        "ltm pool a {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n\
         ltm profile http h {{\n{options}\n}}\n\
         ltm profile one-connect o {{\n source-mask 255.255.255.255\n}}\n\
         ltm virtual v {{\n destination 192.0.2.1:80\n pool a\n profiles {{ h {{ }} o {{ }} }}\n}}\n"
    ))
}

#[test]
fn options_of_an_http_profile_are_settings_of_the_plugin() {
    use Bin::{Changed, Dropped, Translated};
    for (option, bin, part) in [
        ("insert-xforwarded-for enabled", Changed, "xforwarded_for: insert"),
        ("insert-xforwarded-for disabled", Changed, "xforwarded_for: \"off\""),
        ("header-insert \"X-A: [IP::client_addr]\"", Translated, "$(client.address)"),
        ("header-insert \"Host: a\"", Dropped, ""),
        ("header-erase X-A", Translated, "erase"),
        ("header-erase Authorization", Dropped, ""),
        ("via-request remove", Translated, "via: remove"),
        ("via-response append", Translated, "via: append"),
        ("via-host-name edge1\nvia-request append", Translated, "via_host_name: edge1"),
        ("via-host-name edge1", Translated, ""),
        ("server-agent-name Shop", Changed, "server: Shop"),
        ("redirect-rewrite nodes", Translated, "location: nodes"),
        ("redirect-rewrite some", Dropped, ""),
        ("encrypt-cookies { a b }", Changed, "name: b"),
        ("encrypt-cookies { a b;c }", Dropped, "upstream:"),
        ("encrypt-cookie-secret $M$x", Changed, ""),
        (
            "fallback-host https://sorry.example.com/\nfallback-status-codes { 500 502-504 }",
            Changed,
            "statuses: [500, 502, 503, 504]",
        ),
        ("fallback-host sorry", Dropped, ""),
        ("fallback-status-codes { 500 }", Dropped, ""),
        ("response-headers-permitted { Content-Type X-A }", Changed, "allow: [Content-Type, X-A]"),
        ("hsts {\nmode enabled\nmaximum-age 5\n}", Translated, "max_age: 5"),
        ("hsts {\nmode enabled\nmaximum-age -1\n}", Dropped, ""),
        ("enforcement {\nmax-header-count 32\n}", Translated, "fields: 32"),
        ("request-chunking rechunk", Translated, "chunking: rechunk"),
        ("response-chunking unchunk", Changed, "chunking: unchunk"),
        ("response-chunking shredded", Dropped, ""),
    ] {
        let translation = profiled(option);
        let verdict = translation.report.files[0].lines[2].as_ref().unwrap();
        assert_eq!(verdict.bin, bin, "{option}: {:?}", verdict.reasons);
        let text = file(&translation, "kong.yaml");
        assert!(text.contains(part) && text.contains("reuse: per_connection"), "{option}: no {part} in\n{text}");
        loads(&translation);
    }
    // Above the node's own limit, that is raised; below it the plugin alone has it.
    let toml =
        |count: u64| file(&profiled(&format!("enforcement {{\nmax-header-count {count}\n}}")), "edge.toml").to_owned();
    let settings = Settings::load_text(&toml(64), Path::new("edge.toml")).unwrap();
    assert!(!toml(64).contains("fields") && settings.limits.fields == 64 && settings.limits.head_bytes == 32768);
    assert!(toml(65).contains("fields = 65"));
}
