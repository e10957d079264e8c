//! Whole imports: the fixtures line by line and through the readers of `edge run`, and any text at all.

use std::iter;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair};

use super::*;
use crate::config::{self, Env};
use crate::settings::Settings;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests", "fixtures", "f5", name].iter().collect()
}

fn imported(names: &[&str]) -> Translation {
    let paths: Vec<PathBuf> = names.iter().map(|name| fixture(name)).collect();
    f5(&read(&paths).unwrap())
}

fn of_text(text: &str) -> Translation {
    f5(&[Input { name: "f".into(), text: text.into() }])
}

/// Every line of the input has exactly one bin; blank lines and comments have none.
fn is_total(inputs: &[(&str, &str)], report: &Report) {
    assert_eq!(report.files.len(), inputs.len());
    for ((name, text), file) in inputs.iter().zip(&report.files) {
        assert_eq!(file.lines.len(), text.lines().count());
        for (number, (line, verdict)) in text.lines().zip(&file.lines).enumerate() {
            let is_input = !line.trim().is_empty() && !line.trim_start().starts_with('#');
            assert_eq!(verdict.is_some(), is_input, "{name}:{}", number + 1);
            if let Some(verdict) = verdict {
                assert_eq!(
                    verdict.bin == Bin::Translated,
                    verdict.reasons.is_empty(),
                    "{name}:{}: {verdict:?}",
                    number + 1
                );
            }
        }
    }
    let lines = report.files.iter().flat_map(|file| file.lines.iter().flatten()).count();
    assert_eq!(report.counts().values().sum::<usize>(), lines);
    // The text tells of each of them once.
    let listed: usize = report.json()["files"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|file| file["objects"].as_array().unwrap().clone())
        .flat_map(|object| object["lines"].as_array().unwrap().clone())
        .count();
    assert!(listed <= lines && (lines == 0 || listed > 0));
}

/// The bin of a line that holds this text, and its reasons.
fn line(report: &Report, input: &str, part: &str) -> (Bin, String) {
    let index = report.files.iter().position(|file| file.name.ends_with(input)).unwrap();
    let text = fs::read_to_string(fixture(input)).unwrap();
    let at = text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part}"));
    let verdict = report.files[index].lines[at].as_ref().unwrap();
    (verdict.bin, verdict.reasons.join("; "))
}

fn with_secrets(settings: &Settings) -> Env {
    let env = Env::default();
    Env { plugins: env.plugins.with_secrets(settings.secrets.key.as_ref()), ..env }
}

/// A revocation list without anybody on it.
fn list(issuer: &Issuer<'_, &KeyPair>) -> String {
    let now = SystemTime::now();
    let params = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + Duration::from_secs(3600)).into(),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

/// Loads every edge of an import as `edge check` does, with certificates in place of those that are not in bigip.conf.
fn loads(translation: &Translation) {
    crate::crypto::install();
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["edge.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let list = list(&Issuer::from_params(&params, &key));
    let dir = tempfile::tempdir().unwrap();
    for file in &translation.files {
        let path = dir.path().join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &file.text).unwrap();
    }
    for file in translation.files.iter().filter(|file| file.path.ends_with("edge.toml")) {
        let path = dir.path().join(&file.path);
        let folder = path.parent().unwrap();
        fs::write(folder.join(output::KEY_FILE), [0x80; 32]).unwrap();
        let settings = Settings::load(&path).unwrap_or_else(|problems| panic!("{problems}\n{}", file.text));
        for listener in &settings.listeners {
            if let Some(pair) = &listener.pair {
                fs::write(&pair.certificate, certificate.pem()).unwrap();
                fs::write(&pair.key, key.serialize_pem()).unwrap();
            }
            for clients in iter::once(&listener.clients).chain(listener.hosts.iter().map(|host| &host.clients)) {
                clients.ca.iter().for_each(|path| fs::write(path, certificate.pem()).unwrap());
                clients.crl.iter().for_each(|path| fs::write(path, &list).unwrap());
            }
        }
        let entities = fs::read_to_string(folder.join("kong.yaml")).unwrap();
        for name in entities.split("{vault://file/").skip(1).filter_map(|rest| rest.split('}').next()) {
            let text = if name.ends_with(".key") { key.serialize_pem() } else { certificate.pem() };
            fs::write(folder.join(name), text).unwrap();
        }
        if let Err(problems) = config::check(&path, with_secrets) {
            panic!("{problems}\n{}\n{entities}", file.text);
        }
    }
}

