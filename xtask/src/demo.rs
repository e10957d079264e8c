//! `cargo xtask demo`: the edge with its embedded issuer and echo upstream, and a table of good and bad tokens.

use anyhow::Result;

use crate::{ebpf, process};

/// Show the edge with real requests and real tokens
#[derive(clap::Args)]
pub(crate) struct Args {
    /// End after the table, with a failure where a row differs
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    process::need("curl")?;
    let openssl = process::need("openssl")?;
    ebpf::build()?;
    process::run(
        "building the edge and the demo",
        process::cargo().args(["build", "--release", "--bin", "edge", "--bin", "demo"]),
    )?;
    let folder = process::root().join("target/demo");
    std::fs::create_dir_all(&folder)?;
    let key = folder.join("signing-key.pem");
    if !key.is_file() {
        process::run(
            "making the issuer's key",
            process::command(openssl).args(["genpkey", "-quiet", "-algorithm", "RSA", "-out"]).arg(&key),
        )?;
    }
    let release = process::target().join("release");
    let mut demo = process::command(release.join("demo"));
    demo.arg("--edge").arg(release.join("edge")).arg("--signing-key").arg(&key).arg("--folder").arg(&folder);
    if args.once {
        demo.arg("--once");
    }
    process::run("starting the demo", &mut demo)
}
