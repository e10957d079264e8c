//! `edge`: arguments to commands. Everything else is in the library; this alone prints and exits.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use edge_user::app;
use edge_user::config::dump::{Format, Secrets};

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
    /// Print the entities in normal form: flat, with ids and defaults.
    Dump {
        /// The node's settings.
        #[arg(long, value_name = "FILE", default_value = "edge.toml")]
        config: PathBuf,
        /// yaml or json.
        #[arg(long, value_parser = format, default_value = "yaml")]
        format: Format,
        /// Print private keys and client secrets too; without them the dump cannot be loaded.
        #[arg(long)]
        with_secrets: bool,
    },
    /// Print the version.
    Version,
}

fn format(word: &str) -> Result<Format, &'static str> {
    match word {
        "yaml" => Ok(Format::Yaml),
        "json" => Ok(Format::Json),
        _ => Err("expected yaml or json"),
    }
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
        Command::Dump { config, format, with_secrets } => {
            let secrets = if with_secrets { Secrets::Given } else { Secrets::Redacted };
            match app::dump(&config, format, secrets) {
                Ok(text) => print!("{text}"),
                Err(error) => {
                    eprintln!("{error:#}");
                    return ExitCode::FAILURE;
                }
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
