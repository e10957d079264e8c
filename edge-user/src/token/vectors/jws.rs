//! JWS: header members, base64 variants and part counts, each as a signed token that a careless reader would accept.

use super::*;

fn payload() -> String {
    String::from_utf8(decode(JOE)).expect("UTF-8")
}

#[tokio::test]
async fn none_and_its_spellings_are_no_algorithm() {
    // T1, T3
    let key = TestKey::new(Algorithm::ES256, "k");
    let bench = bench(&[key.jwk()], &[b"secret"]).await;
    let good = key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k\"}", &payload());
    assert_eq!(verdict(&bench, &good).await, Ok(()));
    let signature = good.rsplit('.').next().expect("a signature");
    for alg in [
        "\"none\"",
        "\"None\"",
        "\"NONE\"",
        "\"nOnE\"",
        "\"none \"",
        "\" none\"",
        "\"none\\u0000\"",
        "\"n\\u006fne\"",
        "\"n\\u043ene\"",
        "\"\"",
        "null",
        "false",
        "0",
        "[]",
        "{}",
        "[\"none\"]",
        "[\"ES256\"]",
        "\"es256\"",
        "\"ES256\\n\"",
        "\"ES256,none\"",
        "\"ES256 none\"",
        "\"ECDSA256\"",
        "\"SHA256withECDSA\"",
        "\"Ed25519\"",
        "\"RSA-OAEP\"",
        "\"dir\"",
    ] {
        for member in
            [format!("\"alg\":{alg},\"kid\":\"k\""), format!("\"alg\":{alg}"), format!("\"kid\":\"k\",\"alg\":{alg}")]
        {
            let signed = format!("{{{member}}}");
            assert_eq!(verdict(&bench, &key.mint_raw(&signed, &payload())).await, Err(Reason::AlgNotAllowed), "{alg}");
            for end in ["", ".", ".AA", &format!(".{signature}")] {
                let unsigned = format!("{}{end}", signing_input(&signed));
                assert!(verdict(&bench, &unsigned).await.is_err(), "{alg} {end}");
            }
        }
    }
    // `alg` in another case, or lacking, is no `alg`.
    for header in ["{\"kid\":\"k\"}", "{\"ALG\":\"ES256\",\"kid\":\"k\"}", "{\"Alg\":\"ES256\",\"kid\":\"k\"}", "{}"] {
        assert_eq!(verdict(&bench, &key.mint_raw(header, &payload())).await, Err(Reason::AlgNotAllowed), "{header}");
    }
    // An escape in a name is the name.
    let escaped = "{\"\\u0061lg\":\"ES\\u003256\",\"kid\":\"k\"}";
    assert_eq!(verdict(&bench, &key.mint_raw(escaped, &payload())).await, Ok(()));
}

#[tokio::test]
async fn header_members_are_typed_unique_and_understood() {
    // T18, T19, T20, T22, T23, T24, T26, T27: each of these is signed by the issuer's own key.
    let key = TestKey::new(Algorithm::ES256, "k");
    let bench = bench(&[key.jwk()], &[]).await;
    let judge = async |members: &str| {
        let header = format!("{{\"alg\":\"ES256\",\"kid\":\"k\"{members}}}");
        verdict(&bench, &key.mint_raw(&header, &payload())).await
    };
    for members in [
        ",\"alg\":\"ES256\"",
        ",\"alg\":\"none\"",
        ",\"kid\":\"k\"",
        ",\"\\u006bid\":\"other\"",
        ",\"x\":1,\"x\":1",
        ",\"crit\":[\"exp\"],\"exp\":1",
        ",\"crit\":[\"http://example.com/UNDEFINED\"],\"http://example.com/UNDEFINED\":true",
        ",\"crit\":[\"b64\"],\"b64\":true",
        ",\"crit\":[\"b64\"],\"b64\":false",
        ",\"b64\":false",
        ",\"b64\":\"true\"",
        ",\"crit\":[]",
        ",\"crit\":null",
        ",\"crit\":\"\"",
        ",\"crit\":{}",
        ",\"crit\":[\"kid\"]",
        ",\"crit\":[\"crit\"]",
        ",\"crit\":[\"x\",\"x\"],\"x\":1",
        ",\"crit\":[\"absent\"]",
        ",\"crit\":[null]",
        ",\"\\u0063rit\":[\"exp\"]",
        ",\"cty\":\"JWT\"",
        ",\"cty\":\"at+jwt\"",
        ",\"cty\":\"Application/JWT\"",
        ",\"cty\":1",
        ",\"zip\":\"DEF\"",
        ",\"enc\":\"A256GCM\"",
        ",\"typ\":[\"JWT\"]",
        ",\"typ\":1",
        ",",
        ",\"x\"",
        ",\"x\":01",
        ",\"x\":NaN",
        "}{",
        "} ,",
        "}\u{0}",
    ] {
        assert_eq!(judge(members).await, Err(Reason::TokenMalformed), "{members}");
    }
    for members in [
        "",
        ",\"crit \":[\"exp\"]",
        ",\"CRIT\":[\"exp\"]",
        ",\"x\":1,\"X\":1",
        ",\"b64\":true",
        ",\"cty\":\"json\"",
        ",\"typ\":\"JWT\"",
        ",\"x5t\":\"AA\",\"x5t#S256\":\"AA\",\"x5c\":[],\"x5u\":\"\",\"jku\":\"\",\"jwk\":{}",
        " ",
    ] {
        assert_eq!(judge(members).await, Ok(()), "{members}");
    }
}

