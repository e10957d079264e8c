//! `cargo xtask kernel`: the tests of `tests/kernel` on the kernel that runs here, or on those that edges run on.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, matrix, process, setup};

/// Test the kernel object on this machine's kernel, or on Debian's 6.1 and 6.12 under QEMU
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only the tests whose name contains this
    #[arg(conflicts_with = "matrix")]
    filter: Option<String>,
    /// All of them on each of Debian's kernels
    #[arg(long)]
    matrix: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !process::am_root() {
        bail!("loading programs and making network namespaces needs root; as root, run: cargo xtask kernel");
    }
    if args.matrix {
        return run_matrix();
    }
    process::need("ip")?;
    let nextest = setup::nextest()?;
    ebpf::build()?;
    process::run(
        "building the edge",
        process::cargo().args(["build", "--release", "--package", "edge-user", "--bins"]),
    )?;
    let mut tests = process::command(nextest);
    process::forget_ourselves(&mut tests);
    tests.args(["nextest", "run", "--release", "--package", "edge-tests", "--test", "kernel"]).args(&args.filter);
    process::run("testing the kernel object on this kernel", &mut tests)
}

/// The tests on each of Debian's kernels.
pub(crate) fn run_matrix() -> Result<()> {
    ebpf::build()?;
    // As `cargo xtask test` builds them: built apart, the edge would be compiled once more.
    let built = process::output(
        process::cargo()
            .args(["build", "--release", "--workspace", "--all-targets"])
            .args(["--message-format", "json"]),
    )?;
    let tests = executable(&built).context("cargo names no executable of the kernel tests")?;
    matrix::run(&tests, &process::target().join("release/edge"))
}

/// The kernel tests' executable, in what cargo says of a build.
fn executable(messages: &str) -> Option<PathBuf> {
    let ours =
        messages.lines().find(|line| line.contains("\"kind\":[\"test\"]") && line.contains("\"name\":\"kernel\""))?;
    let (_, rest) = ours.split_once("\"executable\":\"")?;
    rest.split_once('"').map(|(path, _)| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_executable_is_found() {
        let messages = r#"{"target":{"kind":["lib"],"name":"x"},"executable":null}
{"target":{"kind":["test"],"name":"e2e"},"executable":"/t/e2e-1"}
{"target":{"kind":["test"],"crate_types":["bin"],"name":"kernel"},"executable":"/t/kernel-2","fresh":true}"#;
        assert_eq!(executable(messages), Some("/t/kernel-2".into()));
        assert_eq!(executable(""), None);
    }
}
