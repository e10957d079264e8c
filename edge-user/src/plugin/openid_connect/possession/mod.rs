//! Sender-constrained tokens: whether the sender of a verified token is the one that its `cnf` names, by its TLS
//! certificate (RFC 8705) or by a DPoP proof (RFC 9449).
//!
//! A bound token without what it is bound to is refused, and so is one bound in a way that is switched off or unknown:
//! none is ever taken for a plain bearer token (S5). Nothing here is cached but certificates from headers.

mod demand;
mod header;

pub(super) use demand::found;

use super::challenge::Schemes;
use super::credential::Scheme;
use crate::config::reader::Reader;
use crate::crypto::constant_time_eq;
use crate::http::h1::parse::is_authority;
use crate::http::head::{Head, Known};
use crate::proxy::connection::Connection;
use crate::reason::Reason;
use crate::tls::ClientCertificate;
use crate::token::Now;
use crate::token::claims::{ClaimPath, Facts};
use crate::token::dpop::{self, Bound, Fault, Ledger, Rules, Target};
use crate::token::json::{Kind, Value};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use header::FromHeader;
use rustls::pki_types::CertificateDer;
use std::borrow::Cow;
use std::sync::Arc;

/// The methods whose tokens a client sends itself, and so can prove to hold.
const PROVABLE: [&str; 3] = ["bearer", "introspection", "session"];

/// How a certificate of `ca_certificates` is found by its id.
pub(super) type Authorities<'a> = &'a dyn Fn(&str) -> Option<CertificateDer<'static>>;

/// One of Kong's `proof_of_possession_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Demand {
    /// Bound tokens are refused.
    Off,
    /// Bound tokens are proven; others pass.
    Optional,
    /// Only proven tokens pass.
    Strict,
}

/// What a route demands.
pub(super) struct Possession {
    mtls: Demand,
    from_header: Option<FromHeader>,
    dpop: Demand,
    rules: Rules,
    ledger: Arc<Ledger>,
    cnf: ClaimPath,
}

/// A token and the request that shows it.
pub(super) struct Shown<'a> {
    pub(super) scheme: Scheme,
    pub(super) token: &'a [u8],
    pub(super) facts: &'a Facts,
    pub(super) head: &'a Head,
    /// Whether the client uses TLS, by the rules of `trusted_ips`.
    pub(super) https: bool,
    /// The normalised path.
    pub(super) path: &'a [u8],
    pub(super) connection: &'a Connection,
    /// The fields taken from the head because a client's certificate may stand in them.
    pub(super) certificates: &'a [(Box<str>, Vec<u8>)],
    pub(super) now: Now,
}

/// Why a token is refused, and what the answer must tell the client.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Unproven {
    pub(super) reason: Reason,
    /// What is wrong with the proof, for the log.
    pub(super) fault: Option<Fault>,
    /// The value of `DPoP-Nonce`.
    pub(super) nonce: Option<String>,
}

impl From<Reason> for Unproven {
    fn from(reason: Reason) -> Self {
        Self { reason, fault: None, nonce: None }
    }
}

