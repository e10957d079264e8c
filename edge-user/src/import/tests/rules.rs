//! What rules and policies keep out stays out or is told of, and what they do keeps its order.

use super::*;

/// A rule of a virtual server that asks for client certificates.
fn asking(body: &str) -> Translation {
    of_text(&format!(
        "ltm pool a {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n\
         ltm pool b {{ members {{ 192.0.2.8:80 {{ address 192.0.2.8 }} }} }}\n\
         ltm profile client-ssl s {{\n cert s.crt\n key s.key\n peer-cert-mode request\n ca-file ca.crt\n}}\n\
         ltm rule r {{\n{body}\n}}\n\
         ltm virtual v {{\n destination 192.0.2.1:443\n pool a\n profiles {{ http {{ }} s {{ }} }}\n rules {{ r }}\n}}\n"
    ))
}

/// The routes, how many refusals are lost, and the report.
fn came_of(translation: &Translation) -> (&str, usize, String) {
    loads(translation);
    let report = &translation.report;
    (file(translation, "kong.yaml"), report.opened.len(), report.to_string())
}

#[test]
fn whether_a_variable_is_there_is_known_of_certificates_alone() {
    const FACT: &str = "set dn [X509::subject [SSL::cert 0]]";
    for (body, lost, why) in [
        (
            "when CLIENTSSL_CLIENTCERT { set ok 1 }\nwhen HTTP_REQUEST { if {![info exists ok]} { reject } }"
                .to_owned(),
            1,
            "`info exists`",
        ),
        (
            "when CLIENTSSL_CLIENTCERT { set ok 1 }\nwhen HTTP_REQUEST { HTTP::header insert X-Ok $ok }".to_owned(),
            0,
            "the variable ok",
        ),
        ("when CLIENTSSL_CLIENTCERT { reject }".to_owned(), 1, "of an event for clients"),
        ("when CLIENTSSL_CLIENTCERT { HTTP::header insert X-Ok 1 }".to_owned(), 0, "of an event for clients"),
        (
            "when HTTP_REQUEST { if {[HTTP::cookie exists x]} { set deny 1 }\nif {[info exists deny]} { reject } }"
                .to_owned(),
            1,
            "`info exists`",
        ),
        // What a lost line may set is known no longer.
        (
            "when HTTP_REQUEST { set deny 0\nif {[HTTP::cookie exists x]} { set deny 1 }\nif {$deny} { reject } }"
                .to_owned(),
            1,
            "not translated may set",
        ),
        (
            "when HTTP_REQUEST { set id good\nregexp {id=(.*)} [HTTP::uri] all id\nif {$id eq \"bad\"} { reject } }"
                .to_owned(),
            1,
            "not translated may set",
        ),
        (
            "when CLIENT_DATA { set deny 1 }\nwhen HTTP_REQUEST { set deny 0\nif {$deny} { reject } }".to_owned(),
            1,
            "an event sets as well",
        ),
        (
            format!(
                "when CLIENTSSL_CLIENTCERT {{ {FACT}\nunset dn }}\nwhen HTTP_REQUEST {{ if {{![info exists dn]}} {{ reject }} }}"
            ),
            1,
            "of an event for clients",
        ),
        (
            format!(
                "when HTTP_REQUEST {{ {FACT}\nunset dn\nif {{[info exists dn]}} {{ HTTP::header insert X-A 1 }} }}"
            ),
            0,
            "`info exists`",
        ),
    ] {
        let translation = asking(&body);
        let (entities, found, told) = came_of(&translation);
        assert_eq!(found, lost, "{body}: {told}");
        assert!(told.contains(why) && !entities.contains("X-Ok") && !entities.contains("X-A"), "{body}: {told}");
    }
    // Its neighbour.
    let body = format!(
        "when CLIENTSSL_CLIENTCERT {{ {FACT} }}\nwhen HTTP_REQUEST {{ if {{[info exists dn]}} {{ HTTP::header insert X-DN $dn }} }}"
    );
    let translation = asking(&body);
    let (entities, lost, told) = came_of(&translation);
    assert!(
        lost == 0 && entities.contains("$(certificate.subject)") && entities.contains("client_cert: true"),
        "{told}"
    );
}

