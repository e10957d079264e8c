//! `[identity]`.

use super::*;

#[test]
fn wrong_identity_values_are_problems() {
    let server = "[identity]\n[[identity.servers]]\nname = \"a\"\naudience = \"b\"\n"; // lines 3 to 6
    for (text, expected) in [
        ("issuer = \"ftp://x\"", "7: identity.servers[0].issuer: found \"ftp://x\", expected an http or https URL"),
        (
            "signing_algorithm = \"none\"",
            "7: identity.servers[0].signing_algorithm: found \"none\", \
             expected one of: RS256, RS384, RS512, PS256, PS384, PS512",
        ),
        (
            "[[identity.servers.clients]]\nid = \"c\"",
            "7: identity.servers[0].clients[0].secret: found nothing, expected `secret` or `secret_file`",
        ),
        (
            "[[identity.servers.clients]]\nid = \"c\"\nsecret = 7",
            "9: identity.servers[0].clients[0].secret: found an integer, expected a string that is not empty",
        ),
        (
            "[[identity.servers.clients]]\nid = \"c\"\nsecret = \"s\"\nsecret_file = \"secret\"",
            "10: identity.servers[0].clients[0].secret_file: found it beside `secret`, expected one of the two",
        ),
        (
            "[[identity.servers.clients]]\nid = \"c\"\nsecret = \"s\"\nscopes = [\"x\"]",
            "10: identity.servers[0].clients[0].scopes: found \"x\", expected scopes of this server",
        ),
        (
            "[[identity.servers.scopes]]\nname = \"a b\"",
            "8: identity.servers[0].scopes[0].name: found \"a b\", \
             expected printable ASCII without spaces, quotes and backslashes",
        ),
    ] {
        let (_, problems, _dir) = read_text(&format!("{LISTENER}{server}{text}"), &[]);
        assert_eq!(problems, [expected], "{text}");
    }
}