/// Reads the parameters. `methods` are the names in `auth_methods`; problems go to the reader's sink.
pub(super) fn parse(
    config: &mut Reader<'_>,
    methods: &[&str],
    authorities: Authorities<'_>,
    ledger: &Arc<Ledger>,
) -> Possession {
    const DEMANDS: [(&str, Demand); 3] =
        [("off", Demand::Off), ("optional", Demand::Optional), ("strict", Demand::Strict)];
    let mtls = config.word("proof_of_possession_mtls", &DEMANDS).unwrap_or(Demand::Off);
    let dpop = config.word("proof_of_possession_dpop", &DEMANDS).unwrap_or(Demand::Off);
    let validates = config.bool("proof_of_possession_auth_methods_validation").unwrap_or(true);
    for (key, demand) in [("proof_of_possession_mtls", mtls), ("proof_of_possession_dpop", dpop)] {
        let unproven = methods.iter().find(|method| !PROVABLE.contains(*method));
        if let Some(method) = unproven.filter(|_| validates && demand != Demand::Off) {
            let expected = "`auth_methods` of bearer and introspection alone, \
                or `proof_of_possession_auth_methods_validation: false`";
            config.problem(
                key,
                format!("it beside the method {method}, whose tokens nobody can prove to hold"),
                expected,
            );
        }
    }
    const HEADER: &str = "proof_of_possession_mtls_from_header";
    let record = config.object(HEADER);
    if record.is_some() && mtls == Demand::Off {
        config.problem(
            HEADER,
            "it without `proof_of_possession_mtls`",
            "`proof_of_possession_mtls: strict` or optional",
        );
    }
    let from_header = record.and_then(|record| header::parse(record, authorities));
    let lifetime_secs = config.number("dpop_proof_lifetime", 1.0..=86_400.0).unwrap_or(300.0);
    let nonce = config.bool("dpop_use_nonce").unwrap_or(false);
    if dpop != Demand::Off {
        ledger.open();
    }
    Possession {
        mtls,
        from_header,
        dpop,
        rules: Rules { lifetime_ms: (lifetime_secs * 1000.0) as i64, nonce },
        ledger: Arc::clone(ledger),
        cnf: ClaimPath::new(["cnf"]),
    }
}

/// What a token's `cnf` names.
struct Binding<'a> {
    jkt: Option<Cow<'a, str>>,
    x5t: Option<Cow<'a, str>>,
}

impl<'a> Binding<'a> {
    /// Every member must be known: one that is not may be the one that counts.
    fn read(cnf: Value<'a>) -> Option<Self> {
        let mut binding = Self { jkt: None, x5t: None };
        if cnf.kind() != Kind::Object {
            return None;
        }
        for (name, value) in cnf.members() {
            match name.text()?.as_ref() {
                "jkt" => binding.jkt = Some(value.text()?),
                "x5t#S256" => binding.x5t = Some(value.text()?),
                _ => return None,
            }
        }
        (binding.jkt.is_some() || binding.x5t.is_some()).then_some(binding)
    }
}

impl Possession {
    /// The field that may carry a client's certificate.
    pub(super) fn certificate_header(&self) -> Option<&str> {
        self.from_header.as_ref().map(FromHeader::name)
    }

    /// Whether tokens may come with the scheme `DPoP`.
    pub(super) fn takes_dpop(&self) -> bool {
        self.dpop != Demand::Off
    }

    /// Whether bound tokens are taken at all.
    pub(super) fn takes_bound(&self) -> bool {
        self.mtls != Demand::Off || self.dpop != Demand::Off
    }

    /// Whether even a token that is bound to nothing needs a look.
    pub(super) fn demands_proof(&self) -> bool {
        self.mtls == Demand::Strict || self.dpop == Demand::Strict
    }

    /// Which schemes the route's challenges name.
    pub(super) fn schemes(&self) -> Schemes {
        match self.dpop {
            Demand::Off => Schemes::Bearer,
            Demand::Optional => Schemes::Either,
            Demand::Strict => Schemes::Dpop,
        }
    }

    /// Whether the sender holds what the token is bound to; asked once the token is verified. The answer may be a
    /// fresh value of `DPoP-Nonce` for the response.
    pub(super) fn check(&self, shown: &Shown<'_>) -> Result<Option<String>, Unproven> {
        let cnf = shown.facts.claim(&self.cnf);
        let binding = match cnf {
            // Bound to what these facts do not say: the issuer's answer, or the token, alone does.
            None if shown.facts.is_bound() => return Err(Reason::TokenBound.into()),
            None => Binding { jkt: None, x5t: None },
            Some(cnf) => Binding::read(cnf).ok_or(Reason::TokenBound)?,
        };
        match (&binding.x5t, self.mtls) {
            (Some(_), Demand::Off) => return Err(Reason::TokenBound.into()),
            (Some(x5t), _) => self.check_certificate(x5t, shown)?,
            (None, Demand::Strict) => return Err(Reason::TokenUnbound.into()),
            (None, _) => {}
        }
        match (&binding.jkt, self.dpop, shown.scheme) {
            // A proof was promised, and the token names no key to prove.
            (None, Demand::Strict, _) | (None, _, Scheme::Dpop) => Err(Reason::TokenUnbound.into()),
            (None, _, Scheme::Bearer) => Ok(None),
            // RFC 9449, 7.1 and 7.2: a bound token is no bearer token.
            (Some(_), Demand::Off, _) | (Some(_), _, Scheme::Bearer) => Err(Reason::TokenBound.into()),
            (Some(jkt), _, Scheme::Dpop) => self.check_proof(jkt, shown),
        }
    }