#[test]
fn fixtures_are_total_and_what_is_written_is_accepted() {
    for names in [&["bigip_base.conf", "shop.conf"][..], &["api.conf"], &["bigip_base.conf", "shop.conf", "api.conf"]] {
        let translation = imported(names);
        let texts: Vec<String> = names.iter().map(|name| fs::read_to_string(fixture(name)).unwrap()).collect();
        let inputs: Vec<(&str, &str)> = names.iter().copied().zip(texts.iter().map(String::as_str)).collect();
        is_total(&inputs, &translation.report);
        loads(&translation);
    }
}

#[test]
fn lines_of_the_shop_are_in_their_bins() {
    use Bin::{Changed, Dropped, Translated};
    let report = imported(&["bigip_base.conf", "shop.conf"]).report;
    for (input, part, bin, why) in [
        ("bigip_base.conf", "tag 4094", Dropped, "host"),
        ("bigip_base.conf", "arp enabled", Dropped, "interface"),
        ("shop.conf", "load-balancing-mode least-connections-member", Changed, "worker"),
        ("shop.conf", "ratio 3", Translated, ""),
        ("shop.conf", "priority-group 5", Changed, "weight 0"),
        ("shop.conf", "slow-ramp-time", Dropped, "share"),
        ("shop.conf", "recv \"200 OK\"", Changed, "status 200"),
        ("shop.conf", "cookie-name shopmember", Changed, "hashed"),
        ("shop.conf", "cert /Common/shop.example.com.crt", Changed, "beside edge.toml"),
        ("shop.conf", "ciphers DEFAULT", Changed, "TLS 1.2 and 1.3"),
        ("shop.conf", "options { dont-insert", Changed, "TLS 1.2 and 1.3"),
        ("shop.conf", "max-header-count 100", Changed, "431"),
        ("shop.conf", "excess-server-headers pass-through", Dropped, "never passes unread"),
        ("shop.conf", "encrypt-cookies", Changed, "do not open"),
        ("shop.conf", "header-erase X-Debug", Translated, ""),
        ("shop.conf", "header-insert", Translated, ""),
        ("shop.conf", "insert-xforwarded-for enabled", Changed, "X-Forwarded-For"),
        ("shop.conf", "mode enabled", Translated, ""),
        ("shop.conf", "redirect-rewrite matching", Translated, ""),
        ("shop.conf", "server-agent-name none", Changed, "own answers"),
        ("shop.conf", "via-request preserve", Translated, ""),
        ("shop.conf", "idle-timeout 300", Changed, "kept connections"),
        ("shop.conf", "nagle disabled", Dropped, "kernel"),
        ("shop.conf", "set static::site", Translated, ""),
        ("shop.conf", "HTTP::header remove X-Internal-User", Translated, ""),
        ("shop.conf", "HTTP::header insert X-Site", Translated, ""),
        ("shop.conf", "HTTP::header replace X-Shop-Host", Changed, "last"),
        ("shop.conf", "HTTP::header insert X-Forwarded-Proto", Changed, "itself"),
        ("shop.conf", "contains \"BadBot\"", Changed, "without regard to case"),
        ("shop.conf", "        reject", Changed, "403"),
        ("shop.conf", "HTTP::header remove X-Powered-By", Translated, ""),
        ("shop.conf", "[HTTP::status] == 500", Changed, "no answer at all"),
        ("shop.conf", "starts_with \"/admin\"", Translated, ""),
        ("shop.conf", "\"/legacy*\" {", Translated, ""),
        ("shop.conf", "pool $target", Translated, ""),
        ("shop.conf", "matches_regex", Translated, ""),
        ("shop.conf", "[HTTP::cookie exists", Dropped, "single cookies"),
        ("shop.conf", "when CLIENTSSL_CLIENTCERT", Translated, ""),
        ("shop.conf", "HTTP::header insert X-Client-Cert", Changed, "RFC 4514"),
        ("shop.conf", "_sys_https_redirect", Translated, ""),
        ("shop.conf", "type automap", Changed, "address"),
        ("shop.conf", "vlans-enabled", Dropped, "firewall"),
        ("shop.conf", "ip-protocol udp", Dropped, "TCP alone"),
        ("shop.conf", "ltm pool /Common/pool_unused", Dropped, "uses it"),
    ] {
        let (found, reasons) = line(&report, input, part);
        assert_eq!(found, bin, "{part}: {reasons}");
        assert!(reasons.contains(why), "{part}: {reasons}, expected {why}");
    }
}

