//! `cargo xtask ci`: every check there is, the quick ones first.

use anyhow::Result;

use crate::{ebpf, kernel, process, setup, test};

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
            .args(["clippy", "--release", "--package", "edge-user", "--package", "edge-tests"])
            .args(["--features", "edge-user/aws-lc,edge-tests/aws-lc"])
            .args(["--", "-D", "warnings"]),
    )?;
    test::run(&test::Args::default())?;
    // What the feature replaces, and what is built on that; unoptimized, for it is compiled once more.
    let mut tests = process::command(setup::nextest()?);
    process::forget_ourselves(&mut tests);
    tests.args(["nextest", "run", "--release", "--package", "edge-user", "--features", "aws-lc"]);
    tests.args(["--config", "profile.release.package.edge-user.opt-level=0"]);
    tests.args(["--filterset", "test(crypto::) | test(tls::) | test(oauth::) | test(token::)"]);
    process::run("testing the feature aws-lc", &mut tests)?;
    if process::am_root() {
        return kernel::run_matrix();
    }
    process::step("leaving out the other kernels, which need root: run `cargo xtask kernel --matrix`");
    Ok(())
}