#[tokio::test]
async fn keys_and_certificates_in_the_header_are_not_looked_at() {
    // T18: whatever key a token brings, names or points to, its `kid` alone chooses, from the issuer's set alone.
    let (key, evil) = (TestKey::new(Algorithm::ES256, "k"), TestKey::new(Algorithm::ES256, "evil"));
    let bench = bench(&[key.jwk()], &[]).await;
    let as_own = TestKey { kid: "k".into(), algorithm: evil.algorithm, pkcs8: evil.pkcs8.clone() };
    let brought = [
        json!({"jwk": evil.jwk()}),
        json!({"jwk": as_own.jwk()}),
        json!({"jwk": {"kty": "oct", "k": "c2VjcmV0", "kid": "k"}}),
        json!({"jwks": {"keys": [evil.jwk()]}}),
        json!({"keys": [evil.jwk()]}),
        json!({"jku": bench.issuer.page("/evil")}),
        json!({"x5u": bench.issuer.page("/evil")}),
        json!({"x5c": ["MIIB"]}),
        json!({"x5t": "AAAA", "x5t#S256": "AAAA"}),
        json!({"iss": "evil", "jku": "file:///etc/passwd"}),
    ];
    bench.issuer.answer("/evil", 200, &json!({"keys": [evil.jwk()]}).to_string());
    for members in brought {
        for (kid, reason) in [("evil", Reason::KidUnknown), ("k", Reason::SignatureInvalid)] {
            let mut header = json!({"alg": "ES256", "kid": kid});
            header.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
            let forged = evil.mint_raw(&header.to_string(), &payload());
            assert_eq!(verdict(&bench, &forged).await, Err(reason), "{header}");
            if kid == "k" {
                assert_eq!(verdict(&bench, &key.mint_raw(&header.to_string(), &payload())).await, Ok(()), "{header}");
            }
        }
    }
    assert_eq!(bench.issuer.count("/evil"), 0);
}

#[tokio::test]
async fn a_kid_chooses_by_its_bytes() {
    // T19, T21: what a shell, a database, a path or a Unicode fold would make of it does not matter.
    let (key, other) = (TestKey::new(Algorithm::ES256, "k-é"), TestKey::new(Algorithm::ES256, "other"));
    let bench = bench(&[key.jwk(), other.jwk()], &[]).await;
    for kid in [
        "k-e\u{301}",
        "K-É",
        "k-é ",
        " k-é",
        "k-é\u{0}",
        "k-é\n",
        "./k-é",
        "k-é/../k-é",
        "k%2dé",
        "k-%C3%A9",
        "*",
        "k-.",
        "",
        "../../../../../dev/null",
        "/dev/null",
        "|cat /etc/passwd",
        "' or 1=1 --",
        "k-é' --",
        "\" or \"\"=\"",
        "${jndi:ldap://x}",
        "other\u{0}k-é",
        "0",
        "-1",
        "true",
        "null",
        "http://127.0.0.1/",
        "\u{202e}é-k",
        "\u{feff}k-é",
    ] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        assert_eq!(verdict(&bench, &key.mint_raw(&header, &payload())).await, Err(Reason::KidUnknown), "{kid:?}");
    }
    let named = |kid: &str| json!({"alg": "ES256", "kid": kid}).to_string();
    assert_eq!(verdict(&bench, &key.mint_raw(&named("other"), &payload())).await, Err(Reason::SignatureInvalid));
    assert_eq!(verdict(&bench, &key.mint_raw(&named("k-é"), &payload())).await, Ok(()));
    let escaped = "{\"alg\":\"ES256\",\"kid\":\"k\\u002d\\u00e9\"}";
    assert_eq!(verdict(&bench, &key.mint_raw(escaped, &payload())).await, Ok(()));
}

