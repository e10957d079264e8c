//! `cargo xtask setup`: finds or installs what the machine lacks. Quick when nothing is missing.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    ebpf::{self, Choice},
    process,
};

/// Pinned, so that every machine builds the same one.
const NEXTEST_VERSION: &str = "0.9.143";

/// Find or install what the machine lacks
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    // cc for ring, SQLite and all linking; c++ for bpf-linker, since LLVM is C++.
    for program in ["cc", "c++", "curl", "ip"] {
        have(program, process::need(program)?.display());
    }
    have("kernel toolchain", ebpf::toolchain(Choice::from_env()?)?);
    have("bpf-linker", ebpf::linker()?.display());
    have("cargo-nextest", nextest()?.display());
    Ok(())
}

/// Gives the path of cargo-nextest, building it for this workspace where it is missing.
pub(crate) fn nextest() -> Result<PathBuf> {
    if let Some(path) = process::find("cargo-nextest") {
        return Ok(path);
    }
    let own = process::tools().join("bin/cargo-nextest");
    if process::is_executable(&own) {
        return Ok(own);
    }
    process::need("cc")?;
    process::cargo_install("cargo-nextest", NEXTEST_VERSION, "default-no-update", &[])
}

fn have(what: &str, place: impl std::fmt::Display) {
    process::step(format!("{what:<16}  {place}"));
}
