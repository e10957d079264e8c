//! `GET /`, `/status`, `/status/ready` and `/metrics`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{AdminState, message};
use crate::metrics;

/// The facts of a process that stay.
#[derive(Debug)]
pub struct Node {
    /// The program's version.
    pub version: &'static str,
    /// The machine's name.
    pub hostname: String,
    /// Made anew at each start, or kept in the store.
    pub node_id: Uuid,
    /// Threads that serve clients.
    pub workers: usize,
    /// Listeners for requests, and whether they speak TLS.
    pub listeners: Vec<(SocketAddr, bool)>,
    /// The same for streams.
    pub stream_listeners: Vec<(SocketAddr, bool)>,
    /// Every plugin this program has.
    pub plugins: Vec<PluginInfo>,
}

/// A plugin as `GET /` lists it.
#[derive(Debug)]
pub struct PluginInfo {
    /// As the configuration spells it.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Kong's `PRIORITY`: higher runs first.
    pub priority: u32,
}

/// What changes with a reload.
#[derive(Debug)]
pub struct Configuration {
    /// Changes when, and only when, an entity does.
    pub hash: String,
    /// Names of the plugins in use.
    pub enabled_plugins: BTreeSet<String>,
    /// Whether tokens are to be verified, and no issuer has given its keys.
    pub lacks_keys: bool,
}

pub(super) async fn root(State(state): State<AdminState>) -> Response {
    let node = &state.node;
    let available: Map<String, Value> = node
        .plugins
        .iter()
        .map(|plugin| (plugin.name.into(), json!({"version": plugin.version, "priority": plugin.priority})))
        .collect();
    let listen = |(address, tls): &(SocketAddr, bool)| format!("{address}{}", if *tls { " ssl" } else { "" });
    answer(json!({
        "tagline": "Welcome to edge",
        "version": node.version,
        "edition": "community",
        "hostname": node.hostname,
        "node_id": node.node_id.to_string(),
        "plugins": {
            "available_on_server": available,
            "enabled_in_cluster": (state.configuration)().enabled_plugins,
        },
        "configuration": {
            "database": "off",
            "admin_listen": [state.address.to_string()],
            "proxy_listen": node.listeners.iter().map(listen).collect::<Vec<_>>(),
            "stream_listen": node.stream_listeners.iter().map(listen).collect::<Vec<_>>(),
            "worker_count": node.workers,
        },
        "pids": {"master": std::process::id()},
    }))
}

pub(super) async fn status(State(state): State<AdminState>) -> Response {
    let totals = state.registry.totals();
    answer(json!({
        "server": {
            "connections_accepted": totals.accepted,
            "connections_active": totals.open_connections,
            "total_requests": totals.requests(),
        },
        "memory": {"resident_bytes": metrics::resident_bytes()},
        "configuration_hash": (state.configuration)().hash,
        // Without a database Kong calls it reachable: nothing is waited for.
        "database": {"reachable": true},
    }))
}

/// Whether requests are worth sending here: 503 while tokens are to be verified and no issuer's keys are known (K7).
pub(super) async fn ready(State(state): State<AdminState>) -> Response {
    match (state.configuration)().lacks_keys {
        false => message(StatusCode::OK, "ready"),
        true => message(StatusCode::SERVICE_UNAVAILABLE, "not ready: no issuer has given its keys yet"),
    }
}

pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    // Collectors and `/proc` may take a moment; the runtime's own threads have other work.
    match tokio::task::spawn_blocking(move || state.registry.render()).await {
        Ok(text) => ([("content-type", metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred"),
    }
}

fn answer(body: Value) -> Response {
    ([("x-content-type-options", "nosniff")], Json(body)).into_response()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::router;
    use crate::http_server::Limits;
    use crate::http_server::tests::Running;
    use crate::keysets::KeySets;
    use crate::metrics::Registry;
    use crate::plugin::PluginEnv;
    use std::sync::Arc;

    async fn admin() -> Running {
        admin_with(PluginEnv::default().key_sets().clone()).await
    }

    /// An Admin API with these key sets.
    pub(in crate::admin) async fn admin_with(key_sets: Arc<KeySets>) -> Running {
        let registry = Registry::new("1.2.3", Uuid::nil());
        let worker = registry.worker();
        worker.accepted.add(3);
        worker.open_connections.raise();
        worker.request(crate::http::head::Version::Http2, 200);
        let state = AdminState {
            node: Arc::new(Node {
                version: "1.2.3",
                hostname: "edge-1".into(),
                node_id: Uuid::nil(),
                workers: 2,
                listeners: vec![("0.0.0.0:8443".parse().unwrap(), true)],
                stream_listeners: vec![("0.0.0.0:9000".parse().unwrap(), false)],
                plugins: vec![PluginInfo { name: "openid-connect", version: "1.2.3", priority: 1050 }],
            }),
            registry: Arc::new(registry),
            configuration: Arc::new(|| Configuration {
                hash: "abc".into(),
                enabled_plugins: ["openid-connect".to_owned()].into(),
                lacks_keys: false,
            }),
            client_keys: Arc::default(),
            issuers: PluginEnv::default().keys().clone(),
            key_sets,
            address: "127.0.0.1:8001".parse().unwrap(),
        };
        Running::start(router(state), Limits::default()).await
    }

    #[tokio::test]
    async fn client_keys_are_published_and_rotated() {
        let running = admin().await;
        let (status, head, body) = running.request("GET /openid-connect/jwks", "", "").await;
        assert_eq!((status, body.as_str()), (200, "{\"keys\":[]}"));
        assert!(head.contains("content-type: application/jwk-set+json"), "{head}");
        assert_eq!(running.request("DELETE /openid-connect/jwks", "", "").await.0, 204);
        assert_eq!(running.request("POST /openid-connect/jwks", "", "").await.0, 405);
    }

    #[tokio::test]
    async fn issuers_are_listed_and_found_by_url_or_id() {
        let running = admin().await;
        let (status, head, body) = running.request("GET /openid-connect/issuers", "", "").await;
        assert_eq!((status, body.as_str()), (200, "{\"data\":[],\"next\":null}"));
        assert!(head.contains("content-type: application/json"), "{head}");
        assert_eq!(running.request("DELETE /openid-connect/issuers/", "", "").await.0, 204);
        for name in ["https://idp.example/", "https:%2F%2Fidp.example", &Uuid::nil().to_string(), "x"] {
            for method in ["GET", "DELETE"] {
                let (status, _, body) =
                    running.request(&format!("{method} /openid-connect/issuers/{name}"), "", "").await;
                assert_eq!((status, body.as_str()), (404, "{\"message\":\"Not found\"}"), "{method} {name}");
            }
        }
        assert_eq!(running.request("POST /openid-connect/issuers", "", "").await.0, 405);
    }

    #[tokio::test]
    async fn the_node_describes_itself_as_kong_does() {
        let (status, head, body) = admin().await.request("GET /", "", "").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body,
            json!({
                "tagline": "Welcome to edge", "version": "1.2.3", "edition": "community", "hostname": "edge-1",
                "node_id": "00000000-0000-0000-0000-000000000000",
                "plugins": {
                    "available_on_server": {"openid-connect": {"version": "1.2.3", "priority": 1050}},
                    "enabled_in_cluster": ["openid-connect"],
                },
                "configuration": {
                    "database": "off", "admin_listen": ["127.0.0.1:8001"], "proxy_listen": ["0.0.0.0:8443 ssl"],
                    "stream_listen": ["0.0.0.0:9000"],
                    "worker_count": 2,
                },
                "pids": {"master": std::process::id()},
            })
        );
    }

    #[tokio::test]
    async fn status_and_metrics_have_the_workers_numbers() {
        let admin = admin().await;
        let (_, _, body) = admin.request("GET /status", "", "").await;
        let mut body: Value = serde_json::from_str(&body).unwrap();
        assert!(body["memory"]["resident_bytes"].take().as_u64().unwrap() > 0);
        assert_eq!(
            body,
            json!({
                "server": {"connections_accepted": 3, "connections_active": 1, "total_requests": 1},
                "memory": {"resident_bytes": null},
                "configuration_hash": "abc",
                "database": {"reachable": true},
            })
        );
        let (_, head, body) = admin.request("GET /metrics", "", "").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("\nedge_connections_accepted_total 3\n"), "{body}");
    }

    #[tokio::test]
    async fn methods_and_paths_are_answered_like_kongs() {
        let admin = admin().await;
        for (line, expected, body) in [
            ("GET /status/", 200, None),
            ("HEAD /status", 200, Some("")),
            ("HEAD /", 200, Some("")),
            ("OPTIONS /metrics", 204, Some("")),
            ("GET /nothing", 404, Some(r#"{"message":"Not found"}"#)),
            ("GET //", 404, Some(r#"{"message":"Not found"}"#)),
            ("POST /status", 405, Some(r#"{"message":"Method not allowed"}"#)),
            ("DELETE /", 405, Some(r#"{"message":"Method not allowed"}"#)),
        ] {
            let (status, head, answer) = admin.request(line, "", "").await;
            assert_eq!(status, expected, "{line}");
            if let Some(body) = body {
                assert_eq!(answer, body, "{line}");
            }
            assert_eq!(head.contains("allow: get"), [204, 405].contains(&status), "{line}: {head}");
        }
    }

    /// A3.
    #[tokio::test]
    async fn a_web_page_is_not_answered() {
        let admin = admin().await;
        let (status, head, body) = admin.request("GET /status", "Host: rebound.example\r\n", "").await;
        assert_eq!(status, 403);
        assert!(body.starts_with(r#"{"message":"Host is not this Admin API"#), "{body}");
        assert!(!head.contains("access-control"), "{head}");
        assert_eq!(admin.request("GET /nothing", "Host: rebound.example\r\n", "").await.0, 403);
        assert_eq!(admin.request("GET /status", "Host: [::1]:1\r\nOrigin: http://x.example\r\n", "").await.0, 200);
    }
}
