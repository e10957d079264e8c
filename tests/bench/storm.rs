//! Bad tokens in storms, between two network namespaces: what good clients feel, and what the machine spends.
//!
//! The client's side has core 0, the edge core 1, as everywhere in this bench. Good requests come from one address at a
//! fixed rate, the storm from another: on kept connections and on new ones, in clear text and over TLS, every bad token
//! another one; so penalties can tell them. Needs root.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_tests::certs;
use edge_tests::mint::{self, Key, encode, flip, with};
use edge_tests::parties::say;
use serde_json::{Value, json};

use crate::measure::output;
use crate::process::{LOAD_CORE, PROXY_CORE, Running, pinned};

const SERVER: &str = "edge-bench-server";
const CLIENT: &str = "edge-bench-client";
const CLEAR: &str = "10.9.0.1:8000";
const TLS: &str = "10.9.0.1:8443";
const GOOD: &str = "10.9.0.2";
const BAD: &str = "10.9.0.3";
const ISSUER: &str = "http://127.0.0.1:8180/bench/auth";
const AUDIENCE: &str = "https://api.example.com";
/// Good requests a second.
const RATE: &str = "1000";
/// Rounds of the chart: five minutes each.
const CHART_ROUNDS: usize = 3;
/// Different tokens of a storm.
const TOKENS: usize = 20_000;

/// Runs all of it.
pub(crate) fn run(folder: &Path, rounds: usize, seconds: f64) -> Result<()> {
    fs::create_dir_all(folder)?;
    let bench = Bench { folder: folder.to_owned(), seconds };
    bench.write()?;
    let _net = Net::make()?;
    bench.nothing(rounds)?;
    bench.first(rounds)?;
    bench.kept(rounds)?;
    bench.storms(rounds.min(CHART_ROUNDS))
}

/// Two namespaces and what joins them; gone when dropped.
struct Net;