#[test]
fn lines_of_the_api_are_in_their_bins() {
    use Bin::{Changed, Dropped, Translated};
    let report = imported(&["api.conf"]).report;
    for (part, bin, why) in [
        ("load-balancing-mode fastest-node", Changed, "latency"),
        ("name api.internal.example.com", Translated, ""),
        ("starts-with", Translated, ""),
        ("location https://docs", Translated, ""),
        ("contains", Changed, "without regard to case"),
        ("ends-with", Translated, ""),
        ("path /status/all", Translated, ""),
        ("country-code", Dropped, "not"),
        ("authenticate-depth", Changed, "between"),
        ("chain /Api/chain.crt", Changed, "append"),
        ("crl-file /Api/clients.crl", Changed, "as Api-clients.crl"),
        ("crl-file none", Translated, ""),
        ("peer-cert-mode require", Translated, ""),
        ("        /Api/ssl_partner {", Changed, "421"),
        ("server-name partner.example.com", Translated, ""),
        ("        /Api/ssl_members {", Changed, "not verified"),
        ("defaults-from http_loop_a", Dropped, "circle"),
        ("source 198.51.100.0/24", Changed, "403"),
    ] {
        let (found, reasons) = line(&report, "api.conf", part);
        assert_eq!(found, bin, "{part}: {reasons}");
        assert!(reasons.contains(why), "{part}: {reasons}, expected {why}");
    }
    let opened: Vec<&str> = report.opened.iter().map(|(_, why)| why.as_str()).collect();
    assert!(opened.len() == 1 && opened[0].contains("not"), "{opened:?}");
}

/// The file of an import.
fn file<'t>(translation: &'t Translation, path: &str) -> &'t str {
    let file = translation.files.iter().find(|file| file.path == Path::new(path));
    let paths: Vec<_> = translation.files.iter().map(|file| &file.path).collect();
    &file.unwrap_or_else(|| panic!("no {path} in {paths:?}")).text
}

#[test]
fn what_tells_virtual_servers_apart_gives_them_edges_of_their_own() {
    let shop = imported(&["shop.conf"]);
    let toml = file(&shop, "edge.toml");
    assert!(
        toml.contains("address = \"192.0.2.10:443\"\n") && toml.contains("address = \"192.0.2.10:80\"\n"),
        "{toml}"
    );
    assert!(
        toml.contains("fields = 100") && toml.contains("head_bytes = 49152") && toml.contains("idle = 300000"),
        "{toml}"
    );
    let api = imported(&["api.conf"]);
    let toml = file(&api, "api-vs-api/edge.toml");
    assert!(toml.contains("127.0.0.1:8001"), "{toml}");
    let asked = "client_certificate = \"require\"\nclient_ca = \"Api-clients-ca.crt\"\nclient_crl = [\"Api-clients.crl\"]\n\
                 client_verify_depth = 3\n\n# ltm profile client-ssl /Api/ssl_partner (api.conf:177-186)\n[[listeners.hosts]]\n\
                 names = [\"partner.example.com\"]\nclient_certificate = \"request\"\nclient_ca = \"Api-partners-ca.crt\"\n\
                 client_verify_depth = 3\n";
    assert!(toml.contains(asked), "{toml}");
    assert!(file(&api, "api-vs-loop/edge.toml").contains("127.0.0.1:8002"));
    assert!(file(&api, "api-vs-db/edge.toml").contains("mode = \"stream\""));
    let entities = file(&api, "api-vs-api/kong.yaml");
    assert!(
        entities.contains("{vault://file/Api-partner.example.com.crt}") && entities.contains("tls_verify: false"),
        "{entities}"
    );
    // The same at two ports of one address is one edge; at another address it is not.
    let text = |second: &str| {
        format!(
            "ltm pool p {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n\
             ltm virtual a {{ destination 192.0.2.1:80 \n pool p \n profiles {{ http {{ }} }}\n}}\n\
             ltm virtual b {{ destination {second} \n pool p \n profiles {{ http {{ }} }}\n}}\n"
        )
    };
    assert_eq!(of_text(&text("192.0.2.1:81")).files.len(), 3);
    assert_eq!(of_text(&text("192.0.2.2:80")).files.len(), 6);
    let again = of_text(&text("192.0.2.1:80"));
    assert_eq!(again.files.len(), 3);
    assert!(again.report.to_string().contains("has this address and port"));
}

