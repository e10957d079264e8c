//! Named arguments: taken out of a query, a form or JSON, none of the name is left and all else is as it was.

use edge_user::plugin::arguments::{self, Argument, Body, Kind};
use serde_json::Value;

const NAME: &str = "access_token";

/// An input as a query or form, and as JSON.
pub fn take_out(data: &[u8]) {
    form(data);
    json(data);
}

fn form(data: &[u8]) {
    let pieces =
        |text: &[u8]| -> Vec<Vec<u8>> { text.split(|byte| matches!(byte, b'&' | b';')).map(<[u8]>::to_vec).collect() };
    let (named, others): (Vec<_>, Vec<_>) = pieces(data).into_iter().partition(|piece| {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        arguments::decode(name) == NAME.as_bytes()
    });
    assert_eq!(arguments::has(data, NAME), !named.is_empty());
    match arguments::find(data, NAME) {
        Argument::Absent => assert!(named.is_empty()),
        Argument::Once(_) => assert_eq!(named.len(), 1),
        Argument::Unusable => assert!(named.len() > 1),
    }
    match arguments::without(data, &[NAME]) {
        None => assert!(named.is_empty()),
        Some(rest) if others.is_empty() => assert!(rest.is_empty()),
        Some(rest) => assert_eq!(pieces(&rest), others),
    }
}

fn json(data: &[u8]) {
    let body = Body::new(Kind::Json, data);
    let (found, rest) = (body.find(NAME), body.without(&[NAME]));
    // Numbers and depths beyond the other reader's are not judged.
    let Ok(mut value) = serde_json::from_slice::<Value>(data) else { return };
    let Some(members) = value.as_object_mut() else {
        return assert!(matches!(found, Argument::Absent) && rest.is_none());
    };
    let member = members.remove(NAME);
    match (&found, &member) {
        (Argument::Absent, None | Some(Value::Null)) => {}
        (Argument::Once(text), Some(Value::String(other))) => assert_eq!(&**text, other.as_bytes()),
        (Argument::Unusable, Some(_)) => {}
        _ => panic!("what was found is not what stands there"),
    }
    match rest {
        None => assert!(member.is_none()),
        Some(rest) => {
            assert!(rest.len() < data.len());
            assert_eq!(serde_json::from_slice::<Value>(&rest).expect("JSON"), value);
        }
    }
}
