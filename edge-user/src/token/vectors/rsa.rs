//! RSA: signatures that no library makes, made by the raw private operation on a block of our own.
//!
//! The classes: padding, DigestInfo and its encodings (RFC 8017, 8.2 and 9.2), the integer's range and length, forgery
//! under a small exponent; for PSS salt, mask, trailer and hash (RFC 8017, 8.1 and 9.1).

use super::*;
use crate::crypto::backend::digest::{self, digest};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};

/// A key made for these tests alone, 2048 bit, with `e` 3: the exponent under which lax padding checks are forged.
const N: &str = "t6VxMUAe5wtdVXKAQY4mvr7NbipNZ_v-tCgR0x8c4HhwBOUP3m37kJ5PIkpMLy-dg9Ck9MeGl16qi2eb1j_P5YSFTqEmypQOioSgDxNCoDILOGnK_0T4fB7qdCsBcZd4fe8mO6uW9MMyFLvEs5meSgA0P-RFLyBxMTvsDf-LRlYY7OdUpG4b6ucMikkKcqncyQGCSERlsEY0QfjzSF7tM8r28SUqRIDyQOtcM0Au1cilZA-J7MPI5xBunOs5EqTblkiglfYKYdvJJ-llIRrVUWxgbwy7L019lvPPYYFPGmUteeTcwaYLHnE5izKDJLMjhd0Kb_Odpaual4tjMS6Qcw";
const D: &str = "em5Ldiq_RLI-OPcAK7QZ1H8znsbeRVKpzXAL4hS96vr1WJi1PvP9CxQ0wYbddMppAosYoy-vD5RxskUSjtU1Q62uNGtvMbgJsa3ACgzXFXayJZvcqi36_WnxosdWS7pQU_TEJ8e5-IIhYyfYd7u-3AAi1ULYyhWgy31ICVUHhDhDBbbzNGtpj0VtfG0sixI_MtMtwU34EwpiGABoPzzApyMwnkr2MuJJHkBRdaps5YLOLo2ndn2I4obMbej12MzNn2ISMdDcOlNlftYuBzX_7FWil5QADDXtgYRMBs4xRfzo3_Bdw35KkJSC1Zlr-uUnCjqQlLCku3A2UEvUFo8KCw";
/// Bytes of its modulus.
const BYTES: usize = 256;

fn jwk() -> Value {
    json!({"kty": "RSA", "n": N, "e": "Aw"})
}

fn power(base: &[u8], exponent: &[u8]) -> Vec<u8> {
    let modulus = BoxedUint::from_be_slice_vartime(&decode(N));
    let params = BoxedMontyParams::new_vartime(Odd::new(modulus).expect("an odd modulus"));
    let base = BoxedUint::from_be_slice(base, BYTES as u32 * 8).expect("a block of the modulus's length");
    BoxedMontyForm::new(base, &params)
        .pow(&BoxedUint::from_be_slice_vartime(exponent))
        .retrieve()
        .to_be_bytes()
        .into_vec()
}

/// The signature whose block this is.
fn sign(block: &[u8]) -> Vec<u8> {
    let signature = power(block, &decode(D));
    assert_eq!(power(&signature, &[3]), block, "the block is a number below the modulus");
    signature
}

/// Adds two numbers of `BYTES` bytes; nothing if the sum is longer.
fn add(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let (mut sum, mut carry) = (vec![0; a.len()], 0);
    for at in (0..a.len()).rev() {
        let digit = u16::from(a[at]) + u16::from(b[at]) + carry;
        (sum[at], carry) = (digit as u8, digit >> 8);
    }
    (carry == 0).then_some(sum)
}

const SHA1_OID: &[u8] = b"\x2b\x0e\x03\x02\x1a";
const SHA256_OID: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const SHA384_OID: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x02";
const SHA512_OID: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x03";
const NULL: &[u8] = &[5, 0];

fn sha256(message: &[u8]) -> Vec<u8> {
    digest(&digest::SHA256, message).as_ref().to_vec()
}

fn digest_info(oid: &[u8], parameters: &[u8], hash: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &[&der(6, oid)[..], parameters].concat());
    der(0x30, &[algorithm, der(4, hash)].concat())
}

/// A block of type 1: `00 01 FF… 00` and what follows, of the modulus's length.
fn block(content: &[u8]) -> Vec<u8> {
    [&[0, 1], &vec![0xff; BYTES - 3 - content.len()][..], &[0], content].concat()
}

/// A block with one byte set.
fn set(mut block: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    block[at] = byte;
    block
}