#[test]
fn nothing_is_written_over_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let (_, files) = write(imported(&["shop.conf"]), dir.path(), false).unwrap();
    assert_eq!(files.len(), 4);
    assert!(matches!(write(imported(&["shop.conf"]), dir.path(), false), Err(Error::Exists { .. })));
    write(imported(&["shop.conf"]), dir.path(), true).unwrap();
    assert!(matches!(write(of_text("ltm pool p { }\n"), dir.path(), true), Err(Error::Nothing(_))));
    assert!(matches!(read(&[dir.path().join("none")]), Err(Error::Unreadable { .. })));
}

/// One virtual server with a rule.
fn ruled(body: &str) -> Translation {
    of_text(&format!(
        "ltm pool a {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n\
         ltm pool b {{ members {{ 192.0.2.8:80 {{ address 192.0.2.8 }} }} }}\n\
         ltm rule r {{\n{body}\n}}\n\
         ltm virtual v {{\n destination 192.0.2.1:80\n pool a\n profiles {{ http {{ }} }}\n rules {{ r }}\n}}\n"
    ))
}

#[test]
fn rules_become_routes_and_plugins() {
    for (body, parts) in [
        ("when HTTP_REQUEST { pool b }", &["host: b"][..]),
        (
            "when HTTP_REQUEST { if {[HTTP::host] eq \"x.example.com\"} { pool b } else { HTTP::redirect \"https://[HTTP::host][HTTP::uri]\" } }",
            &["hosts: [x.example.com]", "https_redirect_status_code: 302"],
        ),
        (
            "when HTTP_REQUEST { switch [HTTP::host] { x.example.com - y.example.com { pool b } } }",
            &["hosts: [x.example.com, y.example.com]"],
        ),
        (
            "when HTTP_REQUEST { HTTP::respond 301 Location \"https://www.example.com/\" }",
            &["status_code: 301", "name: Location", "value: \"https://www.example.com/\""],
        ),
        ("when HTTP_REQUEST { HTTP::host new.example.com; HTTP::path /x }", &["host: new.example.com", "uri: \"/x\""]),
        (
            "when CLIENT_ACCEPTED { if {[IP::addr [IP::client_addr] equals 198.51.100.0/24]} { drop } }",
            &["deny: [\"198.51.100.0/24\"]"],
        ),
        (
            "when HTTP_REQUEST { set h [string tolower [HTTP::host]]; if {$h ends_with \".example.com\"} { HTTP::header insert X-H $h } }",
            &["hosts: [\"*.example.com\"]"],
        ),
        (
            "when HTTP_REQUEST { switch -glob [HTTP::host][HTTP::path] { \"x.example.com/a*\" { pool b } } }",
            &["hosts: [x.example.com]", "paths: [\"/a\"]"],
        ),
    ] {
        let translation = ruled(body);
        let text = file(&translation, "kong.yaml");
        parts.iter().for_each(|part| assert!(text.contains(part), "{body}: no {part} in\n{text}"));
        loads(&translation);
    }
}

#[test]
fn lost_refusals_are_told_apart() {
    for (body, count) in [
        ("when HTTP_REQUEST { if {[HTTP::cookie exists x]} { reject } }", 1),
        ("when HTTP_REQUEST { if {[HTTP::cookie exists x]} { pool b } }", 0),
        ("when HTTP_REQUEST { if {[IP::addr [IP::client_addr] equals 198.51.100.0/24]} { reject } }", 0),
        ("when HTTP_REQUEST { if {[IP::addr [IP::client_addr] equals 198.51.100.0/24]} { pool b } }", 1),
        ("when HTTP_REQUEST { \"unclosed }", 1),
        ("when LB_FAILED { reject }", 1),
    ] {
        let report = ruled(body).report;
        assert_eq!(report.opened.len(), count, "{body}: {report}");
        assert!(count == 0 || report.to_string().contains("REFUSED REQUESTS"));
    }
}

#[test]
fn what_yaml_cannot_hold_is_not_written() {
    let ruled =
        |name: &str| ruled(&format!("when HTTP_REQUEST {{ if {{[HTTP::header exists {name}]}} {{ pool b }} }}"));
    let (good, long) = (ruled(&"a".repeat(1000)), ruled(&"a".repeat(1001)));
    assert!(file(&good, "kong.yaml").contains("aaaa") && !file(&long, "kong.yaml").contains("aaaa"));
    loads(&good);
    loads(&long);
}

#[test]
fn the_admin_api_has_a_port_of_its_own() {
    let text = "ltm pool a { members { 127.0.0.1:8001 { address 127.0.0.1 } } }\n\
                ltm virtual v {\n destination 192.0.2.1:8002\n pool a\n profiles { http { } }\n}\n";
    let translation = of_text(text);
    assert!(file(&translation, "edge.toml").contains("127.0.0.1:8003"));
    loads(&translation);
}