#[test]
fn a_handshake_is_of_virtual_servers_with_tls() {
    let body = "when CLIENTSSL_HANDSHAKE { set tls 1 }\nwhen HTTP_REQUEST { if {$tls == 1} { pool b } }";
    let (clear, over_tls) = (ruled(body), asking(body));
    let (entities, _, told) = came_of(&clear);
    assert!(!entities.contains("host: b") && told.contains("the variable tls"), "{entities}{told}");
    assert!(came_of(&over_tls).0.contains("host: b"));
}

#[test]
fn what_was_set_before_is_not_a_certificates() {
    let rule = |before: &str| {
        format!(
            "when HTTP_REQUEST {{ {before}\nif {{[SSL::cert count] > 0}} {{ set dn [X509::subject [SSL::cert 0]] }}\n\
             HTTP::header insert X-DN $dn }}"
        )
    };
    for (before, is_written) in [("", true), ("set dn none", false), ("set dn [X509::issuer [SSL::cert 0]]", false)] {
        let translation = asking(&rule(before));
        let (entities, _, told) = came_of(&translation);
        assert_eq!(entities.contains("X-DN"), is_written, "{before}: {entities}{told}");
    }
}

#[test]
fn actions_of_policies_on_answers_change_fields_alone() {
    let policy = |condition: &str, action: &str| {
        // A word of each is an option, the value of one stands behind it.
        let lines = |text: &str| {
            let options = ["location", "values", "name", "value", "path"];
            let mut lines = String::new();
            for word in text.split(' ') {
                let is_value =
                    lines.rsplit('\n').next().is_some_and(|line| options.iter().any(|option| line.starts_with(option)));
                lines.push_str(if is_value && !options.contains(&word) { " " } else { "\n" });
                lines.push_str(word);
            }
            lines
        };
        let (condition, action) = (lines(condition), lines(action));
        of_text(&format!(
            "ltm pool a {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n\
             ltm policy q {{ rules {{ x {{\n conditions {{ 0 {{{condition}\n}} }}\n actions {{\n0 {{{action}\n}}\n}}\n}} }}\n \
             strategy first-match\n}}\n\
             ltm virtual v {{\n destination 192.0.2.1:80\n pool a\n profiles {{ http {{ }} }}\n policies {{ q }}\n}}\n"
        ))
    };
    let (status, host) = ("http-status response values { 500 }", "http-host host values { a.test }");
    for (condition, action, lost) in [
        (status, "http-reply response redirect location https://sorry/", 0),
        (host, "http-reply response redirect location https://sorry/", 0),
        (status, "shutdown response", 1),
        (host, "shutdown response", 1),
        (host, "forward response reset", 1),
        (host, "http-host response replace value b.test", 0),
        (host, "http-uri response replace path /b", 0),
        // For the status of an answer that is not there yet.
        (status, "shutdown request", 1),
    ] {
        let translation = policy(condition, action);
        let (entities, found, told) = came_of(&translation);
        let is_done = ["sorry", "status_code", "b.test", "/b"].iter().any(|word| entities.contains(word));
        assert!(found == lost && !is_done, "{condition} {action}: {entities}{told}");
        let why = if action.contains("response") { "their fields alone" } else { "for the status of its answer" };
        assert!(told.contains(why), "{condition} {action}: {told}");
    }
    let translation = policy(host, "http-header response insert name X-A value b");
    assert!(came_of(&translation).0.contains("X-A"));
    let translation = policy(host, "shutdown request");
    assert!(came_of(&translation).0.contains("status_code: 403"));
}

