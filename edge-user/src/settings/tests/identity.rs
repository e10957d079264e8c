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
        (
            "[[identity.servers.claims]]\nname = \"exp\"\nvalue = \"1\"",
            "8: identity.servers[0].claims[0].name: found \"exp\", expected a name that is none of the token's own",
        ),
        (
            "[[identity.servers.claims]]\nname = \"a\"",
            "7: identity.servers[0].claims[0].value: found nothing, expected the claim's value",
        ),
        (
            "[[identity.servers.claims]]\nname = \"a\"\nvalue = \"${ .Client.Secret }\"",
            "9: identity.servers[0].claims[0].value: found `.Client.Secret`, expected .AuthServer.Name, .Description, \
             .Audience, .SigningAlgorithm or .Labels.<key>, .Client.ID, .Name or .Labels.<key>",
        ),
        (
            "[[identity.servers.clients]]\nid = \"c\"\nsecret = \"s\"\n\
             [[identity.servers.claims]]\nname = \"a\"\nvalue = \"${ atoi .Client.Name | div 1 }\"",
            "12: identity.servers[0].claims[0].value: found `div`: no result in 64 bits, \
             expected text, JSON, or a template with a value for each client",
        ),
        (
            "[[identity.servers.claims]]\nname = \"a\"\nvalue = \"b\"\ninclude_in_scopes = [\"x\"]",
            "10: identity.servers[0].claims[0].include_in_scopes: found \"x\", expected scopes of this server",
        ),
    ] {
        let (_, problems, _dir) = read_text(&format!("{LISTENER}{server}{text}"), &[]);
        assert_eq!(problems, [expected], "{text}");
    }
}
