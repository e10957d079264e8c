//! What listeners need beyond the entities: their own certificates, what they ask of clients, OCSP responses.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::sign::CertifiedKey;

use super::problem::Sink;
use super::snapshot::Snapshot;
use crate::settings::{ClientRules, Listener, Mode, Settings};
use crate::tls::freshness::Freshness;
use crate::tls::{self, Certificates, ClientAuth, ListenerTls, Part, Staple, TicketKeys, Wanted};
use crate::token::Now;

/// The certificate and key of each listener that has its own.
pub(super) fn pairs(settings: &Settings, sink: &Sink) -> Vec<Option<Arc<CertifiedKey>>> {
    let read = |(index, listener): (usize, &Listener)| {
        let files = listener.pair.as_ref()?;
        let wrong = |key: &str, found: String| {
            let path = format!("listeners[{index}].{key}");
            sink.problem(listener.line, &path, found, "a certificate and its private key, both PEM files");
        };
        let bytes = |key: &str, path: &Path| {
            let found = |error| wrong(key, format!("no readable file ({error})"));
            fs::read(path).map_err(found).ok()
        };
        let (certificate, key) = (bytes("certificate", &files.certificate), bytes("key", &files.key));
        let found = |error: tls::Error| {
            let key = if matches!(error, tls::Error::Certificate) { "certificate" } else { "key" };
            wrong(key, error.to_string());
        };
        tls::pair(&certificate?, &key?).map_err(found).ok()
    };
    settings.listeners.iter().enumerate().map(read).collect()
}

/// What was read of the files of rules, for as long as anybody uses it: connections may outlive many configurations, and
/// share what has not changed in them.
#[derive(Default)]
pub struct KnownClients(Mutex<HashMap<ClientRules, Weak<ClientAuth>>>);

impl KnownClients {
    /// What is known, where it says the same as what was `read` now; else that.
    fn same_or(&self, rules: &ClientRules, read: ClientAuth) -> Arc<ClientAuth> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, clients| clients.strong_count() > 0);
        match known.get(rules).and_then(Weak::upgrade) {
            Some(same) if same.digest() == read.digest() => same,
            _ => {
                let read = Arc::new(read);
                known.insert(rules.clone(), Arc::downgrade(&read));
                read
            }
        }
    }
}

/// What listeners ask of clients, read from the files that their settings name.
pub(super) struct Asked(Vec<AskedAt>);

/// At one listener: by its own rules, and by those of its hosts, in their order.
struct AskedAt {
    own: Option<Arc<ClientAuth>>,
    hosts: Vec<Option<Arc<ClientAuth>>>,
}

impl Asked {
    /// Reads the files, those of equal rules once.
    pub(super) fn load(settings: &Settings, known: &KnownClients, sink: &Sink) -> Self {
        let mut read: HashMap<&ClientRules, Option<Arc<ClientAuth>>> = HashMap::new();
        let mut all = Vec::with_capacity(settings.listeners.len());
        for (index, listener) in settings.listeners.iter().enumerate() {
            let place = format!("listeners[{index}]");
            let mut one = |rules, place: &str| {
                let read = read.entry(rules);
                read.or_insert_with(|| Some(known.same_or(rules, load(rules, place, listener.line, sink)?))).clone()
            };
            let own = one(&listener.clients, &place);
            let hosts = listener.hosts.iter().enumerate();
            let hosts = hosts.map(|(host, rules)| one(&rules.clients, &format!("{place}.hosts[{host}]"))).collect();
            all.push(AskedAt { own, hosts });
        }
        Self(all)
    }
}

fn load(rules: &ClientRules, place: &str, line: u32, sink: &Sink) -> Option<ClientAuth> {
    match ClientAuth::load(rules) {
        Ok(loaded) => {
            let loaded = loaded?;
            for authority in loaded.uncovered() {
                let text = format!("none of the lists is of {authority}: clients with its certificates are refused");
                sink.warn(line, &format!("{place}.client_crl"), &text);
            }
            remark(loaded.freshness(), &format!("{place}.client_crl"), line, sink);
            Some(loaded)
        }
        Err((Part::Authorities, error)) => {
            let expected = "a PEM file with the certificates of authorities";
            sink.problem(line, &format!("{place}.client_ca"), error.to_string(), expected);
            None
        }
        Err((Part::List(index), error)) => {
            let expected = "a file with revocation lists (RFC 5280), PEM or DER";
            sink.problem(line, &format!("{place}.client_crl[{index}]"), error.to_string(), expected);
            None
        }
    }
}

