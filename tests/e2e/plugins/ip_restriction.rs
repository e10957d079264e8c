use edge_tests::edge::Setup;
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::json;

use super::{behind, plugin};

#[test]
fn the_client_that_trusted_proxies_name_is_judged() {
    let upstream = Upstream::start();
    let config = json!({"allow": ["192.0.2.0/24", "2001:db8::/32"], "deny": ["192.0.2.66"]});
    let entities = behind(&upstream, json!([plugin("ip-restriction", config)])).to_string();
    let section = "[proxy]\ntrusted_ips = [\"127.0.0.1\"]\nreal_ip_header = \"X-Forwarded-For\"";
    let edge = Setup::new(entities).section(section).start();
    for (client, passes) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("2001:db8::1", true),
        ("192.0.2.66", false),
        ("203.0.113.1", false),
    ] {
        let answer = edge.ask(get("/", &[&format!("X-Forwarded-For: {client}"), "Accept: text/plain"]));
        if passes {
            assert_eq!(answer.status(), 200, "{client}");
            continue;
        }
        let id = answer.field("x-kong-request-id").expect("an id");
        let expected = format!("IP address not allowed: {client}\nrequest_id: {id}\n");
        assert_eq!((answer.status(), answer.text()), (403, expected));
        assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(edge.reason_of(&answer), "address_not_allowed");
    }
}
