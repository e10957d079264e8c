//! OCSP responses (RFC 6960, 4.2) as operators fetch them: read to find the certificate they are about, and handed to
//! clients as they are. Their signature is for the client to verify, who trusts the issuer.

use std::ops::Range;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::freshness::{Freshness, Kind};
use super::{Error, files};
use crate::crypto;

/// Ten times what a response with the responder's chain has.
const MAX_BYTES: u64 = 64 << 10;
/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// One response.
#[derive(Clone, Debug)]
pub struct Staple {
    der: Box<[u8]>,
    answers: Vec<Answer>,
}

/// What a response says about one certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Answer {
    issuer_name_hash: Box<[u8]>,
    serial: Box<[u8]>,
    status: Status,
    /// Seconds since 1970.
    time: Range<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Staple {
    /// Reads a file with one response, in DER.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::read(&files::read(path, MAX_BYTES)?)
    }

    fn read(der: &[u8]) -> Result<Self, Error> {
        let mut input = der;
        let mut response = sequence(&mut input).ok_or(Error::Ocsp)?;
        match (input, universal(&mut response, Tag::Enumerated)) {
            ([], Some([0])) => {}
            ([], Some([status])) => return Err(Error::OcspStatus(*status)),
            _ => return Err(Error::Ocsp),
        }
        let answers = answers(response).ok_or(Error::Ocsp)?;
        let answers: Option<Vec<_>> = answers.into_iter().collect();
        let answers = answers.ok_or(Error::OcspEndless)?;
        if answers.is_empty() { Err(Error::Ocsp) } else { Ok(Self { der: der.into(), answers }) }
    }

    /// As it came.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// When it says that this certificate is good. One that it calls revoked is shown without it: clients that ask
    /// nobody else are told nothing, and nothing false.
    pub(super) fn about(&self, own: &CertificateDer<'_>) -> Option<Range<i64>> {
        let (_, own) = parse_x509_certificate(own).ok()?;
        let name = own.issuer().as_raw();
        let (sha1, sha256) = (crypto::sha1_name(name), crypto::sha256(name));
        let is_about = |answer: &&Answer| {
            // Serial numbers are the issuer's own (RFC 5280, 4.1.2.2), so no two certificates share both.
            *answer.serial == *own.raw_serial()
                && [&sha1[..], &sha256[..]].contains(&&*answer.issuer_name_hash)
                && answer.status == Status::Good
        };
        self.answers.iter().find(is_about).map(|answer| answer.time.clone())
    }

    /// Whether it says of any certificate that it is not good.
    pub fn has_bad_news(&self) -> bool {
        self.answers.iter().any(|answer| answer.status != Status::Good)
    }

    /// From the last beginning to the first end among its answers.
    pub fn freshness(&self, file: &Path) -> Freshness {
        let begins = self.answers.iter().map(|answer| answer.time.start).max().unwrap_or_default();
        let ends = self.answers.iter().map(|answer| answer.time.end).min().unwrap_or_default();
        Freshness { kind: Kind::OcspResponse, file: file.display().to_string().into(), begins, ends }
    }
}

/// The answers in `responseBytes`; none in the place of one without an end.
fn answers(mut input: &[u8]) -> Option<Vec<Option<Answer>>> {
    let mut bytes = sequence(&mut explicit(&mut input, 0)?)?;
    if universal(&mut bytes, Tag::Oid)? != BASIC {
        return None;
    }
    let mut basic = sequence(&mut universal(&mut bytes, Tag::OctetString)?)?;
    let mut data = sequence(&mut basic)?;
    // A version, and the responder by name or by key.
    let _ = explicit(&mut data, 0);
    explicit(&mut data, 1).or_else(|| explicit(&mut data, 2))?;
    universal(&mut data, Tag::GeneralizedTime)?;
    let mut responses = sequence(&mut data)?;
    let mut answers = Vec::new();
    while !responses.is_empty() {
        answers.push(answer(sequence(&mut responses)?)?);
    }
    Some(answers)
}