fn remark(all: &[Freshness], path: &str, line: u32, sink: &Sink) {
    let now = Now::read().unix_ms.div_euclid(1000);
    for text in all.iter().filter_map(|one| one.remark(now)) {
        sink.warn(line, path, &text);
    }
}

/// Gives the snapshot the TLS of the listeners, with what was read for them.
pub(super) fn finish(
    snapshot: &mut Snapshot,
    settings: &Settings,
    asked: &Asked,
    tickets: &Arc<TicketKeys>,
    sink: &Sink,
) {
    if snapshot.certificates.name_count() == 0 {
        without_certificate(settings, sink);
    }
    snapshot.freshness = staple(Arc::make_mut(&mut snapshot.certificates), settings, sink);
    for at in &asked.0 {
        for one in [&at.own].into_iter().chain(&at.hosts).flatten().flat_map(|clients| clients.freshness()) {
            if !snapshot.freshness.contains(one) {
                snapshot.freshness.push(one.clone());
            }
        }
    }
    for (index, (listener, asked)) in settings.listeners.iter().zip(&asked.0).enumerate() {
        let wanted = Wanted { listener: index, mode: listener.mode, certificates: &snapshot.certificates, tickets };
        let hosts = listener.hosts.iter().zip(&asked.hosts);
        let hosts =
            hosts.flat_map(|(rules, clients)| rules.names.iter().map(|name| (name, (&rules.clients, clients.clone()))));
        // A listener of streams leaves it to routes whether TLS ends here.
        let made = (listener.tls || listener.mode == Mode::Stream)
            .then(|| ListenerTls::new(&wanted, (&listener.clients, asked.own.clone()), hosts))
            .transpose();
        let made = made.unwrap_or_else(|error| {
            let expected = "one that the cryptographic backend takes";
            sink.problem(listener.line, &format!("listeners[{index}]"), error.to_string(), expected);
            None
        });
        snapshot.listeners.push(made);
    }
}

/// Puts the OCSP responses of the settings to the certificates.
fn staple(certificates: &mut Certificates, settings: &Settings, sink: &Sink) -> Vec<Freshness> {
    let place = |index: usize| format!("tls.ocsp_responses[{index}]");
    let files = settings.tls.ocsp_responses.iter().enumerate();
    let (mut staples, mut places, mut freshness) = (Vec::new(), Vec::new(), Vec::new());
    for (index, file) in files {
        match Staple::load(file) {
            Ok(staple) => {
                remark(&[staple.freshness(file)], &place(index), 0, sink);
                freshness.push(staple.freshness(file));
                places.push((index, file));
                staples.push(staple);
            }
            Err(error) => {
                let expected = "an OCSP response (RFC 6960) with `nextUpdate`, in DER";
                sink.problem(0, &place(index), format!("{}: {error}", file.display()), expected);
            }
        }
    }
    for unused in certificates.staple(&staples) {
        let (index, file) = places[unused];
        let why = match staples[unused].has_bad_news() {
            true => "calls a certificate revoked or unknown, and is not stapled",
            false => "is about no certificate that is shown here",
        };
        sink.warn(0, &place(index), &format!("{} {why}", file.display()));
    }
    freshness
}

fn without_certificate(settings: &Settings, sink: &Sink) {
    for (index, listener) in settings.listeners.iter().enumerate() {
        // A listener of streams may pass all of its TLS through.
        if listener.tls && listener.mode == Mode::Http && listener.pair.is_none() {
            let expected = "`certificate` and `key`, or a certificate entity with an sni";
            sink.problem(listener.line, &format!("listeners[{index}]"), "TLS without a certificate", expected);
        }
    }
}
