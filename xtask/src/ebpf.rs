//! `cargo xtask ebpf`: builds the kernel object that `edge-user/build.rs` embeds.
//!
//! `core` for the kernel's target needs an unstable compiler, which is another one than the workspace's: a nightly with
//! `rust-src` where rustup has one, else Debian's own. What finds them installs them too; `setup` only asks for it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use crate::process;

/// The release of bpf-linker, and of the LLVM it is linked to: it reads bitcode up to that LLVM.
const LINKER_VERSION: &str = "0.13.0";
const LLVM: u32 = 22;
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_PACKAGES: [&str; 4] = ["llvm-22-dev", "zlib1g-dev", "libzstd-dev", "libpolly-22-dev"];
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "kernel";
/// BTF (`--btf`, from debug information) is what the verifier needs to know of functions; v3 is Linux 5.1.
const RUSTFLAGS: [&str; 3] = ["-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf"];

/// Build the kernel object
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The compiler to build it with [default: what EDGE_KERNEL_TOOLCHAIN says, else auto]
    #[arg(long, value_enum)]
    toolchain: Option<Choice>,
}

/// Which compiler may build the kernel object.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Choice {
    /// The nightly if it serves, else Debian's
    Auto,
    /// The rustup toolchain `nightly`, with its component `rust-src`
    Nightly,
    /// Debian's packages rustc-web, cargo-web and rust-web-src
    Debian,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    build_with(args.toolchain.map_or_else(Choice::from_env, Ok)?).map(drop)
}

/// Builds the kernel object if it is not up to date, and gives its path.
pub(crate) fn build() -> Result<PathBuf> {
    build_with(Choice::from_env()?)
}

fn build_with(choice: Choice) -> Result<PathBuf> {
    let toolchain = toolchain(choice)?;
    let linker = linker()?;
    let started = Instant::now();
    let target_dir = process::root().join("target/bpf/build");
    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--package", "edge-ebpf", "--bin", "edge-ebpf"])
        .args(["--no-default-features", "--features", "kernel"])
        .args(["--profile", PROFILE, "--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker);
    process::run(&format!("building the kernel object with {toolchain}"), &mut cargo)?;
    let built = target_dir.join(TARGET).join(PROFILE).join("edge-ebpf");
    let object = object();
    place(&built, &object)?;
    process::step(format!("{} ready in {:.1} s", object.display(), started.elapsed().as_secs_f32()));
    Ok(object)
}

/// Where the object stands, whatever `CARGO_TARGET_DIR` says; `edge-user/build.rs` knows the same place.
fn object() -> PathBuf {
    process::root().join("target/bpf/edge.o")
}

/// Puts the object in its place, leaving an equal one untouched: its time is what makes cargo build userspace anew.
fn place(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(object).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    // A rename is atomic: a build that runs meanwhile sees the old object or the new.
    let fresh = object.with_extension("o.new");
    fs::write(&fresh, bytes).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, object).with_context(|| format!("writing {}", object.display()))
}

impl Choice {
    /// What `EDGE_KERNEL_TOOLCHAIN` says, for every subcommand that needs the kernel object.
    pub(crate) fn from_env() -> Result<Self> {
        let Some(value) = env::var_os("EDGE_KERNEL_TOOLCHAIN") else { return Ok(Self::Auto) };
        let value = value.to_string_lossy();
        Self::from_str(&value, false).map_err(|error| anyhow!("EDGE_KERNEL_TOOLCHAIN: {error}"))
    }
}

/// A compiler that can build `core` for the kernel's target.
#[derive(Debug, PartialEq)]
pub(crate) enum Toolchain {
    Nightly,
    Debian,
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nightly => "the rustup toolchain nightly",
            Self::Debian => "Debian's rustc-web",
        })
    }
}