fn answer(mut single: &[u8]) -> Option<Option<Answer>> {
    let mut id = sequence(&mut single)?;
    sequence(&mut id)?;
    let issuer_name_hash = universal(&mut id, Tag::OctetString)?.into();
    universal(&mut id, Tag::OctetString)?;
    let serial = universal(&mut id, Tag::Integer)?.into();
    let (rest, status) = Any::from_der(single).ok()?;
    let status = match (status.class(), status.tag().0) {
        (Class::ContextSpecific, 0) => Status::Good,
        (Class::ContextSpecific, 1) => Status::Revoked,
        (Class::ContextSpecific, 2) => Status::Unknown,
        _ => return None,
    };
    let (mut rest, begins) = ASN1Time::from_der(rest).ok()?;
    let Some(ends) = explicit(&mut rest, 0) else { return Some(None) };
    let (_, ends) = ASN1Time::from_der(ends).ok()?;
    Some(Some(Answer { issuer_name_hash, serial, status, time: begins.timestamp()..ends.timestamp() }))
}

fn sequence<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    universal(input, Tag::Sequence)
}

fn universal<'a>(input: &mut &'a [u8], tag: Tag) -> Option<&'a [u8]> {
    element(input, Class::Universal, tag)
}

fn explicit<'a>(input: &mut &'a [u8], number: u32) -> Option<&'a [u8]> {
    element(input, Class::ContextSpecific, Tag(number))
}

/// The content of the next element, where it is of this kind; what follows it stays.
fn element<'a>(input: &mut &'a [u8], class: Class, tag: Tag) -> Option<&'a [u8]> {
    let (rest, any) = Any::from_der(input).ok()?;
    if any.class() != class || any.tag() != tag {
        return None;
    }
    *input = rest;
    Some(any.data)
}

