//! `cargo xtask kernel --matrix`: the kernel tests on the kernels that edges run on, without KVM.
//!
//! Debian's kernels for virtual machines boot under QEMU's own processor with nothing but an initramfs: the tests, the
//! edge, `ip` and friends with the libraries they need, and three modules. What they print comes over the serial line.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A Debian suite and the series of its kernel.
const KERNELS: [(&str, &str); 2] = [("bookworm", "6.1"), ("bookworm-backports", "6.12")];
const METAPACKAGE: &str = "linux-image-cloud-amd64";
/// What the tests need that these kernels do not have built in.
const MODULES: [&str; 3] = ["veth", "sch_ingress", "cls_bpf"];
/// Programs that tests run.
const PROGRAMS: [&str; 6] = ["ip", "tc", "setpriv", "unshare", "mount", "umount"];
/// How long one kernel may take, in seconds: some four minutes on an idle machine.
const LIMIT_SECS: &str = "900";
/// What `/init` says last.
const END: &str = "edge-kernel-tests-ended";

/// What one kernel made of the programs and the tests.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Verified instructions by program.
    programs: BTreeMap<String, String>,
    passed: u32,
    failed: u32,
    /// Names of tests that failed.
    failures: Vec<String>,
    ended: bool,
}

/// Runs `tests`, an executable of the test harness, and `edge` on each kernel, and prints a table.
pub(crate) fn run(tests: &Path, edge: &Path) -> Result<()> {
    for program in ["qemu-system-x86_64", "busybox", "cpio", "strip", "timeout", "xz"].into_iter().chain(PROGRAMS) {
        process::need(program)?;
    }
    let folder = process::root().join("target/kernels");
    fs::create_dir_all(&folder)?;
    let mut outcomes = Vec::new();
    for (suite, series) in KERNELS {
        let kernel = fetch(&folder, suite, series)?;
        process::step(format!("booting {}", kernel.release));
        let initramfs = pack(&folder, &kernel, tests, edge)?;
        let console = boot(&kernel, &initramfs)?;
        let outcome = read(&console);
        if !outcome.ended || outcome.failed > 0 || outcome.programs.is_empty() {
            let last: Vec<&str> = console.lines().rev().take(40).collect();
            eprintln!("{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        outcomes.push((kernel.release, outcome));
    }
    print!("{}", table(&outcomes));
    match outcomes.iter().find(|(_, outcome)| !outcome.ended || outcome.failed > 0 || outcome.programs.is_empty()) {
        None => Ok(()),
        Some((release, outcome)) => bail!("{release}: failed: {}", outcome.failures.join(", ")),
    }
}

/// An unpacked kernel.
struct Kernel {
    release: String,
    folder: PathBuf,
}

/// Downloads and unpacks the kernel of a suite, if the one that it has now is not here yet.
fn fetch(folder: &Path, suite: &str, series: &str) -> Result<Kernel> {
    let place = folder.join(suite);
    fs::create_dir_all(place.join("lists/partial"))?;
    fs::create_dir_all(place.join("cache/archives/partial"))?;
    let list = place.join("sources.list");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(&list, format!("deb [signed-by={keyring}] {} {suite} main\n", mirror()?))?;
    let apt = |program: &str| {
        let mut command = process::command(program);
        command.current_dir(&place);
        for (option, value) in [
            ("Dir::Etc::sourcelist", list.display().to_string()),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::State::lists", place.join("lists").display().to_string()),
            ("Dir::Cache", place.join("cache").display().to_string()),
            // The downloading user may not write here.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    };
    process::run(&format!("looking for the kernel of {suite}"), apt("apt-get").args(["update", "-qq"]))?;
    let depends = process::output(apt("apt-cache").args(["depends", METAPACKAGE]))?;
    let package = kernel_package(&depends).with_context(|| format!("{METAPACKAGE} of {suite} names no kernel"))?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    if !release.starts_with(series) {
        bail!("the kernel of {suite} is {release}, and {series} is wanted");
    }
    let unpacked = place.join(&release);
    if !unpacked.join("boot").is_dir() {
        process::run(&format!("downloading {release}"), apt("apt-get").args(["download", "-qq", package]))?;
        let archive = fs::read_dir(&place)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(package)))
            .context("apt-get left no package")?;
        let fresh = place.join("fresh");
        process::run("unpacking it", process::command("dpkg-deb").arg("-x").arg(&archive).arg(&fresh))?;
        fs::remove_file(archive)?;
        fs::rename(fresh, &unpacked)?;
    }
    Ok(Kernel { release, folder: unpacked })
}

/// Where this machine has its Debian packages from.
fn mirror() -> Result<String> {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        texts.push(fs::read_to_string(entry.path()).unwrap_or_default());
    }
    let words = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with('#'));
    let mut urls = words.flat_map(str::split_whitespace).filter(|word| word.contains("://"));
    let mirror = urls.find(|url| url.trim_end_matches('/').ends_with("/debian"));
    mirror.map(str::to_owned).context("no Debian mirror stands in /etc/apt")
}