impl Toolchain {
    fn cargo(&self) -> Command {
        match self {
            Self::Nightly => rustup("cargo"),
            Self::Debian => {
                let mut cargo = process::command("/usr/bin/cargo");
                // Debian's compiler is a stable one; this lets it build `core`.
                cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
                cargo
            }
        }
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Nightly => rustup("rustc"),
            Self::Debian => process::command("/usr/bin/rustc"),
        }
    }

    /// Whether it is here, whole, and speaks the linker's LLVM; else what it lacks.
    fn check(&self) -> Result<()> {
        if *self == Self::Nightly && process::find("rustup").is_none() {
            bail!("there is no rustup");
        }
        if *self == Self::Debian && !process::is_executable(Path::new("/usr/bin/cargo")) {
            bail!("cargo-web is not installed");
        }
        let version = process::output(self.rustc().arg("-vV"))?;
        match llvm_major(&version) {
            Some(llvm) if llvm <= LLVM => {}
            Some(llvm) => bail!("it has LLVM {llvm}, and bpf-linker {LINKER_VERSION} reads up to {LLVM}"),
            None => bail!("it does not name its LLVM"),
        }
        let sysroot = process::output(self.rustc().args(["--print", "sysroot"]))?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
        if !core.is_file() {
            bail!("it lacks the source of `core` ({})", core.display());
        }
        Ok(())
    }
}

fn rustup(program: &str) -> Command {
    let mut command = process::command("rustup");
    command.args(["run", "nightly", program]);
    command
}

fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// Finds the compiler, or installs Debian's.
pub(crate) fn toolchain(choice: Choice) -> Result<Toolchain> {
    let mut reasons = Vec::new();
    if choice != Choice::Debian {
        match Toolchain::Nightly.check() {
            Ok(()) => return Ok(Toolchain::Nightly),
            Err(reason) => reasons.push(format!("the rustup toolchain nightly does not serve: {reason:#}")),
        }
    }
    if choice != Choice::Nightly {
        let Err(reason) = Toolchain::Debian.check() else { return Ok(Toolchain::Debian) };
        reasons.push(format!("Debian's compiler does not serve: {reason:#}"));
        match process::apt_install(&DEBIAN_PACKAGES).and_then(|()| Toolchain::Debian.check()) {
            Ok(()) => return Ok(Toolchain::Debian),
            Err(reason) => reasons.push(format!("{reason:#}")),
        }
    }
    let add = "with rustup: rustup toolchain install nightly --profile minimal --component rust-src";
    bail!("no compiler for the kernel object\n  {}\n  {add}", reasons.join("\n  "))
}

/// Finds bpf-linker, or builds it for this workspace alone.
pub(crate) fn linker() -> Result<PathBuf> {
    let own = process::tools().join("bin/bpf-linker");
    for candidate in process::find("bpf-linker").into_iter().chain([own]) {
        let version = process::output(Command::new(&candidate).arg("--version")).unwrap_or_default();
        if version.split_whitespace().last() == Some(LINKER_VERSION) {
            return Ok(candidate);
        }
    }
    process::need("c++")?;
    if !Path::new(LLVM_PREFIX).join("include/llvm-c/Core.h").is_file() {
        process::apt_install(&LINKER_PACKAGES)?;
    }
    process::cargo_install("bpf-linker", LINKER_VERSION, "llvm-22", &[("LLVM_PREFIX", LLVM_PREFIX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_compiler_is_read() {
        assert_eq!(llvm_major("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }

    #[test]
    fn an_equal_object_is_left_untouched() {
        let dir = std::env::temp_dir().join(format!("edge-xtask-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (built, object) = (dir.join("built"), dir.join("edge.o"));
        fs::write(&built, "1").unwrap();
        place(&built, &object).unwrap();
        let first = object.metadata().unwrap().modified().unwrap();
        place(&built, &object).unwrap();
        assert_eq!(object.metadata().unwrap().modified().unwrap(), first);
        fs::write(&built, "2").unwrap();
        place(&built, &object).unwrap();
        assert_eq!(fs::read(&object).unwrap(), b"2");
        fs::remove_dir_all(&dir).unwrap();
    }
}
