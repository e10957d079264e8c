use super::*;

#[test]
fn routes_have_their_defaults_and_rules() {
    let s = good(
        "routes:\n- name: r\n  hosts: [a.example]\n- paths: [/x]\n  protocols: [https]\n  strip_path: false\n  https_redirect_status_code: 301\n",
    );
    let (first, second) = (&s.routes[0], &s.routes[1]);
    assert_eq!((first.protocols, first.https_redirect_status_code), (set(&[Protocol::Http, Protocol::Https]), 426));
    assert_eq!((first.strip_path, first.preserve_host, first.service.is_none()), (true, false, true));
    assert_eq!(
        (second.protocols, second.https_redirect_status_code, second.strip_path),
        (set(&[Protocol::Https]), 301, false)
    );
    assert_eq!((&*first.label, &*second.label), ("r", &*second.id.to_string()));
    assert_eq!(selected(&s, "A.example", 80, "/x"), Some((0, 0)));
    for (fields, expected) in [
        (
            "{}",
            "k:2: routes[0]: found no criterion, expected one: must set one of 'methods', 'hosts', 'headers', 'paths', \
             'snis' when 'protocols' is 'https'",
        ),
        (
            "{protocols: [http], paths: []}",
            "k:2: routes[0]: found no criterion, expected one: must set one of 'methods', 'hosts', 'headers', 'paths' \
             when 'protocols' is 'http'",
        ),
        ("{paths: [a]}", "k:2: routes[0].paths[0]: found \"a\", expected a path: should start with: /"),
        ("{paths: [/, /a//b]}", "k:2: routes[0].paths[1]: found \"/a//b\", expected the path's normal form, \"/a/b\""),
        ("{paths: ['/%41']}", "k:2: routes[0].paths[0]: found \"/%41\", expected the path's normal form, \"/A\""),
        (
            "{paths: ['/%zz']}",
            "k:2: routes[0].paths[0]: found \"/%zz\", expected a normal path: the path has a broken percent escape",
        ),
        ("{paths: ['~/(a']}", "k:2: routes[0].paths[0]: found \"~/(a\", expected a regular expression: unclosed group"),
        ("{methods: [get]}", "k:2: routes[0].methods[0]: found \"get\", expected a method in capital letters"),
        (
            "{hosts: ['a.*.b']}",
            "k:2: routes[0].hosts[0]: found \"a.*.b\", expected a host, *.host or host.*, each with or without :port",
        ),
        (
            "{paths: [/], headers: {Host: [b]}}",
            "k:2: routes[0].headers.Host: found the header host, \
             expected it in `hosts`: cannot contain 'host' header",
        ),
        (
            "{paths: [/], headers: {a: b}}",
            "k:2: routes[0].headers.a: found a string, expected a list of values, at least one",
        ),
        (
            "{protocols: [http], snis: [a], paths: [/]}",
            "k:2: routes[0].snis: found a list, expected nothing: \
             'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
        ),
        ("{paths: [/], path_handling: v2}", "k:2: routes[0].path_handling: found \"v2\", expected one of: v0, v1"),
        (
            "{paths: [/], protocols: [http, grpc]}",
            "k:2: routes[0].protocols: found http, grpc, expected those of one group: \
             http and https, tcp and tls, tls_passthrough, or grpc and grpcs",
        ),
        (
            "{paths: [/], protocols: [grpc], strip_path: true}",
            "k:2: routes[0].strip_path: found true, \
             expected false: cannot set 'strip_path' when 'protocols' is 'grpc'",
        ),
        (
            "{protocols: [tls_passthrough]}",
            "k:2: routes[0]: found no criterion, \
             expected it: must set 'snis' when 'protocols' is 'tls_passthrough'",
        ),
        (
            "{protocols: [tcp], paths: [/], sources: [{ip: 10.0.0.0/8}]}",
            "k:2: routes[0].paths: found a list, expected nothing: cannot set 'paths' when 'protocols' is 'tcp'",
        ),
        (
            "{protocols: [wss], paths: [/]}",
            "k:2: routes[0].protocols: found the protocol wss, expected https: WebSocket connections pass on it",
        ),
        (
            "{paths: [/], expression: 'true'}",
            "k:2: routes[0].expression: found a string, \
             expected nothing: routes match by their criteria (router_flavor traditional_compatible)",
        ),
        (
            "{paths: [/], https_redirect_status_code: 303}",
            "k:2: routes[0].https_redirect_status_code: found 303, expected one of: 426, 301, 302, 307, 308",
        ),
        (
            "{paths: [/], service: nope}",
            "k:2: routes[0].service: found \"nope\", expected the id or name of one of the file's 'services'",
        ),
        (
            "{paths: [/], service: {}}",
            "k:2: routes[0].service: found an object without `id` and `name`, expected one of them",
        ),
    ] {
        bad(&format!("routes: [{fields}]"), &[expected]);
    }
}

#[test]
fn top_level_routes_find_their_service_by_string_object_and_id() {
    let id = "5f1d7e1c-1111-4222-8333-444455556666";
    for service in ["s", "{name: s}", &format!("{{id: {id}}}"), id] {
        let s = good(&format!(
            "routes:\n- paths: [/]\n  service: {service}\nservices:\n- {{id: {id}, name: s, host: h}}\n"
        ));
        assert_eq!(s.routes[0].service.as_ref().unwrap().id.to_string(), id, "{service}");
    }
}

#[test]
fn routes_of_disabled_services_do_not_exist() {
    let s =
        good("services:\n- {host: a, enabled: false, routes: [{paths: [/a]}]}\n- {host: b, routes: [{paths: [/b]}]}\n");
    assert_eq!(s.routes.len(), 1);
    assert_eq!(selected(&s, "x", 80, "/b"), Some((0, 2)));
    assert_eq!(selected(&s, "x", 80, "/a"), None);
}

#[test]
fn equal_routes_go_by_age_then_by_place() {
    let s = good(
        "routes:\n- {name: c, paths: [/]}\n- {name: b, paths: [/], created_at: 20}\n- {name: a, paths: [/], created_at: 10}\n",
    );
    assert_eq!(s.routes.iter().map(|route| &*route.label).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(selected(&s, "x", 80, "/"), Some((0, 1)));
}