/// Pieces of which the texts of the property are made.
const PIECES: [&str; 74] = [
    "ltm virtual v {\n",
    "ltm pool p {\n",
    "ltm rule r {\n",
    "ltm policy q {\n",
    "ltm profile http h {\n",
    "}\n",
    "{ ",
    " }",
    "\n",
    "destination 192.0.2.1:80\n",
    "pool p\n",
    "profiles { http { } }\n",
    "rules { r }\n",
    "policies { q }\n",
    "members { 192.0.2.9:80 { address 192.0.2.9 } }\n",
    "when HTTP_REQUEST {\n",
    "if { ",
    "} elseif { ",
    "} else {\n",
    "[HTTP::host] eq \"a.example.com\"",
    "[HTTP::path] starts_with \"/a\"",
    " && ",
    " || ",
    "!",
    "(",
    ")",
    "switch -glob [HTTP::path] {\n",
    "\"/a*\" {\n",
    "default {\n",
    "HTTP::redirect https://a.example.com/\n",
    "HTTP::header insert X-A \"[HTTP::host]\"\n",
    "reject\n",
    "when HTTP_RESPONSE {\n",
    "when CLIENTSSL_CLIENTCERT {\n",
    "[HTTP::status] == 404",
    "[SSL::cert count] > 0",
    "[HTTP::header exists X-A]",
    "HTTP::header replace X-A \"",
    "HTTP::header insert X-B [X509::subject [SSL::cert 0]]\n",
    "HTTP::header remove X-B\n",
    "HTTP::header sanitize X-A\n",
    "HTTP::cookie secure c enable\n",
    "HTTP::cookie encrypt c k\n",
    "HTTP::host \"",
    "HTTP::path /a$(x)\n",
    "HTTP::respond 200 content \"",
    "HTTP::respond 503 content x Content-Type \"",
    "HTTP::redirect \"",
    "foreach c [HTTP::cookie names] {\n",
    "insert-xforwarded-for enabled\n",
    "via-request remove\n",
    "via-host-name \"",
    "server-agent-name \"",
    "encrypt-cookies { \"",
    "fallback-host \"https://a",
    "header-insert \"X-C: ",
    "response-headers-permitted { \"",
    "hsts { mode enabled\n maximum-age ",
    "enforcement { max-header-size ",
    "{vault://env/X}",
    "${{",
    "$(",
    "\u{7f}",
    "\u{2028}",
    "\u{feff}",
    "99999999999",
    "set x $y\n",
    "\"",
    "\\",
    "[",
    "]",
    "# c\n",
    "defaults-from h\n",
    "rules {\n x {\n conditions {\n 0 { http-uri path starts-with values { /a } }\n }\n }\n }\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// D6: no input ends the process; every line has its bin; what is written is accepted.
    #[test]
    fn any_pieces_of_a_configuration_are_imported(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        let text = pieces.concat();
        let translation = of_text(&text);
        is_total(&[("f", &text)], &translation.report);
        for settings in translation.files.iter().filter(|file| file.path.ends_with("edge.toml")) {
            let settings = Settings::load_text(&settings.text, &ENV.0.path().join("edge.toml")).unwrap();
            let entities = settings_entities(&translation, &settings);
            if let Err(problems) = config::load_text(entities, "kong.yaml", &settings, &ENV.1, 1) {
                panic!("{problems}\n{text}\n{entities}");
            }
        }
        // What readers refuse is told line by line, not found out in the end.
        let told = translation.report.to_string();
        prop_assert!(!told.contains("is not accepted"), "{told}\n{text}");
    }

    #[test]
    fn any_text_is_imported(text in "\\PC{0,200}(\\{[^}]*\\}\n?){0,4}") {
        let translation = of_text(&text);
        is_total(&[("f", &text)], &translation.report);
    }
}

/// A folder with the key that is to lie beside `edge.toml`, and what is made with it.
static ENV: std::sync::LazyLock<(tempfile::TempDir, Env)> = std::sync::LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(output::KEY_FILE), [0x80; 32]).unwrap();
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n[secrets]\nkey_file = \"{}\"\n", output::KEY_FILE);
    let env = with_secrets(&Settings::load_text(&text, &dir.path().join("edge.toml")).unwrap());
    (dir, env)
});

fn settings_entities<'t>(translation: &'t Translation, settings: &Settings) -> &'t str {
    assert!(!settings.listeners.is_empty());
    file(translation, "kong.yaml")
}

mod http_profile;
mod rules;