#[test]
fn an_empty_field_is_as_good_as_none() {
    for (body, part) in [
        ("if {[HTTP::header X-Api-Key] eq \"\"} { reject }", "X-Api-Key: [\"~*.\"]"),
        ("switch [HTTP::header X-Api-Key] { \"\" - none { reject } }", "X-Api-Key: [\"~*.\"]"),
        ("if {[HTTP::header X-Api-Key] eq \"\"} { HTTP::header insert X-A 1 }", "matches: ."),
        ("if {[HTTP::header exists X-Api-Key]} { pool b }", "X-Api-Key: [\"~*^.*$\"]"),
        ("if {[HTTP::header X-Api-Key] ne \"\" and [HTTP::header X-Api-Key] starts_with \"k\"} { pool b }", "~*^k"),
    ] {
        let translation = ruled(&format!("when HTTP_REQUEST {{ {body} }}"));
        let (entities, lost, told) = came_of(&translation);
        let part = part.to_lowercase();
        let plain = entities.to_lowercase().replace('"', "");
        assert!(plain.contains(&part.replace('"', "")) && lost == 0, "{body}: no {part} in\n{entities}{told}");
        assert_eq!(told.contains("looks at the last"), !body.contains("exists"), "{body}: {told}");
    }
    // What is not there fits as well.
    let translation = ruled("when HTTP_REQUEST { if {[HTTP::header X-A] matches_glob \"*\"} { reject } }");
    assert_eq!(came_of(&translation).1, 1);
}

#[test]
fn statements_keep_their_order() {
    for (body, lost, why) in [
        ("set u [HTTP::header X-U]; HTTP::header remove X-U; HTTP::header insert X-O $u", 0, "another by then"),
        (
            "set u [HTTP::header X-U]; HTTP::header replace X-U anonymous; HTTP::header insert X-O $u",
            0,
            "another by then",
        ),
        ("set u [HTTP::header X-U]; HTTP::header remove X-U; if {$u eq \"bad\"} { reject }", 1, "another by then"),
        (
            "HTTP::header remove X-U; if {[HTTP::header exists X-U]} { HTTP::host X-O.test; pool b }",
            0,
            "another by then",
        ),
        ("HTTP::header insert X-U bad; if {[HTTP::header X-U] eq \"bad\"} { reject }", 1, "another by then"),
        (
            "HTTP::header remove X-Real-IP; if {[HTTP::header exists X-Real-IP]} { HTTP::host X-O.test; pool b }",
            0,
            "another by then",
        ),
        ("HTTP::header sanitize A; if {[HTTP::header exists X-U]} { HTTP::header insert X-O 1 }", 0, "another by then"),
        ("HTTP::header sanitize A; HTTP::header insert X-O [HTTP::header X-U]", 0, "another by then"),
        ("HTTP::header insert X-U 1 X-O [HTTP::header X-U]", 0, "another by then"),
        ("HTTP::host [HTTP::header X-O]; HTTP::header remove X-O", 0, "the host is made of"),
        (
            "set u [HTTP::header X-U]; if {[HTTP::method] eq \"PUT\"} { HTTP::header remove X-U; HTTP::header insert X-O $u }",
            0,
            "another by then",
        ),
    ] {
        let translation = ruled(&format!("when HTTP_REQUEST {{\n{}\n}}", body.replace("; ", "\n")));
        let (entities, found, told) = came_of(&translation);
        assert!(found == lost && told.contains(why), "{body}: {told}");
        let is_host = body.starts_with("HTTP::host");
        assert!(is_host || !entities.contains("X-O") && !entities.contains("host: b"), "{body}: {entities}");
    }
    let answered =
        "when HTTP_RESPONSE {\nset u [HTTP::header X-U]\nHTTP::header remove X-U\nHTTP::header insert X-O $u\n}";
    let taken_out = "when HTTP_RESPONSE {\nHTTP::header sanitize A\nHTTP::header insert X-O [HTTP::header X-U]\n}";
    for body in [answered, taken_out] {
        assert!(!came_of(&ruled(body)).0.contains("X-O"), "{body}");
    }
    // Rules go in this order, each by what those before it left; a list of fields comes last.
    for body in [
        "HTTP::header remove X-U; HTTP::header insert X-O [HTTP::header X-U]",
        "HTTP::header remove X-U; if {[HTTP::header exists X-U]} { HTTP::header insert X-O 1 }",
        "set u [HTTP::header X-U]; HTTP::header insert X-O $u; HTTP::header remove X-U",
        "set u [HTTP::header X-U]; HTTP::header sanitize A; HTTP::header insert X-O $u",
        "HTTP::header sanitize X-U; if {[HTTP::header exists X-U]} { HTTP::header insert X-O 1 }",
    ] {
        let translation = ruled(&format!("when HTTP_REQUEST {{\n{}\n}}", body.replace("; ", "\n")));
        let (entities, _, told) = came_of(&translation);
        assert!(entities.contains("X-O") && !told.contains("another by then"), "{body}: {entities}{told}");
    }
}

