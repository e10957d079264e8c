//! What consistent hashing sees of a request.

use std::net::IpAddr;

use super::context::Context;
use super::target::Target;
use crate::balancer::HashSource;
use crate::http::head::{Head, Known};
use crate::router::Router;

/// One request, as `balancer` asks about it.
pub struct Request<'a> {
    /// Its head.
    pub head: &'a Head,
    /// Its target.
    pub target: &'a Target,
    /// What found its route.
    pub router: &'a Router,
    /// Its client and consumer.
    pub context: &'a Context<'a>,
}

impl HashSource for Request<'_> {
    fn consumer(&self) -> Option<Vec<u8>> {
        self.context.notes.caller.consumer.as_ref().map(|consumer| consumer.id.to_string().into_bytes())
    }

    fn client(&self) -> IpAddr {
        self.context.client
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        let named = self.head.fields().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        joined(named.map(|field| field.value.to_vec()))
    }

    fn cookie(&self, name: &str) -> Option<Vec<u8>> {
        let pairs = self.head.all(Known::Cookie).flat_map(|field| field.split(|byte| *byte == b';'));
        pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            (&pair[..at] == name.as_bytes()).then(|| pair[at + 1..].to_vec())
        })
    }

    fn path(&self) -> &[u8] {
        self.target.path()
    }

    fn query_arg(&self, name: &str) -> Option<Vec<u8>> {
        let pairs = form_urlencoded::parse(self.target.query()?).filter(|(key, _)| key == name);
        joined(pairs.map(|(_, value)| value.into_owned().into_bytes()))
    }

    fn uri_capture(&self, name: &str) -> Option<Vec<u8>> {
        let captures = self.router.captures(self.target.found.as_ref()?, self.target.path())?;
        let group = match name.parse() {
            Ok(index) => captures.by_index(index),
            Err(_) => captures.by_name(name),
        };
        group.map(<[u8]>::to_vec)
    }
}

/// All values of one name, in their order; nothing where there is none.
fn joined(values: impl Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
    values.reduce(|mut all, value| {
        all.extend_from_slice(b", ");
        all.extend_from_slice(&value);
        all
    })
}