#[tokio::test]
async fn each_part_is_spelled_in_one_way() {
    // T14, T15: every other base64 spelling of a good token's parts, and every other count of them.
    let key = TestKey::new(Algorithm::EdDSA, "k");
    let bench = bench(&[key.jwk()], &[]).await;
    // Lengths of 1 and 2 modulo 3, so that every part could take padding and has bits to spare.
    let good = key.mint_raw("{\"alg\":\"EdDSA\",\"kid\":\"k\"} ", &payload());
    assert_eq!(verdict(&bench, &good).await, Ok(()));
    let parts: Vec<&str> = good.split('.').collect();
    let mut wrong = Vec::new();
    for index in 0..3 {
        let with = |part: String| {
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            parts[index] = part;
            parts.join(".")
        };
        let part = parts[index];
        for spoil in
            ["=", "==", "===", " ", "\n", "\r\n", "\t", "+", "/", "%3D", "%20", "\u{0}", "!", "A", "é", "\\", "\"", ","]
        {
            wrong.push(with(format!("{part}{spoil}")));
            wrong.push(with(format!("{spoil}{part}")));
            wrong.push(with(format!("{}{spoil}{}", &part[..8], &part[8..])));
        }
        wrong.push(with(part.replace('-', "+").replace('_', "/") + "="));
        wrong.push(with(String::new()));
        wrong.push(with(format!("{part}{part}")));
        wrong.push(with(part[1..].to_owned()));
        wrong.push(with(part[..part.len() - 1].to_owned()));
        wrong.push(with(part.chars().rev().collect()));
        // Every other last character that decodes to the same bytes.
        if !part.len().is_multiple_of(4) {
            let unused = if part.len() % 4 == 2 { 16 } else { 4 };
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let last = alphabet.iter().position(|byte| *byte == part.as_bytes()[part.len() - 1]).expect("base64url");
            for extra in 1..unused {
                wrong.push(with(format!("{}{}", &part[..part.len() - 1], char::from(alphabet[last + extra]))));
            }
        }
    }
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    wrong.extend([
        format!("{header}.{body}"),
        format!("{header}.{body}."),
        format!("{header}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}.{header}.{body}.{signature}"),
        format!("{good}.{good}"),
        format!("{header}.{signature}.{body}"),
        format!("{body}.{header}.{signature}"),
        format!("{signature}.{body}.{header}"),
        format!("{header},{body},{signature}"),
        format!("{header}%2E{body}%2E{signature}"),
        format!("{header}\u{3002}{body}\u{3002}{signature}"),
        good.to_uppercase(),
        good.to_lowercase(),
        good.replace('.', ".."),
        format!("Bearer {good}"),
        format!("\"{good}\""),
    ]);
    for wrong in wrong.into_iter().filter(|wrong| *wrong != good) {
        assert!(verdict(&bench, &wrong).await.is_err(), "{wrong:?}");
    }
    assert_eq!(verdict(&bench, &good).await, Ok(()));
}

#[tokio::test]
async fn what_is_no_jws_is_refused_before_any_key_is_looked_up() {
    // T14, T24, D4: the issuer is not even asked for the keys that it has.
    let key = TestKey::new(Algorithm::ES256, "k");
    let bench = bench(&[key.jwk()], &[]).await;
    let good = key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k\"}", &payload());
    let parts: Vec<&str> = good.split('.').collect();
    let jwe = encode(
        "{\"alg\":\"PBES2-HS512+A256KW\",\"enc\":\"A256GCM\",\"p2s\":\"AA\",\"p2c\":2147483647,\"zip\":\"DEF\"}",
    );
    for wrong in [
        String::new(),
        parts[0].to_owned(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!(".{}.{}", parts[1], parts[2]),
        format!("{good}.{}", parts[2]),
        format!("{jwe}.AA.AA.AA.AA"),
        format!("{jwe}.AA.AA"),
        format!("{good}="),
        key.mint_raw("{\"alg\":\"none\",\"kid\":\"k\"}", &payload()),
        key.mint_raw("{\"alg\":\"ES512\",\"kid\":\"k\"}", &payload()),
        key.mint_raw("{\"alg\":\"ES256\",\"kid\":1}", &payload()),
        key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k\"}", "[]"),
        key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k\"}", "{\"iss\":\"joe\",\"exp\":1}"),
        key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k\"}", "{\"iss\":\"jim\",\"exp\":1300819380}"),
        key.mint_raw("{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"logout+jwt\"}", &payload()),
        "A".repeat(crate::token::jws::MAX_BYTES + 1),
    ] {
        assert!(verdict(&bench, &wrong).await.is_err(), "{wrong:.80}");
        assert!(bench.issuer.requests().is_empty(), "{wrong:.80}");
    }
    assert_eq!(verdict(&bench, &good).await, Ok(()));
    assert_eq!(bench.issuer.count("/jwks"), 1);
}
