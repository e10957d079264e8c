//! `edge`: arguments to commands. Everything else is in the library; this alone prints and exits.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use edge_user::app;
use edge_user::config::dump::{Format, Secrets};
use edge_user::{doctor, explain};

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
    /// Tell what a route makes of a token, check by check, and what would let it pass. Exit code: 0 it passes, 1 it is
    /// refused, 2 nobody can tell.
    Explain(ExplainArguments),
    /// Look for faults around the configuration: issuers, names, certificates, clocks, Redis, this machine. Changes
    /// nothing. Exit code: 0 none, 1 some, 2 the configuration cannot be read.
    Doctor {
        /// The node's settings.
        #[arg(long, value_name = "FILE", default_value = "edge.toml")]
        config: PathBuf,
        /// One JSON object in place of text.
        #[arg(long)]
        json: bool,
    },
    /// Print the version.
    Version,
}

#[derive(Args)]
struct ExplainArguments {
    /// The node's settings.
    #[arg(long, value_name = "FILE", default_value = "edge.toml")]
    config: PathBuf,
    /// The route's name or id.
    #[arg(long)]
    route: String,
    /// The token's file; `-` is standard input. A token has no place on a command line, which others can read.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The request's method, which a DPoP proof names.
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's path, or its URL, which a DPoP proof names.
    #[arg(long, value_name = "PATH|URL", default_value = "/")]
    path: String,
    /// The file of the DPoP proof.
    #[arg(long, value_name = "FILE")]
    dpop_file: Option<PathBuf>,
    /// The file of the client's certificate, in PEM form.
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<PathBuf>,
    /// The file of the value of `Cookie`.
    #[arg(long, value_name = "FILE")]
    cookie_file: Option<PathBuf>,
    /// One JSON object in place of text.
    #[arg(long)]
    json: bool,
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
        Command::Explain(arguments) => return explain(arguments),
        Command::Doctor { config, json } => return doctor(&config, json),
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

/// The exit code of those that cannot tell.
const UNKNOWN: u8 = 2;

fn explain(arguments: ExplainArguments) -> ExitCode {
    let ExplainArguments { config, route, token_file, method, path, dpop_file, client_cert_file, cookie_file, json } =
        arguments;
    let files = explain::Files { token_file, dpop_file, client_cert_file, cookie_file };
    let report = app::log_to_stderr().and_then(|_log| {
        let shown = explain::Shown::read(method, path, &files)?;
        Ok(explain::explain(&explain::Question { config, route, shown })?)
    });
    match report {
        Ok(report) => {
            if json {
                println!("{}", report.json())
            } else {
                print!("{report}")
            }
            report.verdict().exit_code().into()
        }
        Err(error) => {
            eprintln!("edge: {error:#}");
            UNKNOWN.into()
        }
    }
}

fn doctor(config: &std::path::Path, json: bool) -> ExitCode {
    match app::log_to_stderr().and_then(|_log| Ok(doctor::examine(config)?)) {
        Ok(report) => {
            if json {
                println!("{}", report.json())
            } else {
                print!("{report}")
            }
            report.exit_code().into()
        }
        Err(error) => {
            eprintln!("{error:#}");
            UNKNOWN.into()
        }
    }
}
