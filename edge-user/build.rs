//! Embeds the kernel object that `cargo xtask ebpf` built.

use std::{
    env,
    path::{Path, PathBuf},
};

const VARIABLE: &str = "EDGE_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    // Below the workspace root, since a target directory may be anywhere; `xtask/src/ebpf.rs` knows the same place.
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("bpf/edge.o");
    let object = env::var_os(VARIABLE).map_or_else(usual, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => println!("cargo::rustc-env={VARIABLE}={}", object.display()),
        Err(error) => println!(
            "cargo::error=no kernel object at {} ({error}): build it with `cargo xtask ebpf`, or name it in {VARIABLE}",
            object.display()
        ),
    }
}
