//! For which hosts the kernel may refuse a bad token: where every route that a request may take refuses it alike, and
//! refuses it first. Decided when the configuration is built, so that `edge check` can show it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::snapshot::{Protocol, Route};
use crate::plugin::Plugin;
use crate::plugin::openid_connect::Alike;
use crate::router::Criteria;

/// Whether, and if not why not.
type Eligible = Result<(), String>;

/// See the module text.
#[derive(Debug, PartialEq, Eq)]
pub struct KernelRejection {
    /// By host that some route names.
    named: BTreeMap<Box<str>, Eligible>,
    /// For every other host.
    others: Eligible,
    /// The longest that some route lets a token pass after its end.
    leeway: Duration,
}

/// How far clocks may differ, or be set back, before a token that expired could be taken for good.
const CLOCKS: Duration = Duration::from_secs(300);

/// Where nothing is configured nothing is refused early.
impl Default for KernelRejection {
    fn default() -> Self {
        Self { named: BTreeMap::new(), others: Err("no route is for them".to_owned()), leeway: Duration::ZERO }
    }
}

impl KernelRejection {
    /// Of these routes and what each asks of a request.
    pub(super) fn of(routes: &[Route], criteria: &[&Criteria]) -> Self {
        let pairs = || routes.iter().zip(criteria.iter().copied());
        let named = pairs().flat_map(|(_, criteria)| criteria.hosts.iter().filter_map(|host| host.exact()));
        let mut eligible = BTreeMap::new();
        for host in named {
            eligible.entry(Box::from(host)).or_insert_with(|| {
                let may_match = |criteria: &Criteria| {
                    criteria.hosts.is_empty() || criteria.hosts.iter().any(|pattern| pattern.is_for(host.as_bytes()))
                };
                alike(pairs().filter(|(_, criteria)| may_match(criteria)).map(|(route, _)| route))
            });
        }
        let may_match =
            |criteria: &Criteria| criteria.hosts.is_empty() || criteria.hosts.iter().any(|host| host.exact().is_none());
        let others = alike(pairs().filter(|(_, criteria)| may_match(criteria)).map(|(route, _)| route));
        let leeway = routes.iter().flat_map(leeways).max().unwrap_or_default();
        Self { named: eligible, others, leeway }
    }

    /// How long after its end an expired token is left to userspace, in milliseconds.
    pub fn patience_ms(&self) -> i64 {
        (self.leeway + CLOCKS).as_millis().try_into().unwrap_or(i64::MAX)
    }

    /// Whether bad tokens for this host may be refused. `host`: the value of `Host`.
    pub fn allows(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let host = host.to_ascii_lowercase();
        // The port does not tell routes apart here: those of all ports are asked.
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &host,
        };
        self.named.get(name).unwrap_or(&self.others).is_ok()
    }

    /// What an operator should know.
    pub fn report(&self) -> Vec<String> {
        let line = |host: &str, eligible: &Eligible| match eligible {
            Ok(()) => format!("kernel_reject: {host}: bad tokens are refused in the kernel"),
            Err(why) => format!("kernel_reject: {host}: userspace refuses bad tokens, for {why}"),
        };
        let named = self.named.iter().map(|(host, eligible)| line(host, eligible));
        named.chain([line("other hosts", &self.others)]).collect()
    }
}

/// Whether all of these refuse a bad token in the same words, whatever else a request says.
fn alike<'a>(routes: impl Iterator<Item = &'a Route>) -> Eligible {
    let mut first: Option<(Alike, &Route)> = None;
    for route in routes {
        let alike = refuses(route).map_err(|why| format!("route {} {why}", route.label))?;
        match &first {
            None => first = Some((alike, route)),
            Some((known, _)) if *known == alike => {}
            Some((_, other)) => {
                return Err(format!("routes {} and {} refuse tokens differently", other.label, route.label));
            }
        }
    }
    first.map(drop).ok_or_else(|| "no route is for them".to_owned())
}

/// How long a route's instances let a token pass after its end.
fn leeways(route: &Route) -> impl Iterator<Item = Duration> {
    route.plugins.slots.iter().flat_map(|slot| &slot.defaults).filter_map(|(_, instance)| match &instance.plugin {
        Plugin::OpenidConnect(plugin) => Some(plugin.leeway()),
        _ => None,
    })
}

/// How a route refuses bad tokens, where nothing goes before that and nothing changes the answer.
fn refuses(route: &Route) -> Result<Alike, String> {
    let protocols = route.protocols;
    if !protocols.contains(Protocol::Http) {
        return Err("does not take clear text".to_owned());
    }
    if protocols.contains(Protocol::Grpc) || protocols.contains(Protocol::Grpcs) {
        return Err("is for gRPC, which is answered otherwise".to_owned());
    }
    let mut alike = None;
    for slot in &route.plugins.slots {
        let is_scoped = slot.scoped.is_some();
        for (_, instance) in &slot.defaults {
            let plugin = &instance.plugin;
            if let Plugin::OpenidConnect(plugin) = plugin {
                if is_scoped || slot.defaults.len() > 1 || !instance.protocols.contains(Protocol::Http) {
                    return Err("has several instances of openid-connect".to_owned());
                }
                alike = Some(plugin.refuses_alike().map_err(|why| format!("has an openid-connect {why}"))?);
                continue;
            }
            if plugin.changes_responses() {
                return Err("has a plugin that changes answers".to_owned());
            }
            if alike.is_none() {
                return Err("has a plugin that may answer first".to_owned());
            }
        }
    }
    alike.ok_or_else(|| "has no openid-connect".to_owned())
}
