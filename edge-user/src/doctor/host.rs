//! This machine and what stands around it: names, certificates, Redis, files, limits, the kernel.

use std::fs::{self, OpenOptions};
use std::net::IpAddr;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};
use tokio::runtime::Handle;

use super::Report;
use crate::config::Env;
use crate::config::snapshot::Snapshot;
use crate::dns::Resolver;
use crate::settings::{self, KernelMode, Settings};
use crate::tls::ClientCertificate;
use crate::token::Now;

/// A certificate that ends sooner should have been renewed.
const RENEW_DAYS: i64 = 14;
const DAY_MS: i64 = 86_400_000;
/// Addresses of one name that are written out.
const MAX_LISTED: usize = 4;

/// The names of services and their targets, by the edge's own resolver.
pub(super) async fn names(settings: &Settings, snapshot: &Snapshot, control: Handle, report: &mut Report) {
    let mut names: Vec<Box<str>> = snapshot.balancers().flat_map(|balancer| balancer.names()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return;
    }
    let resolver = match Resolver::new(control, &settings.dns, settings.timeouts.resolve) {
        Ok(resolver) => resolver,
        Err(error) => return report.fail("dns", "[dns]", super::chain(&error), "the settings of [dns]"),
    };
    for name in names {
        match resolver.lookup(&name).await {
            Ok(answer) => report.ok("dns", &name, listed(answer.addresses.iter().map(|record| record.address))),
            Err(error) => report.fail("dns", &name, error.to_string(), "the name, or the name servers of [dns]"),
        }
    }
}

/// Addresses, the first few by name.
pub(super) fn listed(addresses: impl Iterator<Item = IpAddr>) -> String {
    let mut all: Vec<String> = addresses.map(|address| address.to_string()).collect();
    all.dedup();
    let more = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    if more > 0 { format!("{} and {more} more", all.join(", ")) } else { all.join(", ") }
}

/// What listeners show their clients.
pub(super) fn certificates(snapshot: &Snapshot, report: &mut Report) {
    let mut all: Vec<_> = snapshot.certificates.each().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (subject, pair) in all {
        let own = pair.cert.first().cloned().and_then(ClientCertificate::read);
        match own {
            Some(own) => days_left("certificate", &subject, own.ends_unix_ms(), report),
            None => report.fail("certificate", &subject, "it cannot be read", "another certificate"),
        }
    }
}

/// What has to be fetched anew before it ends: revocation lists and OCSP responses.
pub(super) fn freshness(snapshot: &Snapshot, report: &mut Report) {
    let now = Now::read().unix_ms.div_euclid(1000);
    for one in &snapshot.freshness {
        let kind = one.kind;
        match one.remark(now) {
            None => report.ok("certificate", &one.file, format!("a current {kind}")),
            Some(remark) if one.is_in_time(now) => report.warn("certificate", &one.file, remark, "fetch the next one"),
            Some(remark) => report.fail("certificate", &one.file, remark, "fetch the next one"),
        }
    }
}

/// How long a certificate lasts.
pub(super) fn days_left(area: &'static str, subject: &str, ends_ms: i64, report: &mut Report) {
    let days = (ends_ms - Now::read().unix_ms).div_euclid(DAY_MS);
    match days {
        ..0 => report.fail(area, subject, format!("expired {} days ago", -days), "renew it"),
        0..RENEW_DAYS => report.warn(area, subject, format!("expires in {days} days"), "renew it"),
        _ => report.ok(area, subject, format!("expires in {days} days")),
    }
}

/// The servers that plugins use.
pub(super) async fn redis(env: &Env, report: &mut Report) {
    for client in env.plugins.redis().in_use() {
        match client.ping().await {
            Ok(()) => report.ok("redis", client.label(), "answers"),
            Err(error) => {
                let remedy = "the server, and the host, port, login and TLS of `redis`";
                report.fail("redis", client.label(), super::chain(&error), remedy);
            }
        }
    }
}

/// Whether the file of `[store]` can be written, without writing it.
pub(super) fn store(settings: &Settings, report: &mut Report) {
    let path = &settings.store.path;
    let writable = match path.exists() {
        true => OpenOptions::new().append(true).open(path).map(drop).map_err(|error| error.to_string()),
        false => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| error.to_string())
        }
    };
    let subject = path.display().to_string();
    match writable {
        Ok(()) => report.ok("store", &subject, "can be written"),
        Err(error) => report.warn("store", &subject, error, "`store.path`, where keys survive a restart"),
    }
}

/// Each proxied connection needs two.
pub(super) fn descriptors(settings: &Settings, report: &mut Report) {
    let wanted = settings.limits.connections as u64 * 2;
    let subject = "limits.connections";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= wanted => {
            report.ok("descriptors", subject, format!("{hard} allowed, {wanted} needed"))
        }
        Ok((_, hard)) => {
            let text = format!("{hard} allowed, {wanted} needed for {} connections", settings.limits.connections);
            report.warn("descriptors", subject, text, "LimitNOFILE of the unit, `ulimit -Hn`, or fewer connections");
        }
        Err(error) => report.warn("descriptors", subject, error.to_string(), "the limits of this process"),
    }
}

/// Whether the kernel programs could run; nothing is attached.
pub(super) fn kernel(settings: &settings::Kernel, report: &mut Report) {
    const AREA: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let subject = format!("Linux {}", release.trim());
    if settings.mode == KernelMode::Off {
        return report.ok(AREA, &subject, "off ([kernel] mode)");
    }
    match crate::kernel::try_load() {
        Ok(()) => report.ok(AREA, &subject, "takes the programs"),
        Err(error) => {
            let (text, remedy) =
                (super::chain(&error), "capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or mode off");
            match settings.mode {
                KernelMode::Required => report.fail(AREA, &subject, text, remedy),
                _ => report.warn(AREA, &subject, text, remedy),
            }
        }
    }
    for interface in &settings.interfaces {
        let folder = Path::new("/sys/class/net").join(interface);
        let driver = fs::read_link(folder.join("device/driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        match (folder.exists(), driver) {
            (false, _) => report.fail(AREA, interface, "no such interface", "`kernel.interfaces`"),
            (true, Some(driver)) => {
                report.ok(AREA, interface, format!("XDP natively where driver {driver} can, else generically"));
            }
            (true, None) => {
                report.ok(AREA, interface, "a virtual interface: XDP natively where it can, else generically")
            }
        }
    }
}

/// Whoever reaches the Admin API governs the edge.
pub(super) fn admin(settings: &Settings, report: &mut Report) {
    let Some(admin) = settings.admin else { return report.ok("admin", "[admin]", "off") };
    let subject = admin.address.to_string();
    match admin.address.ip().is_loopback() {
        true => report.ok("admin", &subject, "this machine alone"),
        false => report.warn("admin", &subject, "others can reach it", "a loopback `admin.address`, or a firewall"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_before_they_end() {
        let check = |days: i64, level: &str| {
            let mut report = Report::default();
            days_left("certificate", "a", Now::read().unix_ms + days * DAY_MS + 60_000, &mut report);
            assert_eq!(report.json()["level"], level, "{days}");
        };
        check(-1, "failed");
        check(0, "warning");
        check(RENEW_DAYS - 1, "warning");
        check(RENEW_DAYS, "ok");
    }
}
