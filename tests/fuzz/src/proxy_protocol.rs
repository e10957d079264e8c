//! PROXY headers: what is taken is taken whole, depends on no byte beyond, and is no prefix of another.

use edge_user::proxy_protocol::parse;

/// Bytes of a connection.
pub fn header(data: &[u8]) {
    let Some((preface, length)) = parse(data) else { return };
    let header = &data[..length];
    assert_eq!(parse(header), Some((preface.clone(), length)));
    assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n"].concat()), Some((preface.clone(), length)));
    for end in 0..length {
        assert_eq!(parse(&header[..end]), None, "a part is taken for the whole");
    }
    if let Some((source, destination)) = preface.addresses {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
    }
    if let Some(authority) = preface.authority {
        assert!(authority.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
