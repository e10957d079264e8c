//! What a request transformer takes apart: put together again it is what it was, and what is removed is gone.

use edge_user::plugin::arguments::decode;
use edge_user::plugin::request_transformer::Step;
use edge_user::plugin::request_transformer::arguments::Arguments;
use edge_user::plugin::request_transformer::multipart::Multipart;
use edge_user::plugin::request_transformer::template::Template;

const NAME: &str = "a";
const BOUNDARY: &[u8] = b"b";

/// An input as a query or form, as a multipart body, and as a value with templates.
pub fn apart_and_together(data: &[u8]) {
    form(data);
    multipart(data);
    if let Ok(text) = std::str::from_utf8(data) {
        // Read or refused; never more than that.
        let _ = Template::parse(text, &mut Vec::new());
    }
}

fn form(data: &[u8]) {
    let mut arguments = Arguments::parse(data);
    assert_eq!(arguments.text(), data);
    arguments.apply(&Step::Remove(NAME.into()), b"");
    let text = arguments.text();
    let named =
        |piece: &[u8]| *decode(piece.split(|byte| *byte == b'=').next().unwrap_or_default()) == *NAME.as_bytes();
    assert!(!text.split(|byte| matches!(byte, b'&' | b';')).any(named));
    arguments.apply(&Step::Rename("c".into(), NAME.into()), b"");
    arguments.apply(&Step::Append(NAME.into(), empty()), data);
    let text = arguments.text();
    let last = text.rsplit(|byte| *byte == b'&').next().unwrap_or_default();
    assert_eq!(*decode(&last[2..]), *data, "a value is spelled so that it can be had back");
}

fn multipart(data: &[u8]) {
    let Some(mut multipart) = Multipart::parse(data, BOUNDARY.to_vec()) else { return };
    assert_eq!(multipart.text(), data);
    multipart.apply(&Step::Remove(NAME.into()), b"");
    assert!(!multipart.has(NAME));
    let text = multipart.text();
    let again = Multipart::parse(&text, BOUNDARY.to_vec()).expect("still a multipart body");
    assert!(!again.has(NAME) && again.text() == text);
    multipart.apply(&Step::Add(NAME.into(), empty()), b"value");
    let text = multipart.text();
    assert!(Multipart::parse(&text, BOUNDARY.to_vec()).is_some_and(|again| again.has(NAME)));
}

fn empty() -> Template {
    Template::parse("", &mut Vec::new()).expect("no template")
}
