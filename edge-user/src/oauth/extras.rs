//! What calls carry besides: fixed pairs of the configuration, and what of a client's request goes along.

use std::sync::Arc;

use reqwest::header::HeaderValue;

use super::Endpoints;
use super::introspection::{Extras, pairs};
use super::request::{Request, is_framing};
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::http::head::is_field_name;

/// The parameters of one endpoint.
pub(super) struct Parameters {
    header_names: &'static str,
    header_values: &'static str,
    header_client: &'static str,
    arg_names: &'static str,
    arg_values: &'static str,
    arg_client: &'static str,
}

/// `token_…`
pub(super) const TOKEN: Parameters = Parameters {
    header_names: "token_headers_names",
    header_values: "token_headers_values",
    header_client: "token_headers_client",
    arg_names: "token_post_args_names",
    arg_values: "token_post_args_values",
    arg_client: "token_post_args_client",
};

/// `userinfo_…`
pub(super) const USER_INFO: Parameters = Parameters {
    header_names: "userinfo_headers_names",
    header_values: "userinfo_headers_values",
    header_client: "userinfo_headers_client",
    arg_names: "userinfo_query_args_names",
    arg_values: "userinfo_query_args_values",
    arg_client: "userinfo_query_args_client",
};

/// The values of one endpoint's parameters.
pub(super) struct Additions {
    headers: Box<[(Box<str>, Box<str>)]>,
    pub(super) args: Box<[(Box<str>, Box<str>)]>,
    pub(super) client_headers: Box<[Box<str>]>,
    pub(super) client_args: Box<[Box<str>]>,
}

impl Additions {
    /// Reads them; `is_ours` knows the arguments that the edge sends itself.
    pub(super) fn read(config: &mut Reader<'_>, names: &Parameters, is_ours: impl Fn(&str) -> bool) -> Self {
        let mut list = |key| -> Box<[Box<str>]> {
            config.strings_lenient(key).unwrap_or_default().into_iter().map(Box::from).collect()
        };
        let (client_headers, client_args) = (list(names.header_client), list(names.arg_client));
        let headers = pairs(config, names.header_names, names.header_values);
        let args = pairs(config, names.arg_names, names.arg_values);
        for (name, value) in &headers {
            if HeaderValue::from_str(value).is_err() {
                config.problem(names.header_values, format!("a malformed value for `{name}`"), "visible ASCII");
            }
        }
        let fixed = headers.iter().map(|(name, _)| (names.header_names, name));
        for (key, name) in fixed.chain(client_headers.iter().map(|name| (names.header_client, name))) {
            // The credentials are the edge's to show.
            let own = name.eq_ignore_ascii_case("authorization");
            if own || is_framing(name) || !is_field_name(name.as_bytes()) {
                config.problem(key, format!("{name:?}"), "a header that the message itself does not need");
            }
        }
        let fixed = args.iter().map(|(name, _)| (names.arg_names, name));
        for (key, name) in fixed.chain(client_args.iter().map(|name| (names.arg_client, name))) {
            if is_ours(name) {
                config.problem(key, format!("{name:?}"), "an argument that the edge does not send itself");
            }
        }
        Self { headers, args, client_headers, client_args }
    }

    /// Adds arguments to the form: the operator's, which a client's may not replace, then the client's.
    pub(super) fn add_args(&self, request: &mut Request, extras: &Extras) {
        for (name, value) in &self.args {
            request.form().push_new(&**name, &**value);
        }
        for (name, value) in &extras.args {
            request.form().push_new(name, value);
        }
    }

    /// As `add_args`, to the URL's query.
    pub(super) fn add_query(&self, request: &mut Request, extras: &Extras) {
        for (name, value) in &self.args {
            request.query.push_new(&**name, &**value);
        }
        for (name, value) in &extras.args {
            request.query.push_new(name, value);
        }
    }

    /// Adds header fields: the client's, which the operator's replace.
    pub(super) fn add_headers(&self, request: &mut Request, extras: &Extras) {
        for (name, value) in &extras.headers {
            request.header(name, value);
        }
        for (name, value) in &self.headers {
            request.header(name, value);
        }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let both = |pairs: &[(Box<str>, Box<str>)]| {
            let all = pairs.iter().flat_map(|(name, value)| [name, value]).collect::<Vec<_>>();
            FieldDigest::default().list(all.iter().map(|text| text.as_bytes())).finish()
        };
        FieldDigest::default()
            .field(both(&self.headers))
            .field(both(&self.args))
            .list(self.client_headers.iter().map(|name| name.as_bytes()))
            .list(self.client_args.iter().map(|name| name.as_bytes()))
            .finish()
    }
}

/// An endpoint's URL of the configuration, which may be asked at all.
pub(super) fn url(config: &mut Reader<'_>, key: &'static str, endpoints: &Arc<Endpoints>) -> Option<Box<str>> {
    let url = config.string(key)?;
    if let Err(error) = endpoints.http().check(url) {
        config.problem(key, error.to_string(), "an https URL");
    }
    Some(url.into())
}
