//! Expressions as decisions: conditions and answers in their order.

use std::collections::BTreeMap;

use super::super::bigip;
use super::super::ledger::Ledger;
use super::super::model::Model;
use super::super::outcome::Outcome;
use super::super::text::Side;
use super::*;

fn shown(text: &str) -> String {
    let ledger = Ledger::default();
    let groups = "ltm data-group internal /Common/hosts {\n records {\n a.example.com { }\n b.example.com { data pool_b }\n }\n}\n\
                  ltm data-group internal /Common/nets {\n records {\n 192.0.2.0/24 { }\n }\n}\n";
    let file = ledger.add("f", groups);
    let mut model = Model::default();
    model.add(bigip::parse(groups, file, &ledger), &ledger);
    let variables = BTreeMap::from([("host".to_owned(), Text::of(Part::Host)), ("on".to_owned(), Text::plain("1"))]);
    let statics = BTreeMap::from([("static::x".to_owned(), Text::plain("0"))]);
    let (folder, side) = ("/Common", Side::Request);
    let (outcome, notes) = (&Outcome { variables, ..Outcome::default() }, Vec::new());
    let mut scope = Scope { model: &model, folder, outcome, left: None, statics: &statics, side, notes };
    let show = |(when, is): &(Match, bool)| {
        let mut words: Vec<String> = when.hosts.iter().flatten().cloned().collect();
        words.extend(when.methods.iter().flatten().cloned());
        words.extend(when.paths.iter().flatten().map(PathTestText::text));
        words.extend(when.headers.keys().cloned());
        words.extend(when.sources.iter().flat_map(|sources| sources.ranges.iter().map(ToString::to_string)));
        format!("{}={}", words.join(","), u8::from(*is))
    };
    match scope.decide(text, 1) {
        Ok(decisions) => decisions.iter().map(show).collect::<Vec<_>>().join(" "),
        Err(why) => format!("no: {why}"),
    }
}

trait PathTestText {
    fn text(&self) -> String;
}

impl PathTestText for super::super::paths::PathTest {
    fn text(&self) -> String {
        self.regex()
    }
}

#[test]
fn expressions_become_decisions() {
    for (text, expected) in [
        ("[HTTP::host] equals \"a.example.com\"", "a.example.com=1 =0"),
        ("\"a.example.com\" eq [string tolower [HTTP::host]]", "a.example.com=1 =0"),
        ("!([HTTP::method] eq \"GET\")", "GET=0 =1"),
        ("not [HTTP::header exists X-A]", "x-a=0 =1"),
        ("[HTTP::header X-A] ne \"\"", "x-a=1 =0"),
        ("[HTTP::path] starts_with \"/a\" && $host eq \"h\"", "h,/a=1 =0"),
        ("[HTTP::path] starts_with \"/a\" or $host eq \"h\"", "/a=1 h=1 =0"),
        ("[class match $host equals hosts]", "a.example.com,b.example.com=1 =0"),
        ("[class match -- [HTTP::host] equals /Common/hosts] == 0", "a.example.com,b.example.com=0 =1"),
        ("![class match [IP::client_addr] equals nets]", "192.0.2.0/24=0 192.0.2.0/24=1"),
        ("[HTTP::path] starts_with \"/a\" && ![class match [IP::client_addr] equals nets]", "/a,192.0.2.0/24=1 =0"),
        ("[IP::addr [IP::client_addr] equals 198.51.100.0/255.255.255.0]", "198.51.100.0/24=1 198.51.100.0/24=0"),
        ("[matchclass [HTTP::host] equals $::hosts]", "a.example.com,b.example.com=1 =0"),
        ("[class lookup $host hosts] eq \"pool_b\"", "b.example.com=1 =0"),
        ("[class lookup $host hosts] ne \"\"", "a.example.com=1 b.example.com=1 =0"),
        ("$on", "=1"),
        ("$static::x", "=0"),
        ("[string match -nocase \"*.PNG\" [HTTP::path]]", "/(?i).*\\.png$=1 =0"),
        ("[string match -nocase {/A*} [HTTP::path]]", "/(?i)a=1 =0"),
        ("[class match [HTTP::host] equals none]", "no: the data group none"),
        ("[HTTP::cookie exists \"x\"]", "no: `HTTP::cookie`"),
        ("[HTTP::status] == 404", "=1 =0"),
        ("[SSL::cert count] > 0", "=1 =0"),
        ("[SSL::cert count] > 3", "no: a count"),
        ("[active_members p] < 1", "no: "),
        ("[HTTP::path] eq [HTTP::host]", "no: two things"),
        ("(", "no: "),
        ("", "no: "),
    ] {
        let found = shown(text);
        let right = if expected.starts_with("no: ") { found.starts_with(expected) } else { found == expected };
        assert!(right, "{text}: {found}, expected {expected}");
    }
    assert!(shown(&"(".repeat(5000)).starts_with("no: "));
    assert!(shown(&"!".repeat(5000)).starts_with("no: "));
}
