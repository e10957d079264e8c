//! Finding, installing and running other programs: every step is shown, every failure names the exact command line.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{LazyLock, Once},
};

use anyhow::{Context as _, Result, bail};

/// Programs that Debian packages bring: one line each.
const PACKAGES: [(&str, &[&str]); 26] = [
    ("busybox", &["busybox-static"]),
    ("cc", &["gcc", "libc6-dev"]),
    ("c++", &["g++"]),
    ("chrt", &["util-linux"]),
    ("cpio", &["cpio"]),
    ("curl", &["curl", "ca-certificates"]),
    ("gnuplot", &["gnuplot-nox"]),
    ("h2load", &["nghttp2-client"]),
    ("haproxy", &["haproxy"]),
    ("ip", &["iproute2"]),
    ("jq", &["jq"]),
    ("nginx", &["nginx"]),
    ("npm", &["npm"]),
    ("mount", &["mount"]),
    ("openssl", &["openssl"]),
    ("python3", &["python3"]),
    ("qemu-system-x86_64", &["qemu-system-x86"]),
    ("redis-server", &["redis-server"]),
    ("setpriv", &["util-linux"]),
    ("slowhttptest", &["slowhttptest"]),
    ("strip", &["binutils"]),
    ("taskset", &["util-linux"]),
    ("tc", &["iproute2"]),
    ("umount", &["mount"]),
    ("unshare", &["util-linux"]),
    ("xz", &["xz-utils"]),
];

/// The workspace root, wherever `cargo xtask` was called.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        // What cargo says now, not what it said at build time: checkouts may share a target directory.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&manifest).parent().expect("a member lies below the workspace root").to_owned()
    });
    &ROOT
}

/// Where programs are built that the machine lacks, so that nothing global changes.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Where cargo builds for this machine.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Says what begins now.
pub(crate) fn step(text: impl AsRef<str>) {
    eprintln!("==> {}", text.as_ref());
}

/// A command that runs in the workspace root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_ourselves(&mut cargo);
    cargo
}

/// Removes what `cargo run` said of this package: ring's build script watches these names, and would be run anew
/// whenever `cargo build` and `cargo xtask` take turns.
pub(crate) fn forget_ourselves(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Shows the step and runs the command with its output in sight; fails with the command line.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    step(what);
    let status = command.status().with_context(|| format!("cannot start: {}", line(command)))?;
    if !status.success() {
        bail!("{what}: {status}\n    {}", line(command));
    }
    Ok(())
}

/// Runs the command silently and gives its standard output; fails with the command line and what it complained of.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start: {}", line(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{}\n    {}\n{}", output.status, line(command), complaint.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one could type it, with the variables set for it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quote(&value.to_string_lossy())));
        }
    }
    words.push(quote(&command.get_program().to_string_lossy()));
    words.extend(command.get_args().map(|word| quote(&word.to_string_lossy())));
    words.join(" ")
}

/// The program of this name, if `PATH` has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    // Debian keeps `ip` and friends out of an ordinary user's PATH.
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

/// The program of this name, installed by its Debian packages where it is missing.
pub(crate) fn need(program: &str) -> Result<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    let packages = PACKAGES.iter().find(|(name, _)| *name == program).map(|(_, packages)| packages);
    let packages = packages.with_context(|| format!("{program} is missing, and no package is known for it"))?;
    apt_install(packages)?;
    find(program).with_context(|| format!("{program} is still missing after installing {}", packages.join(" ")))
}

/// Whether this is a file that may be run.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether we may install packages, load programs and make network namespaces.
pub(crate) fn am_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        // "Uid: real effective saved file-system"
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
    })
}

/// Installs Debian packages; without root, fails with the commands to type.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("this machine has no apt-get; install by its own means what Debian calls: {names}");
    }
    if !am_root() {
        bail!("packages are missing; as root, run:\n    apt-get update\n    apt-get install --yes {names}");
    }
    // Packages of a machine long asleep have newer versions by now, and the old ones are gone from the mirrors.
    static UPDATED: Once = Once::new();
    let mut updated = Ok(());
    UPDATED.call_once(|| updated = run("refreshing the package lists", command("apt-get").args(["update", "-q"])));
    updated?;
    run(
        &format!("installing {names}"),
        command("apt-get")
            .args(["install", "--yes", "-q", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Builds a crate's program for this workspace alone, and gives its path. Unoptimised: it is built once and runs briefly.
pub(crate) fn cargo_install(program: &str, version: &str, features: &str, env: &[(&str, &str)]) -> Result<PathBuf> {
    let build = tools().join("build");
    run(
        &format!("building {program} {version}"),
        cargo()
            .args(["install", program, "--version", version, "--locked", "--force", "--debug"])
            .args(["--no-default-features", "--features", features, "--root"])
            .arg(tools())
            .arg("--target-dir")
            .arg(&build)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .envs(env.iter().copied()),
    )?;
    // Hundreds of megabytes that nothing needs again.
    std::fs::remove_dir_all(&build).with_context(|| format!("removing {}", build.display()))?;
    Ok(tools().join("bin").join(program))
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_could_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["run", "--", "a b", "it's", ""]).env("LLVM_PREFIX", "/usr/lib/llvm-22");
        assert_eq!(line(&command), r"LLVM_PREFIX=/usr/lib/llvm-22 cargo run -- 'a b' 'it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run("trying", Command::new("false").arg("x")).unwrap_err().to_string();
        assert!(error.contains("false x"), "{error}");
        let error = output(Command::new("/nowhere").arg("y")).unwrap_err().to_string();
        assert!(error.contains("/nowhere y"), "{error}");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
    }
}
