//! The examples of RFC 7515 (appendix A), RFC 7520 (4) and RFC 8037 (A).

use super::*;

/// RFC 7515, A.1.
const HS256: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const HS256_HEADER: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
const HS256_K: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
/// RFC 7515, A.2.
const RS256_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
/// RFC 7515, A.3.
const ES256: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
/// RFC 7515, A.4.
const ES512: &str = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";

/// RFC 7520, figure 7: the payload of section 4, which is no claim set.
const FRODO: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
/// RFC 7520, 3.3 and 3.4: the RSA key's modulus.
const BILBO_N: &str = "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw";
/// RFC 7520, 4.1.
const BILBO_RS256_HEADER: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
const BILBO_RS256: &str = "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";
/// RFC 7520, 4.2.
const BILBO_PS384_HEADER: &str = "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
const BILBO_PS384: &str = "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw";
/// RFC 7520, 4.3.
const BILBO_ES512_HEADER: &str = "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9";
const BILBO_ES512: &str = "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2";
/// RFC 7520, 4.4 and 4.5.
const SHARED_HEADER: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
const SHARED: &str = "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0";
const SHARED_K: &str = "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg";

fn rs256_key() -> Value {
    json!({"kty": "RSA", "n": RS256_N, "e": "AQAB"})
}

fn es256_key() -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
}

fn bilbo_key() -> Value {
    json!({"kty": "RSA", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "n": BILBO_N, "e": "AQAB"})
}

#[tokio::test]
async fn the_examples_of_rfc_7515_verify_and_their_neighbours_do_not() {
    // T13, T16
    let bench = bench(&[rs256_key(), es256_key()], &[&decode(HS256_K)]).await;
    for good in [
        format!("{HS256_HEADER}.{JOE}.{HS256}"),
        format!("eyJhbGciOiJSUzI1NiJ9.{JOE}.{RS256}"),
        format!("eyJhbGciOiJFUzI1NiJ9.{JOE}.{ES256}"),
    ] {
        assert_eq!(verdict(&bench, &good).await, Ok(()), "{good}");
        for bad in neighbours(&good) {
            assert!(verdict(&bench, &bad).await.is_err(), "{bad}");
        }
        // At its `exp` it is over.
        let then = Now { unix_ms: BEFORE.unix_ms + 1000 };
        assert_eq!(bench.judge_at(&good, then).await, Err(Reason::TokenExpired));
    }
    // One example's signature is none under another's header.
    for (header, signature) in [
        (HS256_HEADER, RS256),
        ("eyJhbGciOiJSUzI1NiJ9", ES256),
        ("eyJhbGciOiJSUzI1NiJ9", HS256),
        ("eyJhbGciOiJFUzI1NiJ9", RS256),
        ("eyJhbGciOiJFUzI1NiJ9", HS256),
    ] {
        let mixed = format!("{header}.{JOE}.{signature}");
        assert_eq!(verdict(&bench, &mixed).await, Err(Reason::SignatureInvalid), "{mixed}");
    }
}

