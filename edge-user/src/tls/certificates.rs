//! Certificates of the edge's own: by name, by listener, and with what their issuers say about them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;

use super::staple::Staple;

/// A certificate and key, and what its issuer says about it.
#[derive(Clone, Debug)]
struct Shown {
    pair: Arc<CertifiedKey>,
    /// The same with an OCSP response, and the seconds since 1970 in which that counts.
    stapled: Option<(Arc<CertifiedKey>, Range<i64>)>,
}

impl Shown {
    fn new(pair: Arc<CertifiedKey>) -> Self {
        Self { pair, stapled: None }
    }

    fn at(&self, unix_secs: i64) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, time)) if time.contains(&unix_secs) => stapled,
            _ => &self.pair,
        }
    }

    /// Takes the response about it that counts longest.
    fn staple(&mut self, staples: &[Staple], used: &mut [bool]) {
        for (staple, used) in staples.iter().zip(used) {
            let Some(time) = self.pair.cert.first().and_then(|own| staple.about(own)) else { continue };
            *used = true;
            if self.stapled.as_ref().is_none_or(|(_, known)| known.end < time.end) {
                let pair = CertifiedKey { ocsp: Some(staple.der().to_vec()), ..(*self.pair).clone() };
                self.stapled = Some((Arc::new(pair), time));
            }
        }
    }
}

/// A certificate and key, and a second pair for clients that cannot verify the first.
#[derive(Clone, Debug)]
pub struct Pairs {
    first: Shown,
    second: Option<Shown>,
}

impl Pairs {
    /// One pair or two, whose keys are of different types.
    pub fn new(first: Arc<CertifiedKey>, second: Option<Arc<CertifiedKey>>) -> Self {
        Self { first: Shown::new(first), second: second.map(Shown::new) }
    }

    /// The pair a client of these schemes, its favourite first, gets at this time.
    pub(super) fn choose(&self, schemes: &[SignatureScheme], unix_secs: i64) -> &Arc<CertifiedKey> {
        let Some(second) = &self.second else { return self.first.at(unix_secs) };
        let both = [&self.first, second];
        let signs =
            |scheme: &SignatureScheme| both.into_iter().find(|one| one.pair.key.choose_scheme(&[*scheme]).is_some());
        schemes.iter().find_map(signs).unwrap_or(&self.first).at(unix_secs)
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Shown> {
        [Some(&mut self.first), self.second.as_mut()].into_iter().flatten()
    }
}

/// Server certificates: those of the entities by name, and each listener's own.
#[derive(Clone, Default)]
pub struct Certificates {
    /// By lower-case name: `a.b`, `*.b`, `a.*` or `*` for all.
    names: HashMap<Box<str>, Pairs>,
    /// By index of the listener.
    listeners: Vec<Option<Pairs>>,
}

impl Certificates {
    /// Certificates by lower-case SNI names, and the pair of each listener.
    pub fn new(names: impl IntoIterator<Item = (Box<str>, Pairs)>, listeners: Vec<Option<Arc<CertifiedKey>>>) -> Self {
        let listeners = listeners.into_iter().map(|pair| pair.map(|pair| Pairs::new(pair, None))).collect();
        Self { names: names.into_iter().collect(), listeners }
    }

    /// Every certificate and what it is for: a name, or a listener by its index.
    pub fn each(&self) -> impl Iterator<Item = (String, &CertifiedKey)> {
        let named = self.names.iter().map(|(name, pairs)| (format!("sni {name}"), pairs));
        let own = self.listeners.iter().enumerate();
        let own = own.filter_map(|(index, pairs)| Some((format!("listeners[{index}]"), pairs.as_ref()?)));
        named.chain(own).flat_map(|(name, pairs)| {
            let both = [Some(&pairs.first), pairs.second.as_ref()];
            both.into_iter().flatten().map(move |shown| (name.clone(), &*shown.pair))
        })
    }

    /// Puts each OCSP response to the certificates that it is about, and tells which are about none.
    pub fn staple(&mut self, staples: &[Staple]) -> Vec<usize> {
        let mut used = vec![false; staples.len()];
        for pairs in self.names.values_mut().chain(self.listeners.iter_mut().flatten()) {
            pairs.each().for_each(|shown| shown.staple(staples, &mut used));
        }
        used.iter().enumerate().filter(|(_, used)| !**used).map(|(index, _)| index).collect()
    }

    /// How many names have a certificate.
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// The certificate for a client that asks for `sni` at a listener: the name's own, then one whose first, then one
    /// whose last label is a wildcard, then the listener's, then the one for all names.
    pub fn resolve(&self, sni: Option<&str>, listener: usize) -> Option<&Pairs> {
        let named = sni.and_then(|sni| {
            let name = sni.strip_suffix('.').unwrap_or(sni).to_ascii_lowercase();
            let first = || self.names.get(format!("*.{}", name.split_once('.')?.1).as_str());
            let last = || self.names.get(format!("{}.*", name.rsplit_once('.')?.0).as_str());
            self.names.get(name.as_str()).or_else(first).or_else(last)
        });
        named.or_else(|| self.listeners.get(listener)?.as_ref()).or_else(|| self.names.get("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::pair_for;
    use super::*;

    #[test]
    fn of_two_pairs_the_client_gets_the_one_it_can_verify() {
        let first = pair_for("a.example");
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let second = super::super::pair(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (ecdsa, ed25519) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519);
        let both = Pairs::new(Arc::clone(&first), Some(Arc::clone(&second)));
        for (schemes, expected) in [
            (&[ecdsa][..], &first),
            (&[ed25519], &second),
            (&[ed25519, ecdsa], &second),
            (&[ecdsa, ed25519], &first),
            (&[SignatureScheme::RSA_PSS_SHA256], &first),
            (&[], &first),
        ] {
            assert!(Arc::ptr_eq(both.choose(schemes, 0), expected), "{schemes:?}");
        }
    }

    #[test]
    fn the_nearest_name_wins() {
        let pairs: Vec<_> = (0..6).map(|n| pair_for(&format!("{n}"))).collect();
        let names = ["a.example", "*.example", "a.*", "*"].map(Box::from);
        let all = Certificates::new(
            names.into_iter().zip(pairs.iter().map(|pair| Pairs::new(Arc::clone(pair), None))),
            vec![Some(Arc::clone(&pairs[4])), None],
        );
        let place = |found: Option<&Pairs>| {
            pairs.iter().position(|pair| found.is_some_and(|found| Arc::ptr_eq(&found.first.pair, pair)))
        };
        for (sni, listener, expected) in [
            (Some("a.example"), 0, Some(0)),
            (Some("A.Example."), 0, Some(0)),
            (Some("b.example"), 0, Some(1)),
            (Some("a.test"), 0, Some(2)),
            (Some("b.a.example"), 0, Some(4)),
            (Some("example"), 0, Some(4)),
            (Some("b.test"), 1, Some(3)),
            (None, 0, Some(4)),
            (None, 1, Some(3)),
        ] {
            assert_eq!(place(all.resolve(sni, listener)), expected, "{sni:?} {listener}");
        }
        assert!(Certificates::default().resolve(Some("a"), 0).is_none());
        assert_eq!(all.name_count(), 4);
    }
}
