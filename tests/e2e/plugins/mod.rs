//! The small plugins over sockets, a module each: alone, and after openid-connect.

mod acl;
mod chunking;
mod correlation_id;
mod cors;
mod http_profile;
mod ip_restriction;
mod request_size_limiting;
mod request_termination;
mod request_transformer;
mod response_transformer;

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::Key;
use edge_tests::upstream::Upstream;
use serde_json::{Value, json};

use super::{bearer, plus};

/// One route for everything with these plugins.
fn with_plugins(upstream: &Upstream, plugins: Value) -> Edge {
    Setup::new(behind(upstream, plugins).to_string()).start()
}

fn behind(upstream: &Upstream, plugins: Value) -> Value {
    let route = json!({"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins});
    json!({"_format_version": "3.0", "services": [{"name": "up", "url": upstream.url(), "routes": [route]}]})
}

/// A plugin's entity.
fn plugin(name: &str, config: Value) -> Value {
    json!({"name": name, "config": config})
}

/// An edge whose tokens stand for consumers, with further plugins on its one route or anywhere.
struct Known {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Known {
    fn start(oidc: Value, on_route: &[Value], anywhere: Value) -> Self {
        Self::with(oidc, on_route, anywhere, json!({"consumers": [{"username": "ann"}, {"username": "bob"}]}))
    }

    /// The same with consumers of the test's own.
    fn with(oidc: Value, on_route: &[Value], anywhere: Value, consumers: Value) -> Self {
        let (upstream, key) = (Upstream::start(), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        let mut plugins = vec![plugin("openid-connect", plus(bearer(&issuer.url()), oidc))];
        plugins.extend(on_route.iter().cloned());
        let entities = plus(plus(behind(&upstream, plugins.into()), json!({"plugins": anywhere})), consumers);
        let edge = Setup::new(entities.to_string()).start();
        Self { edge, upstream, issuer, key }
    }

    /// A request with a good token for this subject.
    fn ask(&self, subject: &str, more: Value) -> edge_tests::wire::Message {
        let claims = edge_tests::mint::claims(&self.issuer.url(), super::AUDIENCE);
        let claims = edge_tests::mint::with(claims, plus(json!({"sub": subject}), more));
        self.edge.ask(super::with_token(&self.key.token(&claims)))
    }
}
