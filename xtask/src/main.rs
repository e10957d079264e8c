//! Everything a developer or CI does. One file a subcommand; each checks its own needs first.

mod bench;
mod ci;
mod demo;
mod ebpf;
mod fuzz;
mod kernel;
mod matrix;
mod process;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Build, check and try the edge.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    Demo(demo::Args),
    Test(test::Args),
    Bench(bench::Args),
    Ci(ci::Args),
    Setup(setup::Args),
    Soak(soak::Args),
    Ebpf(ebpf::Args),
    Kernel(kernel::Args),
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Ci(args) => ci::run(&args),
        Task::Setup(args) => setup::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Kernel(args) => kernel::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    };
    // A backtrace of this program helps nobody; the error names the command that failed.
    done.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
