//! Bytes of others that the edge rewrites or watches as they pass: bodies of responses, frames of WebSockets.

use std::sync::LazyLock;

use edge_user::config::problem::Sink;
use edge_user::config::reader::Reader;
use edge_user::config::value::Value;
use edge_user::http::websocket::Frames;
use edge_user::plugin::{Place, Plugin, PluginEnv};

use super::prefixes;

static TRANSFORMER: LazyLock<Plugin> = LazyLock::new(|| {
    let sink = Sink::new("fuzz");
    let config = "{remove: {json: [a]}, rename: {json: ['b:c']}, replace: {json: ['d:1']}, add: {json: ['e:x']}, append: {json: ['f:y']}}";
    let value = Value::from_yaml(config, &sink).expect("YAML");
    let reader = Reader::new(&value, "config", &sink).expect("an object");
    let place = Place::default();
    Plugin::parse("response-transformer", reader, &place, &PluginEnv::default()).expect("good settings")
});

/// A body that is rewritten was a JSON object and still is one, with what was added and without what was removed; what is
/// no object stays as it is.
pub fn rewrite(data: &[u8]) {
    let before = serde_json::from_slice::<serde_json::Value>(data);
    match TRANSFORMER.rewrite_body(data) {
        None => assert!(!before.is_ok_and(|value| value.is_object()), "an object that was not rewritten"),
        Some(after) => {
            let after: serde_json::Value = match serde_json::from_slice(&after) {
                Ok(after) => after,
                // Numbers stay as they were written, some beyond this reader's range.
                Err(error) if error.to_string().starts_with("number out of range") => return,
                Err(error) => panic!("rewritten into what is no JSON: {error}"),
            };
            let object = after.as_object().expect("still an object");
            assert!(!object.contains_key("a") && !object.contains_key("b") && object.contains_key("e"));
            assert!(object["f"].is_array());
        }
    }
}

/// However the bytes arrive, the frames end where RFC 6455, 5.2 says.
pub fn websocket(data: &[u8]) {
    let mut frames = Frames::default();
    let mut start = 0;
    for end in prefixes(data, 7) {
        if let Some(step) = frames.ends_after(&data[start..end]) {
            assert!(is_boundary(&data[..start + step]), "{step} bytes after {start} end no frame");
        }
        frames.pass(&data[start..end]);
        start = end;
        assert_eq!(frames.is_between(), is_boundary(&data[..end]), "after {end} bytes");
    }
}

/// Whether these bytes are whole frames.
fn is_boundary(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let Some((head, rest)) = data.split_at_checked(2) else { return false };
        let extended = match head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((extension, rest)) = rest.split_at_checked(extended) else { return false };
        let length = match extended {
            0 => u64::from(head[1] & 0x7f),
            _ => extension.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let length = length.saturating_add(if head[1] & 0x80 == 0 { 0 } else { 4 });
        match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
            Some((_, rest)) => data = rest,
            None => return false,
        }
    }
    true
}
