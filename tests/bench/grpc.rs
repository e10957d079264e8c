//! gRPC unary calls: CPU of the edge per call beside nginx's `grpc_pass`, over HTTP/2 on both sides.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use edge_tests::edge::free_address;
use edge_tests::parties::say;
use http::{HeaderMap, HeaderValue, Response};
use serde_json::json;

use crate::peers::{bare_edge, fill, nginx};
use crate::process::{LOAD_CORE, PROXY_CORE, Running, pinned};

/// One message of 16 bytes, as gRPC frames it: no compression, length, bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x10sixteen bytes ok";

/// Where the upstream listens.
#[derive(clap::Args)]
pub(crate) struct Upstream {
    address: SocketAddr,
}

/// Interleaved rounds of edge and nginx; prints the medians and their ratio.
pub(crate) fn run(folder: &Path, rounds: usize, calls: u64) -> Result<()> {
    fs::create_dir_all(folder)?;
    let upstream = free_address();
    let mut command = pinned(LOAD_CORE, std::env::current_exe()?);
    command.arg("grpc-upstream").arg(upstream.to_string());
    let _upstream = Running::start(command, &folder.join("grpc-upstream.log"), &[upstream])?;
    fs::write(folder.join("message"), MESSAGE)?;
    let mut seen: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (peer, costs) in [("edge", 0), ("nginx", 1)] {
            let address = free_address();
            let proxy = match peer {
                "edge" => edge(folder, address, upstream)?,
                _ => grpc_pass(folder, address, upstream)?,
            };
            load(folder, address, calls / 10)?;
            let before = proxy.usage();
            load(folder, address, calls)?;
            let cost = (proxy.usage().cpu_ns - before.cpu_ns) as f64 / calls as f64 / 1e3;
            eprintln!("==> round {round}/{rounds} {peer:6} {cost:7.2} µs");
            seen[costs].push(cost);
        }
    }
    let [edge, nginx] = seen.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    say(&format!("gRPC unary, CPU per call: edge {edge:.1} µs, nginx {nginx:.1} µs, ratio {:.2}", edge / nginx));
    Ok(())
}

fn edge(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> Result<Running> {
    let route = json!({"name": "calls", "protocols": ["grpc"], "paths": ["/"]});
    let service = json!({"name": "grpc", "url": format!("grpc://{upstream}"), "routes": [route]});
    bare_edge(folder, "grpc", address, &json!({"_format_version": "3.0", "services": [service]}), "")
}

fn grpc_pass(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> Result<Running> {
    let file = folder.join("grpc-nginx.conf");
    let values = HashMap::from([
        ("FOLDER", folder.display().to_string()),
        ("ADDRESS", address.to_string()),
        ("UPSTREAM", upstream.to_string()),
    ]);
    fs::write(&file, fill(include_str!("grpc.conf"), &values))?;
    let mut command = pinned(PROXY_CORE, nginx());
    command.arg("-c").arg(&file).arg("-e").arg(folder.join("grpc-nginx.err"));
    Running::start(command, &folder.join("grpc-nginx.log"), &[address])
}

/// Calls by h2load: 16 connections with 8 calls under way each.
fn load(folder: &Path, address: SocketAddr, calls: u64) -> Result<()> {
    let mut command: Command = pinned(LOAD_CORE, "h2load");
    command.args(["-n", &calls.to_string(), "-c", "16", "-m", "8", "-H", "content-type: application/grpc"]);
    command.args(["-H", "te: trailers", "-d"]).arg(folder.join("message"));
    command.arg(format!("http://{address}/echo.Echo/Unary"));
    let output = command.output().context("h2load, of Debian's nghttp2-client")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let good = format!("{calls} succeeded, 0 failed, 0 errored");
    ensure!(text.contains(&good), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Answers every call with its own message and status 0, on one thread.
pub(crate) fn upstream(args: &Upstream) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(args.address).await?;
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(answer(request.into_body(), respond));
                }
            });
        }
    })
}

async fn answer(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    let mut message = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data);
    }
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = stream.send_data(message.into(), false);
    let _ = stream.send_trailers(trailers);
}