#[tokio::test]
async fn pkcs1_blocks_are_compared_whole() {
    // T13: RFC 8017, 8.2.2. None is decoded, so none of its encodings but the one of RFC 8017 counts.
    let header = "{\"alg\":\"RS256\"}";
    let signed = signing_input(header);
    let hash = sha256(signed.as_bytes());
    let info = digest_info(SHA256_OID, NULL, &hash);
    let good = block(&info);
    let long = |length: &[u8]| [&[0x30][..], length, &info[2..]].concat();
    let inner = |algorithm: &[u8]| der(0x30, &[algorithm, &der(4, &hash)[..]].concat());
    let oid = der(6, SHA256_OID);
    let start = BYTES - info.len() - 1;
    let shortened = |garbage: usize| {
        let content = [&info[..], &vec![0xa5; garbage]].concat();
        block(&content)
    };
    let bench = bench(&[jwk()], &[]).await;
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("block type 0", set(good.clone(), 1, 0)),
        ("block type 2", set(good.clone(), 1, 2)),
        ("first octet 1", set(good.clone(), 0, 1)),
        ("first padding octet", set(good.clone(), 2, 0xfe)),
        ("a padding octet", set(good.clone(), 90, 0x7f)),
        ("last padding octet", set(good.clone(), start - 1, 0xfe)),
        ("zero inside the padding", set(good.clone(), 40, 0)),
        ("separator 1", set(good.clone(), start, 1)),
        ("no separator", set(good.clone(), start, 0xff)),
        ("eight octets of padding, the rest behind the digest", shortened(BYTES - 11 - info.len())),
        ("one octet behind the digest", shortened(1)),
        ("garbage before the DigestInfo", block(&[&[0xa5; 16], &info[..]].concat())),
        ("no padding at all", [&[0, 1, 0], &info[..], &vec![0xff; BYTES - 3 - info.len()]].concat()),
        ("no NULL", block(&digest_info(SHA256_OID, &[], &hash))),
        ("NULL with content", block(&digest_info(SHA256_OID, &[5, 1, 0], &hash))),
        ("NULL twice", block(&digest_info(SHA256_OID, &[5, 0, 5, 0], &hash))),
        ("NULL with a long length", block(&digest_info(SHA256_OID, &[5, 0x81, 0], &hash))),
        ("parameters of another type", block(&digest_info(SHA256_OID, &[4, 0], &hash))),
        ("garbage as parameters", block(&digest_info(SHA256_OID, &der(4, &[0xa5; 100]), &hash))),
        ("BER length of the sequence", block(&long(&[0x81, 0x31]))),
        ("BER length with a leading zero", block(&long(&[0x82, 0, 0x31]))),
        ("indefinite length", block(&[&[0x30, 0x80], &info[2..], &[0, 0]].concat())),
        ("sequence one too long", block(&long(&[0x32]))),
        ("sequence one too short", block(&long(&[0x30]))),
        ("sequence tag of a set", block(&set(info.clone(), 0, 0x31))),
        ("BER length of the digest", {
            let digest = [&[4, 0x81, 0x20], &hash[..]].concat();
            block(&der(0x30, &[der(0x30, &[&oid[..], NULL].concat()), digest].concat()))
        }),
        ("octets inside the sequence behind the digest", {
            let body = [der(0x30, &[&oid[..], NULL].concat()), der(4, &hash), vec![5, 0]].concat();
            block(&der(0x30, &body))
        }),
        ("no algorithm", block(&inner(&[]))),
        ("an empty algorithm", block(&inner(&[0x30, 0]))),
        ("SHA-1's name", block(&digest_info(SHA1_OID, NULL, &hash))),
        ("SHA-384's name", block(&digest_info(SHA384_OID, NULL, &hash))),
        ("the name's arc spelled with a leading 0x80", {
            block(&digest_info(&[&[0x80], SHA256_OID].concat(), NULL, &hash))
        }),
        ("SHA-512 whole", {
            block(&digest_info(SHA512_OID, NULL, digest(&digest::SHA512, signed.as_bytes()).as_ref()))
        }),
        ("SHA-1 whole", {
            block(&digest_info(SHA1_OID, NULL, digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes()).as_ref()))
        }),
        ("the digest alone", block(&hash)),
        ("the digest in an octet string", block(&der(4, &hash))),
        ("the digest cut short", block(&digest_info(SHA256_OID, NULL, &hash[..31]))),
        ("the digest of nothing", block(&digest_info(SHA256_OID, NULL, &sha256(b"")))),
        ("an empty digest", block(&digest_info(SHA256_OID, NULL, &[]))),
        ("the message in the digest's place", block(&digest_info(SHA256_OID, NULL, &signed.as_bytes()[..32]))),
    ];
    for (name, wrong) in rows {
        assert_eq!(wrong.len(), BYTES, "{name}");
        assert_eq!(verdict(&bench, &token(header, |_| sign(&wrong))).await, Err(Reason::SignatureInvalid), "{name}");
    }
    assert_eq!(verdict(&bench, &token(header, |_| sign(&good))).await, Ok(()));
}

