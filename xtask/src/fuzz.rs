//! `cargo xtask fuzz`: runs the fuzz targets of `tests/fuzz` with libFuzzer, each for a while. What it finds is to be
//! put into the target's corpus, where `cargo xtask test` replays it on stable.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, process};

/// Pinned, so that every machine builds the same one.
const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Fuzz every parser of foreign bytes, or one target, for a while each (needs rustup's nightly)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target: a file name of tests/fuzz/fuzz_targets, without `.rs`
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    let wanted: Vec<&String> =
        targets.iter().filter(|target| args.target.as_ref().is_none_or(|only| only == *target)).collect();
    if wanted.is_empty() {
        bail!("no such fuzz target; there are: {}", targets.join(", "));
    }
    process::need("cc")?;
    process::need("c++")?;
    nightly()?;
    let cargo_fuzz = cargo_fuzz()?;
    ebpf::build()?;
    let build = process::root().join("target/fuzz");
    for target in wanted {
        let found = build.join("corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        let mut fuzz = process::command(&cargo_fuzz);
        // The edge has no unsafe code on these ways, so a sanitizer would cost half the speed and find nothing.
        fuzz.args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", "--target-dir"]).arg(&build);
        // New inputs go to the first folder; the kept ones are only read.
        fuzz.arg(target).arg(&found).arg(process::root().join("tests/fuzz/corpus").join(target));
        fuzz.args(["--", "-timeout=10", "-print_final_stats=1"]).arg(format!("-max_total_time={}", args.seconds));
        // Over any the caller has: the workspace's compiler is stable.
        fuzz.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("RUSTC").env_remove("CARGO");
        process::run(&format!("fuzzing {target} for {} s", args.seconds), &mut fuzz)?;
    }
    Ok(())
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let folder = process::root().join("tests/fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let names =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// libFuzzer's instrumentation is a compiler flag that only nightly takes.
fn nightly() -> Result<()> {
    let Some(rustup) = process::find("rustup") else {
        bail!("fuzzing needs a nightly compiler, and rustup, which would bring it, is missing: see https://rustup.rs");
    };
    let version = ["run", "nightly", "rustc", "--version"];
    if process::output(process::command(&rustup).args(version)).is_ok() {
        return Ok(());
    }
    process::run(
        "installing the nightly compiler",
        process::command(rustup).args(["toolchain", "install", "nightly", "--profile", "minimal"]),
    )
}

/// Gives the path of cargo-fuzz, building it for this workspace where it is missing.
fn cargo_fuzz() -> Result<PathBuf> {
    if let Some(path) = process::find("cargo-fuzz") {
        return Ok(path);
    }
    let own = process::tools().join("bin/cargo-fuzz");
    match process::is_executable(&own) {
        true => Ok(own),
        false => process::cargo_install("cargo-fuzz", CARGO_FUZZ_VERSION, "", &[]),
    }
}
