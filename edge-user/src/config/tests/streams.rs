use super::*;
use crate::config::snapshot::{Endpoint, StreamRoute};
use crate::router::{StreamProtocol, StreamRequest};
use crate::settings::Cidr;

#[test]
fn stream_routes_have_criteria_of_their_own() {
    let s = good(
        "services:\n- {name: db, url: 'tcp://h:5432', routes: [{name: r, protocols: [tcp, tls], snis: ['*.x', 'A.b.'],\n    \
         sources: [{ip: 10.0.0.0/8}], destinations: [{ip: '::1', port: 9}, {port: 8}]}]}\n\
         - {name: up, protocol: tls, host: h, port: 5, tls_verify: false, routes: [{name: t, protocols: [tls], snis: [t]}]}\n\
         - {name: off, enabled: false, url: 'tls_passthrough://h', routes: [{protocols: [tls_passthrough], snis: [o]}]}\n",
    );
    let [route, other] = &s.stream_routes[..] else { panic!("{} routes", s.stream_routes.len()) };
    assert_eq!((&*route.label, &route.protocols), ("r", &vec![StreamProtocol::Tcp, StreamProtocol::Tls]));
    assert!(route.snis[0].matches(b"y.x") && route.snis[1].matches(b"a.b"));
    assert_eq!(route.sources, [Endpoint { network: Cidr::parse("10.0.0.0/8"), port: None }]);
    assert_eq!(route.destinations[0], Endpoint { network: Cidr::parse("::1"), port: Some(9) });
    assert_eq!(route.destinations[1], Endpoint { network: None, port: Some(8) });
    let service = |route: &StreamRoute| route.service.as_ref().map(|service| (service.scheme, service.port));
    assert_eq!((service(route), service(other)), (Some((Scheme::Tcp, 5432)), Some((Scheme::Tls, 5))));
    let tls = other.service.as_ref().and_then(|service| service.tls.as_ref()).unwrap();
    assert!(tls.alpn_protocols.is_empty() && s.routes.is_empty());
    let request = StreamRequest {
        source: "10.1.1.1:1".parse().unwrap(),
        destination: "127.0.0.1:8".parse().unwrap(),
        sni: Some("y.x"),
        tls: true,
    };
    assert_eq!(s.stream_router.select(&request), Some(0));
}

#[test]
fn wrong_stream_routes_are_refused() {
    for (entities, expected) in [
        (
            "routes: [{protocols: [tcp, http], paths: [/]}]",
            "k:2: routes[0].protocols: found http, tcp, expected those of one group: \
             http and https, tcp and tls, tls_passthrough, or grpc and grpcs",
        ),
        (
            "routes: [{protocols: [tcp]}]",
            "k:2: routes[0]: found no criterion, \
             expected one: must set one of 'sources', 'destinations' when 'protocols' is 'tcp'",
        ),
        (
            "routes: [{protocols: [tls_passthrough], sources: [{port: 1}]}]",
            "k:2: routes[0]: found no criterion, \
             expected it: must set 'snis' when 'protocols' is 'tls_passthrough'",
        ),
        (
            "routes: [{protocols: [tcp], snis: [a], sources: [{port: 1}]}]",
            "k:2: routes[0].snis: found a list, expected nothing: \
             'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
        ),
        (
            "routes: [{protocols: [tcp], sources: [{}]}]",
            "k:2: routes[0].sources[0]: found neither `ip` nor `port`, expected at least one of them",
        ),
        (
            "services: [{url: 'https://h', routes: [{protocols: [tcp], sources: [{port: 1}]}]}]",
            "k:2: services[0].routes[0]: found a service that cannot take what the route does, \
             expected a service with protocol tcp or tls",
        ),
        (
            "services: [{url: 'tls://h', routes: [{protocols: [tls_passthrough], snis: [a]}]}]",
            "k:2: services[0].routes[0]: found a service that cannot take what the route does, \
             expected a service with protocol tcp or tls_passthrough",
        ),
        (
            "services: [{url: 'tcp://h', routes: [{paths: [/]}]}]",
            "k:2: services[0].routes[0]: found a service that cannot take what the route does, \
             expected a service with protocol http, https, grpc or grpcs",
        ),
        (
            "services: [{protocol: tcp, host: h, path: /x}]",
            "k:2: services[0].path: found a string, \
             expected nothing: value must be null unless the protocol is http or https",
        ),
    ] {
        bad(entities, &[expected]);
    }
    let plugin = "plugins: [{name: openid-connect, config: {issuer: 'https://i', audience_required: [a]}}]";
    let route = format!("routes: [{{protocols: [tcp], sources: [{{port: 1}}], {plugin}}}]");
    let problems = load_yaml(&format!("_format_version: \"3.0\"\n{route}")).err().unwrap();
    assert!(problems.to_string().contains("ip-restriction alone runs on connections"), "{problems}");
}