#[tokio::test]
async fn an_rsa_signature_is_one_number_in_one_length() {
    // T13
    let bench = bench(&[jwk()], &[]).await;
    let n = decode(N);
    let signed = |nonce: u32| {
        let header = format!("{{\"alg\":\"RS256\",\"n\":{nonce}}}");
        let good = sign(&block(&digest_info(SHA256_OID, NULL, &sha256(signing_input(&header).as_bytes()))));
        (header, good)
    };
    // The first header whose signature leaves room for `s + n` in the same length.
    let (header, good) = signed(0);
    let sum = add(&good, &n).expect("room");
    let mut one_less = n.clone();
    one_less[BYTES - 1] -= 1;
    let (zeros, ones) = (vec![0; BYTES], vec![0xff; BYTES]);
    for (name, wrong) in [
        ("s + n", sum),
        ("a leading zero", [&[0], &good[..]].concat()),
        ("a trailing zero", [&good[..], &[0]].concat()),
        ("cut short", good[..BYTES - 1].to_vec()),
        ("twice", [&good[..], &good].concat()),
        ("0", zeros.clone()),
        ("1", set(zeros.clone(), BYTES - 1, 1)),
        ("n - 1", one_less),
        ("n", n.clone()),
        ("all ones", ones),
        ("one octet", vec![1]),
        ("in DER", der(2, &[&[0], &good[..]].concat())),
    ] {
        assert_eq!(verdict(&bench, &token(&header, |_| wrong)).await, Err(Reason::SignatureInvalid), "{name}");
    }
    assert_eq!(verdict(&bench, &token(&header, |_| good)).await, Ok(()));
    // The first whose signature begins with a zero.
    let (header, good) = signed(387);
    assert_eq!(good[0], 0);
    let stripped = token(&header, |_| good[1..].to_vec());
    assert_eq!(verdict(&bench, &stripped).await, Err(Reason::SignatureInvalid));
    assert_eq!(verdict(&bench, &token(&header, |_| good)).await, Ok(()));
}

/// The smallest number whose cube is not below this block, and that cube: both of `BYTES` bytes.
fn cube_root(target: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let cube = |root: &[u8]| {
        let root = BoxedUint::from_be_slice(root, BYTES as u32 * 8).expect("a root");
        root.wrapping_mul(&root).wrapping_mul(&root).to_be_bytes().to_vec()
    };
    // 682 bit cubed are 2046.
    let mut root = vec![0; BYTES];
    for bit in (0..682).rev() {
        let place = BYTES - 1 - bit / 8;
        root[place] |= 1 << (bit % 8);
        if cube(&root).as_slice() >= target {
            root[place] ^= 1 << (bit % 8);
        }
    }
    let root = add(&root, &set(vec![0; BYTES], BYTES - 1, 1)).expect("room");
    let cubed = cube(&root);
    (root, cubed)
}

#[tokio::test]
async fn a_cube_root_is_no_signature() {
    // T13: Bleichenbacher's forgery of 2006. Without the private key, the root of a block that begins as a good one
    // does, the rest of which lax checks do not look at.
    let bench = bench(&[jwk()], &[]).await;
    let header = "{\"alg\":\"RS256\"}";
    let info = digest_info(SHA256_OID, NULL, &sha256(signing_input(header).as_bytes()));
    let start = [&[0, 1], &[0xff; 8][..], &[0], &info].concat();
    let (root, cubed) = cube_root(&[&start[..], &vec![0; BYTES - start.len()]].concat());
    assert_eq!(cubed[..start.len()], start, "the forgery has its shape");
    assert_eq!(verdict(&bench, &token(header, |_| root)).await, Err(Reason::SignatureInvalid));
    // The same with the garbage where NULL should stand.
    let algorithm = der(6, SHA256_OID);
    let hidden =
        [&[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x30, 0x81, 0xdc, 0x30][..], &algorithm].concat();
    let (root, cubed) = cube_root(&[&hidden[..], &vec![0; BYTES - hidden.len()]].concat());
    assert_eq!(cubed[..hidden.len()], hidden);
    assert_eq!(verdict(&bench, &token(header, |_| root)).await, Err(Reason::SignatureInvalid));
    assert_eq!(verdict(&bench, &token(header, |_| sign(&block(&info)))).await, Ok(()));
}

