//! Everything a developer or CI does. One file a subcommand; each checks its own needs first.

mod ebpf;
mod kernel;
mod process;
mod setup;

use anyhow::Result;
use clap::Parser;

/// Build, check and try the edge.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    Setup(setup::Args),
    Ebpf(ebpf::Args),
    Kernel(kernel::Args),
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Setup(args) => setup::run(&args),
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Kernel(args) => kernel::run(&args),
    }
}
