//! The README's table of statements and tests, held to the tests: every statement of framing, HTTP/2, forwarding and limits
//! names tests over raw sockets, and each of those says in a comment that it shows the statement.

use std::path::Path;

use edge_tests::corpus;

/// The sections of the security properties in the table, and how many statements each has.
const SECTIONS: [(char, usize); 3] = [('H', 27), ('P', 8), ('D', 11)];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The source of a test by the path the table has for it: `framing http2::frames::name`.
fn source(binary: &str, path: &str) -> Option<String> {
    let (module, name) = path.rsplit_once("::")?;
    let file = format!("{binary}/{}", module.replace("::", "/"));
    let is_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).is_dir();
    let text = read(&if is_folder { format!("{file}/mod.rs") } else { format!("{file}.rs") });
    let at = text.find(&format!("fn {name}()"))?;
    assert!(text[..at].trim_end().ends_with("#[test]"), "{path} is no test");
    let rest = &text[at..];
    Some(rest[..rest.find("\n}\n")?].to_owned())
}

/// Whether the comments of this source name the statement, alone or within a range: `H1 to H9`.
fn names(source: &str, section: char, number: usize) -> bool {
    let comments = source.lines().filter_map(|line| line.split_once("//")).map(|(_, comment)| comment);
    let number_of = |word: &str| {
        let digits = word.strip_prefix(section)?.trim_end_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<usize>().ok()
    };
    comments
        .flat_map(|comment| {
            let words: Vec<&str> = comment.split_whitespace().collect();
            let ranges: Vec<(usize, usize)> = words
                .iter()
                .enumerate()
                .filter_map(|(at, word)| {
                    let first = number_of(word)?;
                    let last =
                        (words.get(at + 1) == Some(&"to")).then(|| words.get(at + 2).and_then(|last| number_of(last)));
                    Some((first, last.flatten().unwrap_or(first)))
                })
                .collect();
            ranges
        })
        .any(|(first, last)| (first..=last).contains(&number))
}

#[test]
fn every_statement_has_tests_that_say_so() {
    let readme = read("../README.md");
    let classes: Vec<String> = corpus::load().unwrap().into_iter().map(|case| case.name).collect();
    for (section, count) in SECTIONS {
        for number in 1..=count {
            let begin = format!("| {section}{number} | ");
            let row = readme.lines().find(|line| line.starts_with(&begin));
            let row = row.unwrap_or_else(|| panic!("{section}{number} has no row"));
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [_, _, tests, corpora] = cells[..] else { panic!("{row}") };
            for test in tests.split(", ") {
                let (binary, path) = test.split_once(' ').unwrap_or_else(|| panic!("{test}"));
                let source = source(binary, path.trim_matches('`')).unwrap_or_else(|| panic!("no test {test}"));
                assert!(names(&source, section, number), "{test} does not say {section}{number}");
            }
            for class in corpora.split(", ").filter(|class| !class.is_empty() && *class != "all") {
                let begin = format!("{}/", class.trim_matches('`'));
                assert!(classes.iter().any(|name| name.starts_with(&begin)), "no class {class}");
            }
        }
    }
}

#[test]
fn ranges_and_lists_are_read() {
    for (comment, number, expected) in [
        ("// H1 to H9, H13: all", 5, true),
        ("// H1 to H9, H13: all", 13, true),
        ("// H1 to H9, H13: all", 10, false),
        ("let x = \"H10\";", 10, false),
        ("// H18, D3", 18, true),
        ("// RFC 9113, 8; H20 to H24", 24, true),
    ] {
        assert_eq!(names(comment, 'H', number), expected, "{comment} {number}");
    }
}