#[tokio::test]
async fn es512_unsecured_and_json_serialized_examples_are_refused() {
    // T1, T8, T14, T24
    let bench = bench(&[rs256_key(), es256_key()], &[&decode(HS256_K)]).await;
    // A.4: P-521 is a curve that the edge does not take, as key or as algorithm.
    let p521 = json!({"kty": "EC", "crv": "P-521",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"});
    assert!(matches!(key(&p521), Err(jwks::Error::Empty)));
    assert_eq!(verdict(&bench, ES512).await, Err(Reason::AlgNotAllowed));
    // A.5, with the empty signature that it has and with ones that it has not.
    let unsecured = format!("eyJhbGciOiJub25lIn0.{JOE}.");
    assert_eq!(verdict(&bench, &unsecured).await, Err(Reason::TokenMalformed));
    for signature in ["AA", HS256, RS256, ES256] {
        assert_eq!(verdict(&bench, &format!("{unsecured}{signature}")).await, Err(Reason::AlgNotAllowed));
    }
    // A.6 and A.7: both of its signatures are good, and its form is not.
    let kid = |kid: &str| json!({"kid": kid});
    let general = json!({"payload": JOE, "signatures": [
        {"protected": "eyJhbGciOiJSUzI1NiJ9", "header": kid("2010-12-29"), "signature": RS256},
        {"protected": "eyJhbGciOiJFUzI1NiJ9", "header": kid("e9bc097a-ce51-4036-9562-d2ade882db0d"), "signature": ES256},
    ]});
    let flattened = json!({"payload": JOE, "protected": "eyJhbGciOiJFUzI1NiJ9",
        "header": kid("e9bc097a-ce51-4036-9562-d2ade882db0d"), "signature": ES256});
    for serialized in [general, flattened] {
        assert_refused(&bench, &serialized.to_string()).await;
    }
}

/// Refused as a JWS, and not accepted as anything else.
async fn assert_refused(bench: &Bench, text: &str) {
    assert_eq!(Jws::parse(text.as_bytes()).err(), Some(Reason::TokenMalformed), "{text}");
    assert!(verdict(bench, text).await.is_err(), "{text}");
}

#[tokio::test]
async fn the_examples_of_rfc_7520_verify_or_are_refused_by_name() {
    // T8, T13, T14, T24
    let bench = bench(&[bilbo_key()], &[&decode(SHARED_K)]).await;
    for (header, signature) in [(BILBO_RS256_HEADER, BILBO_RS256), (BILBO_PS384_HEADER, BILBO_PS384)] {
        let good = format!("{header}.{FRODO}.{signature}");
        assert!(proven(&bilbo_key(), &good), "{good}");
        for bad in neighbours(&good).into_iter().filter(|bad| bad.starts_with(header)) {
            assert!(!proven(&bilbo_key(), &bad), "{bad}");
        }
        // Signed by a key in force, and still no token: the payload is a sentence.
        assert_eq!(verdict(&bench, &good).await, Err(Reason::TokenMalformed));
    }
    let es512 = format!("{BILBO_ES512_HEADER}.{FRODO}.{BILBO_ES512}");
    assert_eq!(verdict(&bench, &es512).await, Err(Reason::AlgNotAllowed));
    // 4.4: the tag is right, which only the secret itself can say.
    let verifier = crate::crypto::verify::VerifyingKey::new(
        Algorithm::HS256,
        &jsonwebtoken::DecodingKey::from_secret(&decode(SHARED_K)),
    );
    let verifier = verifier.expect("a secret");
    let signed = format!("{SHARED_HEADER}.{FRODO}");
    assert!(verifier.verify(signed.as_bytes(), &decode(SHARED)).is_ok());
    assert!(verifier.verify(&signed.as_bytes()[1..], &decode(SHARED)).is_err());
    // 4.5: detached content, compact and in JSON.
    assert_refused(&bench, &format!("{SHARED_HEADER}..{SHARED}")).await;
    assert_refused(&bench, &json!({"protected": SHARED_HEADER, "signature": SHARED}).to_string()).await;
    // 4.4, 4.6 to 4.8: JSON, with everything protected, something, nothing, and by several.
    let kid = json!({"kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037"});
    for serialized in [
        json!({"payload": FRODO, "protected": SHARED_HEADER, "signature": SHARED}),
        json!({"payload": FRODO, "protected": "eyJhbGciOiJIUzI1NiJ9", "header": kid,
            "signature": "bWUSVaxorn7bEF1djytBd0kHv70Ly5pvbomzMWSOr20"}),
        json!({"payload": FRODO, "header": {"alg": "HS256", "kid": kid["kid"]},
            "signature": "xuLifqLGiblpv9zBpuZczWhNj1gARaLV3UxvxhJxZuk"}),
        json!({"payload": FRODO, "signatures": [
            {"protected": BILBO_RS256_HEADER, "signature": BILBO_RS256},
            {"protected": SHARED_HEADER, "signature": SHARED}]}),
    ] {
        assert_refused(&bench, &serialized.to_string()).await;
    }
    // The shared key in a fetched set would be everyone's (T5).
    assert!(key(&json!({"kty": "oct", "kid": kid["kid"], "use": "sig", "alg": "HS256", "k": SHARED_K})).is_err());
}

#[test]
fn the_example_of_rfc_8037_verifies_and_its_neighbours_do_not() {
    // T12, T13
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let good = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
        hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(proven(&jwk, good));
    for bad in neighbours(good).into_iter().filter(|bad| bad.starts_with("eyJhbGciOiJFZERTQSJ9.")) {
        assert!(!proven(&jwk, &bad), "{bad}");
    }
    // A.3
    let thumbprint = crate::crypto::sign::thumbprint(&jwk).expect("a thumbprint");
    assert_eq!(encode(thumbprint), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}
