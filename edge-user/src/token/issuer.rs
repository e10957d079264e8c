//! What an issuer says of itself: the part of its metadata that the edge acts on (OpenID Connect Discovery 1.0, 3;
//! RFC 8414, 2; RFC 8705, 5).

use serde::{Deserialize, Serialize};

/// An issuer's metadata. Unknown members are ignored, those of a wrong type make the document malformed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The issuer, exactly as tokens name it.
    pub issuer: String,
    /// Where its keys are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// RFC 6749, 3.2
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// RFC 7662
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// OpenID Connect Core 1.0, 5.3
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo_endpoint: Option<String>,
    /// Where the same endpoints are for clients that authenticate by certificate.
    #[serde(default)]
    pub mtls_endpoint_aliases: Aliases,
    /// How clients may authenticate at the token endpoint; empty: it does not say.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The same for introspection.
    #[serde(default)]
    pub introspection_endpoint_auth_methods_supported: Vec<String>,
}

/// RFC 8705, 5: endpoints that ask for a client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aliases {
    /// In place of `token_endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// In place of `introspection_endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
}

/// The issuer cannot be asked, and what it said is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's metadata is not known")]
pub struct Unavailable {
    /// For `Retry-After`.
    pub retry_after_secs: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_issuer_must_be_there_and_types_must_fit() {
        let read = |text: &str| serde_json::from_str::<Metadata>(text).ok();
        let least = read(r#"{"issuer":"https://a"}"#).expect("the least document");
        assert_eq!(least, Metadata { issuer: "https://a".into(), ..Metadata::default() });
        let full = r#"{"issuer":"https://a","introspection_endpoint":"https://a/i","unknown":[1],
            "introspection_endpoint_auth_methods_supported":["none"],
            "mtls_endpoint_aliases":{"introspection_endpoint":"https://m/i","other":1}}"#;
        let full = read(full).expect("a document");
        assert_eq!(full.mtls_endpoint_aliases.introspection_endpoint.as_deref(), Some("https://m/i"));
        for bad in
            ["{}", "[]", r#"{"issuer":1}"#, r#"{"issuer":"a","jwks_uri":1}"#, r#"{"issuer":"a","token_endpoint":[]}"#]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
