//! `cargo xtask kernel`: the tests of `tests/kernel` on the kernel that runs here.

use anyhow::{Result, bail};

use crate::{ebpf, process, setup};

/// Test the kernel object on this machine's kernel
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !process::am_root() {
        bail!("loading programs and making network namespaces needs root; as root, run: cargo xtask kernel");
    }
    process::need("ip")?;
    let nextest = setup::nextest()?;
    ebpf::build()?;
    let mut tests = process::command(nextest);
    process::forget_ourselves(&mut tests);
    tests.args(["nextest", "run", "--release", "--package", "edge-tests", "--test", "kernel"]).args(&args.filter);
    process::run("testing the kernel object on this kernel", &mut tests)
}