#[cfg(test)]
mod tests {
    use super::super::tests::pair_for;
    use super::super::{Certificates, Pairs};
    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = match content.len() {
            length @ 0..128 => vec![length as u8],
            length => vec![0x82, (length >> 8) as u8, length as u8],
        };
        [&[tag], &length[..], &content].concat()
    }

    /// What is said of a certificate, from and to these times.
    fn single(own: &CertificateDer<'_>, hash: &[u8], status: &[u8], (from, to): (&str, Option<&str>)) -> Vec<u8> {
        let (_, own) = parse_x509_certificate(own).unwrap();
        let algorithm = element(0x30, &[&element(0x06, &[&[0x2b, 0x0e, 0x03, 0x02, 0x1a]])]);
        let key_hash = element(0x04, &[&[7; 20]]);
        let id = [algorithm, element(0x04, &[hash]), key_hash, element(0x02, &[own.raw_serial()])];
        let time = |text: &str| element(0x18, &[text.as_bytes()]);
        let to = to.map(|to| element(0xa0, &[&time(to)])).unwrap_or_default();
        element(0x30, &[&element(0x30, &id.each_ref().map(Vec::as_slice)), status, &time(from), &to])
    }

    fn response(singles: &[Vec<u8>]) -> Vec<u8> {
        let singles = element(0x30, &singles.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let by_key = element(0xa2, &[&element(0x04, &[&[7; 20]])]);
        let data = element(0x30, &[&by_key, &element(0x18, &[b"20260101000000Z"]), &singles]);
        let basic = element(0x30, &[&data, &element(0x30, &[&element(0x06, &[&[0x2a]])]), &element(0x03, &[&[0, 1]])]);
        let bytes = element(0x30, &[&element(0x06, &[BASIC]), &element(0x04, &[&basic])]);
        element(0x30, &[&element(0x0a, &[&[0]]), &element(0xa0, &[&bytes])])
    }

    const GOOD: &[u8] = &[0x80, 0];
    const YEAR: (&str, Option<&str>) = ("20260101000000Z", Some("20270101000000Z"));
    /// The same in seconds since 1970.
    const SECONDS: Range<i64> = 1_767_225_600..1_798_761_600;

    fn issuer_hash(own: &CertificateDer<'_>) -> [u8; 20] {
        crypto::sha1_name(parse_x509_certificate(own).unwrap().1.issuer().as_raw())
    }

    #[test]
    fn a_response_is_about_the_certificate_it_names() {
        let (own, other) = (pair_for("a.test").cert[0].clone(), pair_for("b.test").cert[0].clone());
        let (hash, revoked) = (issuer_hash(&own), element(0xa1, &[&element(0x18, &[b"20260101000000Z"])]));
        let sha256 = crypto::sha256(parse_x509_certificate(&own).unwrap().1.issuer().as_raw());
        let of = |hash: &[u8], status: &[u8]| response(&[single(&own, hash, status, YEAR)]);
        for (name, der, expected, bad_news) in [
            ("good", of(&hash, GOOD), Some(SECONDS), false),
            ("by SHA-256", of(&sha256, GOOD), Some(SECONDS), false),
            ("another issuer's", of(&[9; 20], GOOD), None, false),
            ("revoked", of(&hash, &revoked), None, true),
            ("unknown", of(&hash, &[0x82, 0]), None, true),
            (
                "the second of two",
                response(&[single(&other, &issuer_hash(&other), GOOD, YEAR), single(&own, &hash, GOOD, YEAR)]),
                Some(SECONDS),
                false,
            ),
        ] {
            let staple = Staple::read(&der).unwrap();
            assert_eq!((staple.about(&own), staple.has_bad_news()), (expected, bad_news), "{name}");
            assert_eq!(staple.der(), der);
        }
        let staple = Staple::read(&of(&hash, GOOD)).unwrap();
        assert_eq!(staple.about(&other), None);
        let freshness = staple.freshness(Path::new("x.ocsp"));
        assert_eq!((freshness.begins..freshness.ends, &*freshness.file), (SECONDS, "x.ocsp"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let own = pair_for("a.test").cert[0].clone();
        let good = response(&[single(&own, &issuer_hash(&own), GOOD, YEAR)]);
        let endless = response(&[single(&own, &issuer_hash(&own), GOOD, (YEAR.0, None))]);
        let trailing = [&good[..], &[0]].concat();
        for (der, expected) in [
            (&b""[..], "no OCSP response in DER form"),
            (b"x", "no OCSP response in DER form"),
            (&own, "no OCSP response in DER form"),
            (&good[..good.len() - 1], "no OCSP response in DER form"),
            (&trailing, "no OCSP response in DER form"),
            (&response(&[]), "no OCSP response in DER form"),
            (&endless, "an OCSP response without `nextUpdate`"),
            (&element(0x30, &[&element(0x0a, &[&[6]])]), "an OCSP response without an answer (its status is 6)"),
        ] {
            assert_eq!(Staple::read(der).unwrap_err().to_string(), expected);
        }
        // Cut anywhere, it is none, and nothing panics.
        for length in 0..good.len() {
            assert!(Staple::read(&good[..length]).is_err());
        }
    }

    #[test]
    fn a_response_is_stapled_in_its_time() {
        let (named, own) = (pair_for("a.test"), pair_for("b.test"));
        let of = |pair: &rustls::sign::CertifiedKey, time| {
            let der = response(&[single(&pair.cert[0], &issuer_hash(&pair.cert[0]), GOOD, time)]);
            Staple::read(&der).unwrap()
        };
        let longer = of(&named, ("20260101000000Z", Some("20280101000000Z")));
        let staples = [of(&named, YEAR), longer.clone(), of(&pair_for("c.test"), YEAR)];
        let names = [("a.test".into(), Pairs::new(named, None))];
        let mut certificates = Certificates::new(names, vec![Some(own)]);
        assert_eq!(certificates.staple(&staples), [2], "about nothing that is shown");
        let stapled = |sni, at| {
            let pair = certificates.resolve(Some(sni), 0).unwrap().choose(&[], at).clone();
            pair.ocsp.clone()
        };
        let in_longer = Some(longer.der().to_vec());
        for (at, expected) in [
            (SECONDS.start - 1, None),
            (SECONDS.start, in_longer.clone()),
            (SECONDS.end, in_longer),
            (SECONDS.end + 365 * 86_400, None),
        ] {
            assert_eq!(stapled("a.test", at), expected, "{at}");
            assert_eq!(stapled("b.test", at), None);
        }
    }
}
