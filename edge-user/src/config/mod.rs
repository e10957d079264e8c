//! From text to `Snapshot`: what the files say, all problems at once, each with its place.
//!
//! `value` reads text into one tree with line numbers, `normal` makes flat lists of it with ids and defaults, `vault`
//! fills in values that stand elsewhere, `reader` takes typed fields out of the tree and reports the rest, `schema` knows
//! the fields of each entity, `resolve` follows references and builds the `Snapshot`. `dump` prints the normal form.

pub mod dump;
mod listeners;
mod normal;
mod ownership;
pub mod problem;
mod protocols;
pub mod reader;
pub mod rejection;
mod resolve;
mod schema;
mod scoping;
pub mod snapshot;
pub mod value;
mod vault;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use self::dump::{Format, Secrets};
use self::listeners::Asked;
pub use self::listeners::KnownClients;
use self::problem::{Problem, Problems, Sink};
use self::schema::Document;
pub(crate) use self::schema::{parse_host, server_name};
use self::snapshot::{Host, Snapshot};
use self::value::Value;
use self::vault::Vault;
pub(crate) use self::vault::stands_for_another;
use crate::balancer::addresses::leads_to;
use crate::balancer::{Balancers, Room};
use crate::crypto;
use crate::dns::Resolver;
use crate::plugin::PluginEnv;
use crate::settings::{self, Settings};
use crate::tls::TicketKeys;

/// The port of a target that names none.
const DEFAULT_TARGET_PORT: u16 = 8000;

/// What lives longer than one configuration and the next one takes over: one for the process.
#[derive(Clone)]
pub struct Env {
    /// What plugins need.
    pub plugins: PluginEnv,
    /// The balancers in use, with the health of their targets.
    pub balancers: Arc<Balancers>,
    /// What TLS sessions of clients are resumed by.
    pub tickets: Arc<TicketKeys>,
    /// What the files say by which certificates of clients are judged.
    pub clients: Arc<KnownClients>,
}

/// One that asks nobody: for checks and tests.
impl Default for Env {
    fn default() -> Self {
        let tickets = TicketKeys::new(settings::Tls::default().ticket_period);
        Self {
            plugins: PluginEnv::default(),
            balancers: Balancers::new(Resolver::idle(), None, None, Room::ENDLESS),
            tickets,
            clients: Arc::default(),
        }
    }
}

/// Reads the file of entities that the settings name, and what listeners show and ask in TLS.
pub fn load(settings: &Settings, env: &Env, generation: u64) -> Result<Snapshot, Problems> {
    let (snapshot, problems) = read(settings, env, generation);
    match snapshot {
        Some(snapshot) if problems.is_empty() => Ok(snapshot),
        _ => Err(Problems(problems)),
    }
}

/// As `load`, from a text in place of the file; `name` is what problems call it.
pub fn load_text(
    text: &str,
    name: &str,
    settings: &Settings,
    env: &Env,
    generation: u64,
) -> Result<Snapshot, Problems> {
    let (snapshot, problems) = read_text(Ok(text.to_owned()), name, settings, env, generation);
    match snapshot {
        Some(snapshot) if problems.is_empty() => Ok(snapshot),
        _ => Err(Problems(problems)),
    }
}

/// What a text in place of the file of entities leads to: problems, and what the operator should know.
pub(crate) fn remarks_on_text(text: &str, name: &str, settings: &Settings, env: &Env) -> (Vec<Problem>, Vec<String>) {
    let (snapshot, problems) = read_text(Ok(text.to_owned()), name, settings, env, 1);
    (problems, snapshot.map_or_else(Vec::new, |snapshot| snapshot.warnings))
}

/// Reads both files and reports the problems of both. `env` makes what plugins need from the settings.
pub fn check(path: &Path, env: impl FnOnce(&Settings) -> Env) -> Result<(Settings, Snapshot), Problems> {
    let (settings, mut problems) = settings::read(path, |name| std::env::var(name).ok());
    if problems.iter().any(|problem| problem.path.is_empty()) {
        // The file could not be read at all, so nobody knows where the entities are.
        return Err(Problems(problems));
    }
    let (snapshot, more) = read(&settings, &env(&settings), 1);
    problems.extend(more);
    match snapshot {
        Some(snapshot) if problems.is_empty() => Ok((settings, snapshot)),
        _ => Err(Problems(problems)),
    }
}