/// The kernel that a metapackage stands for.
fn kernel_package(depends: &str) -> Option<&str> {
    depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-image-"))
}

/// Makes the initramfs.
fn pack(folder: &Path, kernel: &Kernel, tests: &Path, edge: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let _ = fs::remove_dir_all(&root);
    for name in ["bin", "sbin", "proc", "sys", "dev", "run", "tmp", "etc", "modules", "tests"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(process::need("busybox")?, root.join("bin/busybox"))?;
    for program in PROGRAMS {
        let path = process::need(program)?;
        fs::copy(&path, root.join("sbin").join(program))?;
        libraries(&root, &path)?;
    }
    for (program, name) in [(tests, "kernel"), (edge, "edge")] {
        libraries(&root, program)?;
        process::output(process::command("strip").arg("-o").arg(root.join("tests").join(name)).arg(program))?;
    }
    for module in MODULES {
        load(&root, kernel, module)?;
    }
    let user = "nobody:x:65534:65534:nobody:/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), format!("root:x:0:0:root:/:/bin/sh\n{user}"))?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\n")?;
    let init = root.join("init");
    fs::write(&init, INIT.replace("MODULES", &MODULES.join(" ")).replace("END", END))?;
    process::output(process::command("chmod").arg("0755").arg(&init))?;
    let initramfs = folder.join("initramfs.gz");
    let script = "cd \"$1\" && find . | cpio -o -H newc --quiet | gzip -1 > \"$2\"";
    process::output(process::command("sh").args(["-c", script, "sh"]).arg(&root).arg(&initramfs))?;
    Ok(initramfs)
}

/// Copies the libraries of a program to where it looks for them.
fn libraries(root: &Path, program: &Path) -> Result<()> {
    let listed = process::output(Command::new("ldd").arg(program))?;
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library lies in a folder")?)?;
        fs::copy(library, to)?;
    }
    Ok(())
}

/// Puts a module in its place, unpacked.
fn load(root: &Path, kernel: &Kernel, module: &str) -> Result<()> {
    let name = format!("{module}.ko*");
    let found = process::output(process::command("find").arg(&kernel.folder).args(["-name", &name]))?;
    let file = found.lines().next().with_context(|| format!("{} has no module {module}", kernel.release))?;
    let to = root.join("modules").join(format!("{module}.ko"));
    match file.ends_with(".xz") {
        false => fs::copy(file, to).map(drop)?,
        true => {
            let unpacked = process::command("xz").args(["-dc", file]).output()?;
            fs::File::create(to)?.write_all(&unpacked.stdout)?;
        }
    }
    Ok(())
}