#[test]
fn what_stands_in_place_of_an_answer_is_one_for_all() {
    let rule = |set: &str, condition: &str| {
        format!(
            "when HTTP_REQUEST {{\nset code 503\n{set}\n}}\n\
             when HTTP_RESPONSE {{ if {{{condition}}} {{ HTTP::respond 503 content $page }} }}"
        )
    };
    let switch = |name: &str, a: &str, b: &str| {
        format!(
            "set page C\nswitch [HTTP::host] {{ a.test {{ set {name} {a}\npool b }} default {{ set {name} {b} }} }}"
        )
    };
    for (set, condition, is_written) in [
        (switch("page", "A", "A"), "[HTTP::status] == 503", true),
        (switch("page", "A", "B"), "[HTTP::status] == 503", false),
        (switch("code", "503", "503"), "[HTTP::status] == $code", true),
        (switch("code", "502", "503"), "[HTTP::status] == $code", false),
    ] {
        let translation = ruled(&rule(&set, condition));
        let (entities, lost, told) = came_of(&translation);
        assert_eq!((entities.contains("fallback"), lost), (is_written, usize::from(!is_written)), "{set}: {told}");
    }
    let secured = "HTTP::header replace Location [string map {http:// https://} [HTTP::header Location]]";
    let asked = "[HTTP::header Location] starts_with \"http://\"";
    let translation = ruled(&format!("when HTTP_RESPONSE {{ if {{{asked}}} {{ {secured} }} }}"));
    let (entities, _, told) = came_of(&translation);
    assert!(entities.contains("location: all") && told.contains("without regard to case"), "{entities}{told}");
}

#[test]
fn settings_of_all_come_of_lines_for_all() {
    let set = "HTTP::cookie decrypt sid key";
    for (body, is_set) in [
        (format!("when HTTP_REQUEST {{ {set} }}"), true),
        (format!("when HTTP_REQUEST {{ if {{[HTTP::host] eq \"a.test\"}} {{ {set} }} }}"), false),
        (format!("when HTTP_REQUEST {{ if {{[HTTP::host] eq \"a.test\"}} {{ return }}\n{set} }}"), false),
        (format!("when HTTP_REQUEST {{ if {{[HTTP::host] eq \"a.test\"}} {{ reject }}\n{set} }}"), true),
    ] {
        let translation = ruled(&body);
        let (entities, _, told) = came_of(&translation);
        assert_eq!(entities.contains("encrypt: true"), is_set, "{body}: {entities}{told}");
    }
    for (body, left) in [
        ("when HTTP_REQUEST { HTTP::header sanitize A B\nHTTP::header sanitize B C }", "allow: [b]"),
        ("when HTTP_RESPONSE { HTTP::header sanitize A B\nHTTP::header sanitize B C }", "allow: [b]"),
    ] {
        let translation = ruled(body);
        assert!(came_of(&translation).0.contains(left), "{body}");
    }
    // A profile's list stays.
    let text = "ltm pool a { members { 192.0.2.9:80 { address 192.0.2.9 } } }\n\
                ltm profile http h {\n response-headers-permitted { A B }\n}\n\
                ltm rule r {\nwhen HTTP_RESPONSE { HTTP::header sanitize B C }\n}\n\
                ltm virtual v {\n destination 192.0.2.1:80\n pool a\n profiles { h { } }\n rules { r }\n}\n";
    assert!(came_of(&of_text(text)).0.contains("allow: [b]"));
}