/// Prints the entities of a file in normal form; one with problems is not printed.
pub fn dump(
    path: &Path,
    env: impl FnOnce(&Settings) -> Env,
    format: Format,
    secrets: Secrets,
) -> Result<String, Problems> {
    let (settings, _) = check(path, env)?;
    let name = settings.entities.file.display().to_string();
    let sink = Sink::new(&name);
    let text = fs::read_to_string(&settings.entities.file).unwrap_or_default();
    let normal = Value::from_yaml(&text, &sink).and_then(|value| normal::normalize(value, &sink));
    match normal {
        Some(normal) if sink.count() == 0 => Ok(dump::dump(normal, format, secrets)),
        _ => Err(Problems(sink.into_parts().0)),
    }
}

fn read(settings: &Settings, env: &Env, generation: u64) -> (Option<Snapshot>, Vec<Problem>) {
    let file = &settings.entities.file;
    read_text(fs::read_to_string(file), &file.display().to_string(), settings, env, generation)
}

fn read_text(
    text: std::io::Result<String>,
    name: &str,
    settings: &Settings,
    env: &Env,
    generation: u64,
) -> (Option<Snapshot>, Vec<Problem>) {
    let own = Sink::new(&settings.file);
    let (pairs, asked) = (listeners::pairs(settings, &own), Asked::load(settings, &env.clients, &own));
    let sink = Sink::new(name);
    let mut hash = String::new();
    let value = match text {
        Ok(text) => {
            // As long as Kong's, which is an MD5.
            hash = crypto::sha256(text.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            Value::from_yaml(&text, &sink)
        }
        Err(error) => {
            sink.problem(0, "", format!("no readable file ({error})"), "the entities ([entities] file)");
            None
        }
    };
    let mut snapshot = value.and_then(|value| normal::normalize(value, &sink)).map(|mut normal| {
        let directory = settings.entities.file.parent().unwrap_or(Path::new("."));
        Vault { variable: &|name| std::env::var(name).ok(), directory }.fill(&mut normal, &sink);
        let document = schema::document(&normal, &sink);
        refuse_admin_as_upstream(&document, settings, &sink);
        resolve::resolve(document, pairs, env, &settings.proxy, generation, &sink)
    });
    if let Some(snapshot) = &mut snapshot {
        listeners::finish(snapshot, settings, &asked, &env.tickets, &own);
    }
    let (mut problems, mut warnings) = own.into_parts();
    let (more, remarks) = sink.into_parts();
    problems.extend(more);
    warnings.extend(remarks);
    (snapshot.map(|snapshot| Snapshot { warnings, hash: hash.into(), ..snapshot }), problems)
}

/// The Admin API trusts whoever reaches it, so no service may lead there (A2).
fn refuse_admin_as_upstream(document: &Document<'_>, settings: &Settings, sink: &Sink) {
    let Some(admin) = settings.admin else { return };
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let leads_here = |host: &Host, port: u16| match host {
        Host::Ip(address) => leads_to(*address, port, admin.address),
        // What other names lead to is known to the balancer alone.
        Host::Name(name) if &**name == "localhost" || name.ends_with(".localhost") => {
            leads_to(loopback, port, admin.address)
        }
        Host::Name(_) => false,
    };
    let services = document.services.iter().filter_map(|entity| {
        let target = entity.target.as_ref()?;
        leads_here(&target.host, target.port).then_some(&entity.common)
    });
    let targets = document.targets.iter().filter_map(|entity| {
        leads_here(&entity.host, entity.port.unwrap_or(DEFAULT_TARGET_PORT)).then_some(&entity.common)
    });
    for common in services.chain(targets) {
        let expected = "another upstream: requests from outside must not reach the Admin API";
        sink.problem(common.line, &common.path, "the Admin API's address", expected);
    }
}

#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
