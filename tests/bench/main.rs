//! The edge beside other proxies on one small machine: CPU of the proxy per request, latency at a fixed rate, memory.
//!
//! The proxy under test has one core; the upstream and the load generator share another. Rounds are interleaved
//! (A B C A B C), so that a slow minute of the machine meets everybody. `cargo xtask bench` builds and calls this.

mod data;
mod downloads;
mod grpc;
mod kill;
mod load;
mod measure;
mod peers;
mod process;
mod reload;
mod slow;
mod soak;
mod storm;
mod table;
mod tokens;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Measure the edge beside other proxies.
#[derive(Parser)]
enum Bench {
    /// CPU per request, latency and memory of several proxies in one table
    Compare(Compare),
    /// 50 reloads under load: how many requests failed or met a wrong route
    Reload(Reload),
    /// One of three targets killed under load: how many requests failed
    Kill(Kill),
    /// CPU per gRPC call beside nginx
    Grpc(Grpc),
    /// One token in 10,000 hands, strange kids, a rotation, and floods of bad tokens
    Tokens(Tokens),
    /// Storms of bad tokens with and without kernel programs; needs root
    Storm(Storm),
    /// Slow clients beside good ones, by slowhttptest
    Slow(Rounds),
    /// Small requests beside large downloads, through several proxies
    Downloads(Rounds),
    /// A long run in which everything changes
    Soak(Soak),
    /// The upstreams of the long run
    #[command(hide = true)]
    SoakUpstream(SoakUpstream),
    /// The upstream of the gRPC calls
    #[command(hide = true)]
    GrpcUpstream(grpc::Upstream),
    /// The load generator (one thread)
    #[command(hide = true)]
    Load(load::Args),
}

#[derive(clap::Args)]
struct Storm {
    /// Where keys, tokens, configurations, logs and the table `storm.md` are written
    #[arg(long)]
    folder: PathBuf,
    /// Rounds of the measurements of CPU time
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each run
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

#[derive(clap::Args)]
struct Compare {
    /// Where keys, tokens, configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
    /// Whom to measure
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// What to measure; everything where nothing is named
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each closed-loop run
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Requests a second of the latency run
    #[arg(long, default_value_t = 1500)]
    rate: u32,
    /// Write the table to this file too
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Reload {
    /// Where configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
    /// Requests at the least
    #[arg(long, default_value_t = 1_500_000)]
    requests: u64,
    /// Reloads while they run
    #[arg(long, default_value_t = 50)]
    reloads: usize,
}

#[derive(clap::Args)]
struct Kill {
    /// Where configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
}

#[derive(clap::Args)]
struct Rounds {
    /// Where configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
    /// Rounds of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(clap::Args)]
struct Soak {
    /// Where configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
    /// How long
    #[arg(long)]
    minutes: u32,
    /// Fewer answers than this are a failure
    #[arg(long)]
    least: u64,
}

#[derive(clap::Args)]
struct SoakUpstream {
    /// Where it listens
    address: std::net::SocketAddr,
}

#[derive(clap::Args)]
struct Tokens {
    /// Where configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
    /// What to measure; everything where nothing is named
    #[arg(long, value_delimiter = ',', value_parser = tokens::SCENARIOS)]
    scenarios: Vec<String>,
    /// Seconds of each flood
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

#[derive(clap::Args)]
struct Grpc {
    /// Where configurations and logs are written
    #[arg(long)]
    folder: PathBuf,
    /// Interleaved rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Calls of each round
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
}

fn main() -> Result<()> {
    match Bench::parse() {
        Bench::Compare(args) => {
            let bench = measure::Bench::new(&args.folder, &args.peers, &args.scenarios)?;
            let runs = bench.run(args.rounds, args.seconds, args.rate)?;
            let text = table::markdown(&runs, args.rate);
            edge_tests::parties::say(&text);
            if let Some(path) = args.output {
                std::fs::write(path, text)?;
            }
            Ok(())
        }
        Bench::Reload(args) => reload::run(&args.folder, args.requests, args.reloads),
        Bench::Kill(args) => kill::run(&args.folder),
        Bench::Grpc(args) => grpc::run(&args.folder, args.rounds, args.calls),
        Bench::Slow(args) => slow::run(&args.folder, args.rounds),
        Bench::Downloads(args) => downloads::run(&args.folder, args.rounds),
        Bench::Soak(args) => soak::run(&args.folder, std::time::Duration::from_secs(60) * args.minutes, args.least),
        Bench::SoakUpstream(args) => soak::serve(args.address),
        Bench::Tokens(args) => tokens::run(&args.folder, &args.scenarios, args.seconds),
        Bench::Storm(args) => storm::run(&args.folder, args.rounds, args.seconds),
        Bench::GrpcUpstream(args) => grpc::upstream(&args),
        Bench::Load(args) => load::run(&args),
    }
}
