//! `edge`: arguments to commands. Everything else is in the library; this alone prints and exits.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use edge_user::app;
use edge_user::config::dump::{Format, Secrets};
use edge_user::control::{self, Request};
use edge_user::{doctor, explain, import, routes};

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
        /// Take over from the edge that runs with these settings, if one does: it hands over its sockets, drains and
        /// ends. Where this one cannot start the other serves on.
        #[arg(long)]
        upgrade: bool,
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
    /// Take over another program's configuration, and tell the fate of each of its lines.
    Import {
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Ask the running edge what its kernel programs are and do, or let a source connect again.
    Kernel {
        #[command(subcommand)]
        command: KernelCommand,
    },
    /// Ask the running edge why an address, or the request with this id, was or would be refused.
    Why {
        /// An IP address, or the value of `X-Kong-Request-Id`.
        #[arg(value_name = "ADDRESS|REQUEST ID")]
        subject: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Set local routes for the edge that started this process.
    #[command(name = routes::COMMAND, hide = true)]
    KeepRoutes {
        /// The user to become.
        user: Option<String>,
    },
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum ImportCommand {
    /// Write edge.toml, kong.yaml, requests.json and report.txt for an F5's bigip.conf. Exit code: 0 written, 1 not, or
    /// with --strict a line is not translated.
    F5 {
        /// bigip_base.conf, bigip.conf, those of partitions; of two objects with one name the later counts.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The folder to write to; a folder for each edge within it, where one edge cannot do it all.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Write over what is there.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        told: Told,
    },
    /// Tell what a declarative file of Kong holds that the edge has not. Exit code: 0, or with --strict 1 where it does.
    Kong {
        /// The declarative file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        told: Told,
    },
    /// Replay the requests of an import, against the old or the new, and compare. Exit code: 0 as expected, 1 not, 2
    /// nothing could be asked.
    Verify {
        /// requests.json, as the import wrote it.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// https://ADDRESS:PORT or http://ADDRESS:PORT; names and server names are those of the requests.
        #[arg(long, value_name = "URL")]
        against: String,
        /// Do not look at the server's certificate.
        #[arg(long)]
        insecure: bool,
        /// What to show where a certificate of clients is asked for: a PEM file with it and what it was issued by.
        #[arg(long, value_name = "FILE", requires = "client_key_file")]
        client_cert_file: Option<PathBuf>,
        /// The PEM file of its private key.
        #[arg(long, value_name = "FILE", requires = "client_cert_file")]
        client_key_file: Option<PathBuf>,
    },
}

/// How the fate of lines is told.
#[derive(Args)]
struct Told {
    /// text or json.
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    report: String,
    /// Fail where a line is not translated.
    #[arg(long)]
    strict: bool,
}

#[derive(Subcommand)]
enum KernelCommand {
    /// Programs, how they are attached, their maps, what became of frames, and penalties.
    Status {
        #[command(flatten)]
        asked: Asked,
    },
    /// Forget what the source of this address did, and let it connect.
    Forgive {
        /// Any address of the source.
        address: IpAddr,
        #[command(flatten)]
        asked: Asked,
    },
}

/// Which edge is asked.
#[derive(Args)]
struct Asked {
    /// The node's settings, which name the control socket.
    #[arg(long, value_name = "FILE", default_value = "edge.toml")]
    config: PathBuf,
    /// One JSON object in place of text.
    #[arg(long)]
    json: bool,
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
    /// The file of the channel token, which jwt-signer looks for beside the other.
    #[arg(long, value_name = "FILE")]
    channel_token_file: Option<PathBuf>,
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
        Command::Run { config, upgrade } => {
            if let Err(error) = app::run(&config, upgrade) {
                eprintln!("edge: {error:#}");
                return ExitCode::FAILURE;
            }
        }
        Command::KeepRoutes { user } => {
            if let Err(error) = routes::keep(user.as_deref()) {
                eprintln!("edge: keeping local routes: {error:#}");
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
        Command::Import { command } => return import(command),
        Command::Kernel { command: KernelCommand::Status { asked } } => return ask(&asked, &Request::KernelStatus),
        Command::Kernel { command: KernelCommand::Forgive { address, asked } } => {
            return ask(&asked, &Request::Forgive { address });
        }
        Command::Why { subject, asked } => return ask(&asked, &Request::Why { subject }),
        Command::Check { config } => match app::check(&config) {
            Ok(checked) => {
                for warning in checked.warnings {
                    println!("warning: {warning}");
                }
                for note in checked.notes {
                    println!("note: {note}");
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
    let ExplainArguments { config, route, method, path, json, .. } = arguments;
    let ExplainArguments { token_file, channel_token_file, dpop_file, client_cert_file, cookie_file, .. } = arguments;
    let files = explain::Files { token_file, channel_token_file, dpop_file, client_cert_file, cookie_file };
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

fn import(command: ImportCommand) -> ExitCode {
    let done = match command {
        ImportCommand::F5 { files, out, force, told } => import::read(&files)
            .and_then(|inputs| import::write(import::f5(&inputs), &out, force))
            .map(|(report, written)| {
                let code = tell(&report, &told);
                written.iter().for_each(|path| eprintln!("wrote {}", path.display()));
                code
            })
            .map_err(|error| {
                if let import::Error::Nothing(report) = &error {
                    tell(report, &told);
                }
                anyhow::Error::from(error)
            }),
        ImportCommand::Kong { file, told } => app::import_kong(&file).map(|report| tell(&report, &told)),
        ImportCommand::Verify { file, against, insecure, client_cert_file, client_key_file } => {
            let identity = client_cert_file.zip(client_key_file);
            return match import::verify::verify(&import::verify::Replay { file, against, insecure, identity }) {
                Ok(report) => {
                    print!("{report}");
                    report.exit_code().into()
                }
                Err(error) => {
                    eprintln!("edge: {error}");
                    UNKNOWN.into()
                }
            };
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("edge: {error:#}");
        ExitCode::FAILURE
    })
}

fn tell(report: &import::Report, told: &Told) -> ExitCode {
    match told.report.as_str() {
        "json" => println!("{:#}", report.json()),
        _ => print!("{report}"),
    }
    if told.strict && report.has_gaps() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Asks the running edge. Exit code: 0 answered, 1 it says no, 2 it cannot be asked.
fn ask(asked: &Asked, request: &Request) -> ExitCode {
    match app::ask(&asked.config, request) {
        Ok(reply) if asked.json => println!("{}", reply.json()),
        Ok(reply) => print!("{reply}"),
        Err(error) => {
            eprintln!("edge: {error:#}");
            let refused = matches!(error.downcast_ref(), Some(control::Error::Refused(_)));
            return if refused { ExitCode::FAILURE } else { UNKNOWN.into() };
        }
    }
    ExitCode::SUCCESS
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