#[test]
fn a_redirect_to_https_tells_what_it_leaves_out() {
    let to = "when HTTP_REQUEST { HTTP::respond 301 Location \"https://[HTTP::host][HTTP::uri]\"";
    for (rest, is_told) in [("", false), (" Set-Cookie \"a=b\"", true), (" content moved", true)] {
        let translation = ruled(&format!("{to}{rest} }}"));
        let (entities, _, told) = came_of(&translation);
        assert!(entities.contains("https_redirect_status_code: 301"), "{entities}");
        assert_eq!(told.contains("no other fields than Location"), is_told, "{rest}: {told}");
    }
}

#[test]
fn texts_have_an_end() {
    for (start, why) in [("xx", "bytes"), ("[HTTP::host]", "parts"), ("[class lookup $a g]", "parts")] {
        let doubled = "set a $a$a\n".repeat(40);
        let body = format!(
            "when HTTP_REQUEST {{\nset a [HTTP::host]\nset a {start}\n{doubled}\nHTTP::header insert X-A $a\n}}"
        );
        let translation = ruled(&body);
        let (entities, _, told) = came_of(&translation);
        assert!(!entities.contains("X-A") && told.contains(why) && told.contains("a text of more"), "{start}: {told}");
    }
}

#[test]
fn each_name_on_the_f5_has_a_file_of_its_own() {
    let profile = |name: &str, ca: &str, of: &str| {
        format!(
            "ltm profile client-ssl {name} {{\n cert {name}.crt\n key {name}.key\n server-name {name}.test\n {of}\n \
             peer-cert-mode require\n ca-file \"{ca}\"\n}}\n"
        )
    };
    for (one, other, files) in [
        ("/Common/partners-ca.crt", "/partners/ca.crt", ["partners-ca.crt", "partners-ca-2.crt"]),
        ("/Common/a b.crt", "/Common/a-b.crt", ["a-b.crt", "a-b-2.crt"]),
        ("/Common/ca", "/Common/ca.", ["ca", "ca-2"]),
        ("/Common/ca.crt", "ca.crt", ["ca.crt", "ca.crt"]),
        ("/Common/shop.example.com.crt", "/Api/api.key", ["shop.example.com.crt", "Api-api.key"]),
    ] {
        let text = format!(
            "ltm pool a {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n{}{}\
             ltm virtual v {{\n destination 192.0.2.1:443\n pool a\n profiles {{ http {{ }} m {{ }} n {{ }} }}\n}}\n",
            profile("m", one, "sni-default true"),
            profile("n", other, "sni-default false"),
        );
        let translation = of_text(&text);
        let toml = file(&translation, "edge.toml");
        let named: Vec<&str> = toml.split("client_ca = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let expected = if files[0] == files[1] { &files[..1] } else { &files[..] };
        assert_eq!(named, expected, "{toml}");
    }
}

#[test]
fn settings_for_the_proxy_protocol_are_named() {
    for event in ["CLIENT_DATA", "SERVER_CONNECTED", "SERVER_DATA"] {
        let told = ruled(&format!("when {event} {{ TCP::respond x }}")).report.to_string();
        assert!(told.contains("`proxy_protocol` of a listener") && told.contains("`[[proxy.upstreams]]`"), "{told}");
    }
}
