//! `cargo xtask ci`: every check there is, the quick ones first.

use anyhow::Result;

use crate::{ebpf, kernel, process, test};

/// Run every check: format, lints, the other crypto library, all tests, other kernels
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    process::run("checking the format", process::cargo().args(["fmt", "--all", "--check"]))?;
    process::need("cc")?;
    ebpf::build()?;
    process::run(
        "checking with clippy",
        process::cargo().args(["clippy", "--release", "--all-targets", "--", "-D", "warnings"]),
    )?;
    process::run(
        "checking the feature aws-lc",
        process::cargo()
            .args(["clippy", "--release", "--package", "edge-user", "--features", "aws-lc"])
            .args(["--", "-D", "warnings"]),
    )?;
    test::run(&test::Args::default())?;
    if process::am_root() {
        return kernel::run_matrix();
    }
    process::step("leaving out the other kernels, which need root: run `cargo xtask kernel --matrix`");
    Ok(())
}
