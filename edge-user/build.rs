//! Embeds the kernel object that `cargo xtask ebpf` built.

use std::{env, path::PathBuf};

const VARIABLE: &str = "EDGE_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    // Below the workspace root, since a target directory may be anywhere; `xtask/src/ebpf.rs` knows the same place.
    // Relative to the package, as cargo takes it: the build of another checkout may share the target directory.
    let object = env::var_os(VARIABLE).map_or_else(|| PathBuf::from("../target/bpf/edge.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => println!("cargo::rustc-env={VARIABLE}={}", object.display()),
        Err(error) => println!(
            "cargo::error=no kernel object at {} ({error}): build it with `cargo xtask ebpf`, or name it in {VARIABLE}",
            object.display()
        ),
    }
}
