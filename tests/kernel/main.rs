//! The kernel programs on a real kernel: frame tables first, then hosts in network namespaces. Needs root and
//! iproute2; a test that cannot run fails.
#![allow(clippy::unwrap_used, reason = "a failed test is the message")]

mod attach;
mod cable;
mod frame;
mod frames;
mod kept;
mod namespace;
mod operator;
mod penalty;
mod pins;
mod privileges;
mod programs;
mod reject;
mod reject_fuzz;
mod reject_heads;
mod rejection;
mod segment;
mod shift;
mod steering;

/// Fails with plain words where the machine cannot run these tests.
fn require_root() {
    let root = nix::unistd::geteuid().is_root();
    assert!(root, "kernel tests load programs and make network namespaces: run them as root (cargo xtask kernel)");
}
