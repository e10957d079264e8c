//! `cargo xtask soak`: a long run in which everything changes. What is judged stands in `tests/bench/soak.rs`.

use anyhow::Result;

use crate::{ebpf, process};

/// Run the edge for long while connections, routes, tokens and upstreams change: no answer lost, memory flat
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 15)]
    minutes: u32,
    /// Fewer answers than this are a failure
    #[arg(long, default_value_t = 5_000_000)]
    least: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for program in ["taskset", "setpriv"] {
        process::need(program)?;
    }
    ebpf::build()?;
    let mut build = process::cargo();
    build.args(["build", "--profile", "dist", "--bin", "edge", "--bin", "bench"]);
    process::run("building the edge as it ships (some minutes)", &mut build)?;
    let mut bench = process::command(process::target().join("dist/bench"));
    bench.arg("soak").env("EDGE_BIN", process::target().join("dist/edge"));
    bench.args(["--minutes", &args.minutes.to_string(), "--least", &args.least.to_string()]);
    bench.arg("--folder").arg(process::root().join("target/soak"));
    process::run("soaking", &mut bench)
}
