//! `edge`: arguments to commands. Everything else is in the library; this alone prints and exits.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use edge_user::app;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The API edge: TLS, HTTP, token verification and proxying, with an eBPF fast path.
#[derive(Parser)]
#[command(name = "edge", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM; SIGHUP reloads the entities.
    Run {
        /// The node's settings.
        #[arg(long, value_name = "FILE", default_value = "edge.toml")]
        config: PathBuf,
    },
    /// Look for problems in the settings and the entities, and list all of them.
    Check {
        /// The node's settings.
        #[arg(long, value_name = "FILE", default_value = "edge.toml")]
        config: PathBuf,
    },
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Version => println!("edge {}", app::VERSION),
        Command::Run { config } => {
            if let Err(error) = app::run(&config) {
                eprintln!("edge: {error:#}");
                return ExitCode::FAILURE;
            }
        }
        Command::Check { config } => match app::check(&config) {
            Ok(warnings) => {
                for warning in warnings {
                    println!("warning: {warning}");
                }
                println!("{}: no problems", config.display());
            }
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}