/// How a PSS block is made; what differs from `GOOD` is wrong.
#[derive(Clone, Copy)]
struct Pss {
    hash: &'static digest::Algorithm,
    mask: &'static digest::Algorithm,
    salt: usize,
    padding: u8,
    separator: u8,
    trailer: u8,
}

impl Pss {
    /// As RFC 7518, 3.5 has it: one hash for all, and a salt of its length.
    fn good(hash: &'static digest::Algorithm) -> Self {
        Self { hash, mask: hash, salt: hash.output_len(), padding: 0, separator: 1, trailer: 0xbc }
    }

    /// EMSA-PSS-ENCODE (RFC 8017, 9.1.1) with a salt of this octet.
    fn block(self, message: &[u8], octet: u8) -> Vec<u8> {
        let salt = vec![octet; self.salt];
        let hashed = digest(self.hash, message);
        let hash = digest(self.hash, &[&[0; 8], hashed.as_ref(), &salt].concat());
        let hash = hash.as_ref();
        let mut data = vec![self.padding; BYTES - hash.len() - self.salt - 2];
        data.push(self.separator);
        data.extend_from_slice(&salt);
        let mut mask = Vec::new();
        for counter in 0u32.. {
            if mask.len() >= data.len() {
                break;
            }
            mask.extend_from_slice(digest(self.mask, &[hash, &counter.to_be_bytes()].concat()).as_ref());
        }
        data.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        // The modulus has 2048 bit, so the block has 2047.
        data[0] &= 0x7f;
        [&data, hash, &[self.trailer]].concat()
    }
}

#[tokio::test]
async fn pss_blocks_have_one_hash_and_a_salt_of_its_length() {
    // T6, T13: RFC 7518, 3.5; RFC 8017, 9.1.2.
    let bench = bench(&[jwk()], &[]).await;
    for (alg, hash, other) in [
        ("PS256", &digest::SHA256, &digest::SHA384),
        ("PS384", &digest::SHA384, &digest::SHA512),
        ("PS512", &digest::SHA512, &digest::SHA256),
    ] {
        let header = format!("{{\"alg\":\"{alg}\"}}");
        let (good, length) = (Pss::good(hash), hash.output_len());
        let signature = |pss: Pss| token(&header, |signed| sign(&pss.block(signed, 0x5a)));
        assert_eq!(verdict(&bench, &signature(good)).await, Ok(()), "{alg}");
        for salt in [0, 1, 20, length - 1, length + 1, 2 * length - 1, BYTES - length - 2] {
            let wrong = signature(Pss { salt, ..good });
            assert_eq!(verdict(&bench, &wrong).await, Err(Reason::SignatureInvalid), "{alg}: a salt of {salt}");
        }
        for (name, wrong) in [
            ("another mask", Pss { mask: other, ..good }),
            ("SHA-1's mask", Pss { mask: &digest::SHA1_FOR_LEGACY_USE_ONLY, ..good }),
            ("another hash", Pss { hash: other, ..good }),
            ("another hash and mask", Pss { salt: length, ..Pss::good(other) }),
            ("another algorithm's block", Pss::good(other)),
            ("trailer cc", Pss { trailer: 0xcc, ..good }),
            ("trailer 00", Pss { trailer: 0, ..good }),
            ("padding", Pss { padding: 1, ..good }),
            ("separator", Pss { separator: 2, ..good }),
            ("no separator", Pss { separator: 0, ..good }),
        ] {
            assert_eq!(verdict(&bench, &signature(wrong)).await, Err(Reason::SignatureInvalid), "{alg}: {name}");
        }
        // The unused top bit, on a block that stays below the modulus with it.
        let signed = signing_input(&header);
        let low = (0..=255).map(|octet| good.block(signed.as_bytes(), octet)).find(|block| block[0] < 0x30);
        let low = low.expect("three in eight are low");
        assert_eq!(verdict(&bench, &token(&header, |_| sign(&low))).await, Ok(()));
        let high = set(low.clone(), 0, low[0] | 0x80);
        assert_eq!(verdict(&bench, &token(&header, |_| sign(&high))).await, Err(Reason::SignatureInvalid), "{alg}");
        // A PKCS#1 block of the same hash under PSS's name.
        let pkcs1 = block(&digest_info(SHA256_OID, NULL, &sha256(signed.as_bytes())));
        assert_eq!(verdict(&bench, &token(&header, |_| sign(&pkcs1))).await, Err(Reason::SignatureInvalid));
    }
}