/// What the kernel runs first. Programs of Debian go before busybox's, which lack network namespaces.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/netns
for module in MODULES; do insmod /modules/$module.ko; done
ip link set lo up
cd /tests
export EDGE_BIN=/tests/edge
./kernel --test-threads=1 --nocapture programs:: 2>&1
./kernel --test-threads=1 --skip programs:: 2>&1
echo END
poweroff -f
";

/// Boots it and gives what came over the serial line.
fn boot(kernel: &Kernel, initramfs: &Path) -> Result<String> {
    let image = kernel.folder.join("boot").join(format!("vmlinuz-{}", kernel.release));
    let mut qemu = process::command("timeout");
    qemu.args(["--kill-after=10", LIMIT_SECS, "qemu-system-x86_64", "-machine", "q35,accel=tcg"]);
    // With cx16, guests of 6.12 crash under this accelerator.
    qemu.args(["-cpu", "max,-cx16", "-smp", "1", "-m", "2048", "-nographic", "-no-reboot", "-nic", "none"]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]);
    let output = qemu.stdin(std::process::Stdio::null()).output().context("qemu cannot be started")?;
    Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

/// What the test harness said.
fn read(console: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in console.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["program", name, instructions] => drop(outcome.programs.insert(name.to_owned(), instructions.to_owned())),
            ["test", "result:", _, passed, "passed;", failed, "failed;", ..] => {
                outcome.passed += passed.parse().unwrap_or(0);
                outcome.failed += failed.parse().unwrap_or(0);
            }
            ["test", name, .., "FAILED"] => outcome.failures.push(name.to_owned()),
            [END] => outcome.ended = true,
            _ => {}
        }
    }
    outcome
}

/// Programs and kernels.
fn table(outcomes: &[(String, Outcome)]) -> String {
    let mut text = String::from("| program, verified instructions |");
    outcomes.iter().for_each(|(release, _)| text.push_str(&format!(" {release} |")));
    text.push_str("\n|---|");
    outcomes.iter().for_each(|_| text.push_str("---|"));
    let names: std::collections::BTreeSet<&String> =
        outcomes.iter().flat_map(|(_, outcome)| outcome.programs.keys()).collect();
    for name in names {
        text.push_str(&format!("\n| {name} |"));
        for (_, outcome) in outcomes {
            let cell = outcome.programs.get(name).map_or("does not load", String::as_str);
            text.push_str(&format!(" {cell} |"));
        }
    }
    text.push_str("\n| tests |");
    for (_, outcome) in outcomes {
        text.push_str(&match (outcome.ended, outcome.failed) {
            (false, _) => " did not end |".to_owned(),
            (true, 0) => format!(" {} passed |", outcome.passed),
            (true, failed) => format!(" {} passed, {failed} failed |", outcome.passed),
        });
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_read() {
        let console = "[    0.1] noise\nprogram edge_xdp 1234\ntest result: ok. 1 passed; 0 failed; 0 ignored\n\
                       test attach::a ... ok\ntest attach::b ... FAILED\n\
                       test result: FAILED. 38 passed; 1 failed; 3 ignored; 0 measured\nedge-kernel-tests-ended\n";
        let outcome = read(console);
        assert_eq!((outcome.passed, outcome.failed, outcome.ended), (39, 1, true));
        assert_eq!(outcome.failures, ["attach::b"]);
        assert_eq!(outcome.programs["edge_xdp"], "1234");
        assert!(!read("panic\n").ended);
        let text = table(&[("6.1".to_owned(), outcome), ("6.12".to_owned(), Outcome::default())]);
        assert_eq!(
            text,
            "| program, verified instructions | 6.1 | 6.12 |\n|---|---|---|\n| edge_xdp | 1234 | does not load |\n\
             | tests | 39 passed, 1 failed | did not end |\n"
        );
    }

    #[test]
    fn a_metapackage_names_its_kernel() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(kernel_package(depends), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(kernel_package("linux-image-cloud-amd64\n"), None);
    }
}