    fn check_proof(&self, jkt: &str, shown: &Shown<'_>) -> Result<Option<String>, Unproven> {
        let nonce = || self.rules.nonce.then(|| self.ledger.nonce(self.rules, shown.now));
        let refuse = |reason, fault| Unproven { reason, fault, nonce: nonce() };
        let mut proofs = shown.head.all(Known::Dpop);
        let proof = match (proofs.next(), proofs.next()) {
            (None, _) => return Err(refuse(Reason::ProofMissing, None)),
            (Some(proof), None) => proof,
            (Some(_), Some(_)) => return Err(refuse(Reason::ProofInvalid, None)),
        };
        let target =
            Target { method: shown.head.method(), https: shown.https, authority: authority(shown), path: shown.path };
        let bound = Bound { token: shown.token, jkt };
        match dpop::check(proof, &target, &bound, self.rules, &self.ledger, shown.now) {
            Ok(proven) => Ok(proven.nonce_is_ageing.then(nonce).flatten()),
            Err(fault) => {
                let reason = match fault {
                    Fault::Nonce => Reason::NonceMissing,
                    Fault::Replayed => Reason::ProofReplayed,
                    _ => Reason::ProofInvalid,
                };
                Err(refuse(reason, Some(fault)))
            }
        }
    }

    fn check_certificate(&self, x5t: &str, shown: &Shown<'_>) -> Result<(), Reason> {
        let certificate = self.certificate(shown)?.ok_or(Reason::CertificateMissing)?;
        let matches = constant_time_eq(URL_SAFE_NO_PAD.encode(certificate.thumbprint).as_bytes(), x5t.as_bytes());
        // A connection may outlive the certificate it was opened with (S3).
        match matches && certificate.is_valid_at(shown.now.unix_ms) {
            true => Ok(()),
            false => Err(Reason::CertificateMismatch),
        }
    }

    /// The client's certificate. That of a trusted proxy's connection is the proxy's own, so where one is expected to
    /// name its client's, nothing else counts.
    fn certificate(&self, shown: &Shown<'_>) -> Result<Option<Arc<ClientCertificate>>, Reason> {
        let from_tls = || shown.connection.client_certificate.clone();
        let Some(header) = &self.from_header else { return Ok(from_tls()) };
        match (shown.connection.trusted, header.is_for_trusted_only()) {
            (true, _) => header.read(shown.certificates, shown.now),
            (false, true) => Ok(from_tls()),
            (false, false) => Ok(header.read(shown.certificates, shown.now)?.or_else(from_tls)),
        }
    }

    /// Takes the proof off a request that goes on: it was for the edge alone.
    pub(super) fn clean(&self, head: &mut Head) {
        if self.takes_dpop() {
            head.remove(Known::Dpop);
        }
    }
}

/// The authority the client meant: `Host`, or what a trusted proxy says it was.
fn authority<'a>(shown: &Shown<'a>) -> &'a [u8] {
    let mut forwarded = shown.head.all(Known::XForwardedHost);
    match (forwarded.next(), forwarded.next()) {
        (Some(authority), None) if shown.connection.trusted && is_authority(authority) => authority,
        _ => shown.head.get(Known::Host).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
