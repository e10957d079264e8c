//! Certificates: those shown to clients by name, those shown to upstreams, and whom upstreams are trusted by.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::super::problem::Sink;
use super::super::schema::{Document, Ref};
use super::index::Index;
use crate::tls::{Certificates, Pairs};

/// What services and upstreams find certificates by.
pub(super) struct Held<'a> {
    document: &'a Document<'a>,
    by_certificate: Index,
    by_authority: Index,
    /// Certificates that plugins show to issuers.
    shown_by_plugins: RefCell<HashSet<usize>>,
}

impl<'a> Held<'a> {
    pub(super) fn new(document: &'a Document<'a>, sink: &Sink) -> Self {
        let certificates = &document.certificates;
        let by_certificate = Index::of("certificates", "id", certificates, |entity| (&entity.common, None), sink);
        let authorities = &document.authorities;
        let by_authority = Index::of("ca_certificates", "id", authorities, |entity| (&entity.common, None), sink);
        Self { document, by_certificate, by_authority, shown_by_plugins: RefCell::default() }
    }

    /// The pair that a reference means.
    pub(super) fn client(&self, reference: &Ref, sink: &Sink) -> Option<Arc<CertifiedKey>> {
        self.document.certificates[self.by_certificate.find(reference, sink)?].pair.clone()
    }

    /// The authorities that references mean.
    pub(super) fn authorities(&self, references: &[Ref], sink: &Sink) -> Vec<CertificateDer<'static>> {
        let found = references.iter().filter_map(|reference| self.by_authority.find(reference, sink));
        found.filter_map(|index| self.document.authorities[index].certificate.clone()).collect()
    }

    /// The authority of this id or name.
    pub(super) fn authority(&self, id: &str) -> Option<CertificateDer<'static>> {
        self.document.authorities[self.by_authority.get(id)?].certificate.clone()
    }

    /// The pair of this id, which a plugin shows to its issuer.
    pub(super) fn certificate(&self, id: &str) -> Option<Arc<CertifiedKey>> {
        let index = self.by_certificate.get(id)?;
        self.shown_by_plugins.borrow_mut().insert(index);
        self.document.certificates[index].pair.clone()
    }

    /// Those shown to clients. Comes after the plugins, which show some to issuers.
    pub(super) fn served(&self, listeners: Vec<Option<Arc<CertifiedKey>>>, sink: &Sink) -> Certificates {
        let document = self.document;
        let mut snis = Index::new("snis");
        let mut used = self.shown_by_plugins.borrow().clone();
        let mut names = Vec::new();
        for entity in &document.snis {
            snis.add(&entity.common, "name", Some(&entity.name), sink);
            let Some(index) = self.by_certificate.find(&entity.certificate, sink) else { continue };
            used.insert(index);
            let certificate = &document.certificates[index];
            let pairs = certificate.pair.clone().map(|pair| Pairs::new(pair, certificate.alternative.clone()));
            names.extend(pairs.map(|pairs| (entity.name.as_str().into(), pairs)));
        }
        let shown_upstream = document.services.iter().filter_map(|entity| entity.client_certificate.as_ref());
        let shown_upstream =
            shown_upstream.chain(document.upstreams.iter().filter_map(|entity| entity.client_certificate.as_ref()));
        // A reference that leads nowhere is reported where it is used.
        let quiet = Sink::new("");
        used.extend(shown_upstream.filter_map(|reference| self.by_certificate.find(reference, &quiet)));
        for (certificate, entity) in document.certificates.iter().enumerate() {
            if !used.contains(&certificate) {
                sink.warn(entity.common.line, &entity.common.path, "no sni uses this certificate");
            }
        }
        Certificates::new(names, listeners)
    }
}