impl Net {
    fn make() -> Result<Self> {
        drop(Self);
        for name in [SERVER, CLIENT] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let net = Self;
        ip(&["link", "add", "edge0", "netns", SERVER, "type", "veth", "peer", "name", "edge1", "netns", CLIENT])?;
        for (name, interface, addresses) in [(SERVER, "edge0", &["10.9.0.1/24"][..]), (CLIENT, "edge1", &[])] {
            ip(&["-n", name, "link", "set", interface, "up"])?;
            addresses.iter().try_for_each(|address| ip(&["-n", name, "address", "add", address, "dev", interface]))?;
        }
        for address in [GOOD, BAD] {
            ip(&["-n", CLIENT, "address", "add", &format!("{address}/24"), "dev", "edge1"])?;
        }
        Ok(net)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [SERVER, CLIENT] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(arguments).output().context("`ip` of iproute2")?;
    ensure!(done.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// A command within a namespace, on a core.
fn within(namespace: &str, core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let inner = pinned(core, program);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(inner.get_program()).args(inner.get_args());
    command
}

/// What the storm consists of.
#[derive(Clone, Copy)]
struct Storm {
    name: &'static str,
    address: &'static str,
    is_new: bool,
}

const STORMS: [Storm; 4] = [
    Storm { name: "kept connections", address: CLEAR, is_new: false },
    Storm { name: "new connections", address: CLEAR, is_new: true },
    Storm { name: "TLS, kept connections", address: TLS, is_new: false },
    Storm { name: "TLS, new connections", address: TLS, is_new: true },
];

impl Storm {
    /// Bad requests a second, up to ten times what userspace alone survives.
    fn rates(self) -> [u32; 5] {
        match self.address == TLS && self.is_new {
            true => [0, 500, 1500, 5000, 15_000],
            false => [0, 2000, 8000, 20_000, 80_000],
        }
    }
}

/// How the edge stands against it.
#[derive(Clone, Copy)]
struct Stand {
    mode: &'static str,
    penalty: &'static str,
    reject: &'static str,
}

const OFF: Stand = Stand { mode: "off", penalty: "off", reject: "off" };
const OBSERVE: Stand = Stand { mode: "required", penalty: "observe", reject: "off" };
const ENFORCE: Stand = Stand { mode: "required", penalty: "enforce", reject: "off" };
const FIRST: Stand = Stand { mode: "required", penalty: "off", reject: "first" };
const KEPT: Stand = Stand { mode: "required", penalty: "off", reject: "kept" };

/// A panel for each storm: p99 by bad requests a second, both logarithmic but for the idle point.
const CHART: &str = r#"set terminal pngcairo size 1100,760 font "sans,10"
set output "storm.png"
names = 'NAMES'
set multiplot layout 2,2 title "p99 of 1,000 good requests/s beside a storm of bad tokens"
set logscale y
set yrange [100:10000000]
set ylabel "good p99, us"
set xlabel "bad requests a second"
set key top left
set grid
set style data linespoints
do for [storm=1:4] {
  set title word(names, storm)
  plot "storm.dat" index storm-1 using 0:2:xtic(1) title "kernel off", \
       "" index storm-1 using 0:3 title "observe", \
       "" index storm-1 using 0:4 title "enforce"
}
"#;

struct Bench {
    folder: PathBuf,
    seconds: f64,
}

impl Bench {
    /// Tokens, keys and entities.
    fn write(&self) -> Result<()> {
        let write = |name: &str, text: &str| fs::write(self.folder.join(name), text);
        write("issuer.pem", mint::RSA_A)?;
        let key = Key::rsa(mint::RSA_A, "unnamed", "RS256");
        let header = with(key.header(), json!({"kid": null}));
        let claims = mint::claims(ISSUER, AUDIENCE);
        let good = key.sign(&header, &claims);
        write("good", &good)?;
        write("bad_one", &flip(&good))?;
        let (head, _) = good.rsplit_once('.').context("a JWT has three parts")?;
        let random = || -> Result<String> {
            let mut bytes = [0; 256];
            ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok().context("randomness")?;
            Ok(format!("{head}.{}", encode(&bytes)))
        };
        write("bad_many", &(0..TOKENS).map(|_| random()).collect::<Result<Vec<_>>>()?.join("\n"))?;
        let pair = certs::pair(&["localhost", "10.9.0.1"]);
        write("root.crt", certs::root())?;
        write("tls.crt", &pair.certificate)?;
        write("tls.key", &pair.key)?;
        let config = json!({"issuer": ISSUER, "auth_methods": ["bearer"], "audience_required": [AUDIENCE]});
        let plugins = json!([{"name": "openid-connect", "config": config}]);
        let routes = json!([{"name": "all", "paths": ["/"], "plugins": plugins}]);
        let services = json!([{"name": "up", "url": "http://127.0.0.1:8181", "routes": routes}]);
        write("storm.yaml", &json!({"_format_version": "3.0", "services": services}).to_string())?;
        Ok(())
    }

    /// An edge that serves, its keys fetched.
    fn edge(&self, stand: Stand) -> Result<Running> {
        let Stand { mode, penalty, reject, .. } = stand;
        let config = self.folder.join("storm.toml");
        let text = format!(
            "[[listeners]]\naddress = \"{CLEAR}\"\nkernel_reject = \"{reject}\"\n\
             [[listeners]]\naddress = \"{TLS}\"\ntls = true\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n\
             [workers]\ncount = 1\n[entities]\nfile = \"storm.yaml\"\n[process]\ncontrol = \"off\"\n\
             [kernel]\nmode = \"{mode}\"\ninterfaces = [\"edge0\"]\n[kernel.penalty]\nmode = \"{penalty}\"\nttl = 600\n\
             [log]\naccess = \"off\"\n[admin]\naddress = \"off\"\n[store]\npath = \"storm.db\"\n\
             [echo]\naddress = \"127.0.0.1:8181\"\n[identity]\naddress = \"127.0.0.1:8180\"\n\
             [[identity.servers]]\nname = \"bench\"\naudience = \"{AUDIENCE}\"\nsigning_key = \"issuer.pem\"\n"
        );
        fs::write(&config, text)?;
        let mut command = within(SERVER, PROXY_CORE, edge_tests::edge::binary());
        command.args(["run", "--config"]).arg(&config);
        let edge = Running::start(command, &self.folder.join("storm.log"), &[])?;
        for _ in 0..100 {
            let asked = self.load(CLEAR, GOOD, "good", &["--requests", "5", "--connections", "1", "--seconds", "1"]);
            if asked.is_ok_and(|answer| answer["requests"] == 5 && answer["unlike_2xx"] == 0) {
                return Ok(edge);
            }
            thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("the edge does not serve:\n{}", fs::read_to_string(self.folder.join("storm.log"))?)
    }

    fn generator(&self, address: &str, source: &str, tokens: &str, more: &[&str]) -> Result<Command> {
        let mut command = within(CLIENT, LOAD_CORE, std::env::current_exe()?);
        command.arg("load").arg(address).args(["--source", source]).arg("--tokens").arg(self.folder.join(tokens));
        if address == TLS {
            command.arg("--tls").arg(self.folder.join("root.crt"));
        }
        command.args(more);
        Ok(command)
    }

    fn load(&self, address: &str, source: &str, tokens: &str, more: &[&str]) -> Result<Value> {
        output(&mut self.generator(address, source, tokens, more)?)
    }

    /// What a good request costs the machine where there is nothing to reject.
    fn nothing(&self, rounds: usize) -> Result<()> {
        let measure = |stand| -> Result<f64> {
            let _edge = self.edge(stand)?;
            self.cost("good", &["--connections", "32"])
        };
        let stands = [OFF, FIRST, KEPT, ENFORCE];
        let mut costs = stands.map(|_| Vec::new());
        for _ in 0..rounds {
            for (stand, costs) in stands.into_iter().zip(&mut costs) {
                costs.push(measure(stand)?);
            }
        }
        let [off, first, kept, enforce] = costs.map(median);
        let more = |cost: f64| (cost / off - 1.0) * 100.0;
        say(&format!(
            "nothing to reject, machine CPU per good request: {off:.1} us without programs; {first:.1} us with kernel_reject \
             first ({:+.1} %), {kept:.1} us with kept ({:+.1} %); {enforce:.1} us with XDP for penalties on veth ({:+.1} %)",
            more(first),
            more(kept),
            more(enforce)
        ));
        Ok(())
    }

    /// What a bad first request costs the machine, the client's part included.
    fn first(&self, rounds: usize) -> Result<()> {
        self.beside(rounds, "new", FIRST, || {
            // Proven bad twice, and told.
            self.load(CLEAR, BAD, "bad_one", &["--requests", "20", "--close", "--connections", "1"])?;
            thread::sleep(Duration::from_millis(200));
            self.cost("bad_one", &["--close", "--connections", "64", "--requests", "20000"])
        })
    }

    /// What a bad request on a kept connection costs: on connections that are open before the token is known.
    fn kept(&self, rounds: usize) -> Result<()> {
        self.beside(rounds, "kept", KEPT, || self.cost("bad_one", &["--connections", "32"]))
    }

    /// The cost in userspace and in the kernel, in turn.
    fn beside(&self, rounds: usize, connection: &str, stand: Stand, cost: impl Fn() -> Result<f64>) -> Result<()> {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (stand, costs) in [OFF, stand].into_iter().zip(&mut costs) {
                let _edge = self.edge(stand)?;
                costs.push(cost()?);
            }
        }
        let [off, on] = costs.map(median);
        say(&format!(
            "a bad token on a {connection} connection, machine CPU with the client's: {off:.1} us in userspace, {on:.1} us in \
             the kernel ({:.2})",
            on / off
        ));
        Ok(())
    }

    /// Machine CPU per answer in microseconds. As fast as answers come: the kernel counts by looking at each tick what
    /// runs, and would miss what timers start in step with it.
    fn cost(&self, tokens: &str, more: &[&str]) -> Result<f64> {
        let seconds = self.seconds.to_string();
        let before = busy_us()?;
        let answer = self.load(CLEAR, GOOD, tokens, &[more, &["--seconds", &seconds]].concat())?;
        let spent = busy_us()? - before;
        let answers = answer["requests"].as_f64().unwrap_or(0.0);
        ensure!(answers > 0.0 && answer["errors"] == 0, "{answer}");
        Ok(spent / answers)
    }

    /// The chart: good requests beside growing storms. Medians of rounds that are whole, so that a slow minute of the
    /// machine meets a point once.
    fn storms(&self, rounds: usize) -> Result<()> {
        let points: Vec<(Storm, u32, Stand)> = STORMS
            .into_iter()
            .flat_map(|storm| storm.rates().map(|rate| (storm, rate)))
            .flat_map(|(storm, rate)| [OFF, OBSERVE, ENFORCE].map(|stand| (storm, rate, stand)))
            .collect();
        let mut measured = vec![[Vec::new(), Vec::new(), Vec::new()]; points.len()];
        for round in 1..=rounds {
            for ((storm, rate, stand), measured) in points.iter().zip(&mut measured) {
                let point = self.point(*storm, *rate, *stand)?;
                measured.iter_mut().zip(point).for_each(|(all, one)| all.push(one));
            }
            say(&format!("round {round} of {rounds}"));
        }
        let mut table = String::from(
            "good p50 / p99 in us, and how many of 1,000/s were answered\n\n\
             | storm | bad/s | kernel off | observe | enforce |\n|---|---|---|---|---|\n",
        );
        let mut data = String::new();
        for (points, measured) in points.chunks(3).zip(measured.chunks(3)) {
            let (storm, rate, _) = points[0];
            if rate == 0 && !data.is_empty() {
                // What gnuplot takes for the end of a data set.
                data.push_str("\n\n");
            }
            write!(table, "| {} | {rate} |", storm.name)?;
            write!(data, "{rate}")?;
            for measured in measured {
                let [p50, p99, answered] = measured.clone().map(median);
                write!(table, " {p50:.0} / {p99:.0}, {answered:.0} |")?;
                write!(data, " {p99:.0}")?;
            }
            table.push('\n');
            data.push('\n');
        }
        say(&table);
        fs::write(self.folder.join("storm.md"), table)?;
        fs::write(self.folder.join("storm.dat"), data)?;
        let names = STORMS.map(|storm| format!("\"{}\"", storm.name)).join(" ");
        fs::write(self.folder.join("storm.gp"), CHART.replace("NAMES", &names))?;
        let drawn = Command::new("gnuplot").arg("storm.gp").current_dir(&self.folder).output();
        let drawn = drawn.context("`gnuplot` draws storm.png")?;
        ensure!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
        Ok(())
    }

    /// The good requests' p50 and p99 in microseconds, and how many a second were answered.
    fn point(&self, storm: Storm, rate: u32, stand: Stand) -> Result<[f64; 3]> {
        let _edge = self.edge(stand)?;
        let seconds = (self.seconds + 3.0).to_string();
        let rate_text = rate.to_string();
        let mut more = vec!["--rate", &rate_text, "--connections", "256", "--seconds", &seconds];
        if storm.is_new {
            more.push("--close");
        }
        let raging = match rate {
            0 => None,
            _ => {
                let mut generator = self.generator(storm.address, BAD, "bad_many", &more)?;
                Some(thread::spawn(move || output(&mut generator)))
            }
        };
        // Until the penalty, where there is one, is in force.
        thread::sleep(Duration::from_millis(1500));
        let duration = self.seconds.to_string();
        let good =
            self.load(storm.address, GOOD, "good", &["--rate", RATE, "--connections", "16", "--seconds", &duration])?;
        drop(raging.map(thread::JoinHandle::join));
        let of = |name: &str| good[name].as_f64().unwrap_or(0.0);
        let answered = (of("requests") - of("unlike_2xx")) / self.seconds;
        Ok([of("p50"), of("p99"), answered])
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Time all CPUs have spent on anything but idling, in microseconds (proc(5), `/proc/stat`: ticks of 10 ms).
fn busy_us() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy: f64 = ticks
        .iter()
        .enumerate()
        .filter(|(index, _)| ![3, 4].contains(index) && *index < 8)
        .map(|(_, ticks)| ticks)
        .sum();
    Ok(busy * 10_000.0)
}
