//! One way to match one route: a path or none, hosts with one port or without, and what else the route asks.

use std::sync::Arc;

use super::Request;
use super::criteria::{Criteria, HeaderPattern, SniPattern, ValuePattern};
use super::pattern::{Pattern, Shared};

/// One way to match a route, once the host's name is settled.
pub(super) struct Candidate {
    /// The route's index.
    pub(super) route: u32,
    /// The port its hosts name.
    pub(super) port: Option<u16>,
    /// What the path begins with: the prefix, or what all that the expression matches begins with.
    pub(super) start: Box<[u8]>,
    pub(super) pattern: Option<Pattern>,
    pub(super) asks: Option<Arc<Asks>>,
}

/// What a route asks of a request beside host and path.
pub(super) struct Asks {
    methods: Box<[Box<str>]>,
    snis: Box<[SniPattern]>,
    pub(super) headers: Box<[HeaderPattern]>,
}

impl Asks {
    /// `None` where nothing is asked.
    pub(super) fn of(criteria: &Criteria, shared: &mut Shared) -> Option<Arc<Self>> {
        if criteria.methods.is_empty() && criteria.snis.is_empty() && criteria.headers.is_empty() {
            return None;
        }
        let mut headers = criteria.headers.clone();
        for header in &mut headers {
            if let ValuePattern::Regex(pattern) = &mut header.value {
                *pattern = shared.one(pattern);
            }
        }
        // The cheap ones first.
        headers.sort_by_key(|header| matches!(header.value, ValuePattern::Regex(_)));
        Some(Arc::new(Self {
            methods: criteria.methods.as_slice().into(),
            snis: criteria.snis.as_slice().into(),
            headers: headers.into(),
        }))
    }

    fn allow(&self, request: &Request<'_>) -> bool {
        let method = request.head.method();
        (self.methods.is_empty() || self.methods.iter().any(|wanted| wanted.as_bytes() == method))
            && (self.snis.is_empty() || !request.tls || request.sni.is_some_and(|sni| self.allow_sni(sni)))
            && self.headers.iter().all(|header| has(header, request))
    }

    fn allow_sni(&self, sni: &str) -> bool {
        let name = sni.strip_suffix('.').unwrap_or(sni).as_bytes();
        self.snis.iter().any(|wanted| wanted.matches(name))
    }
}

/// Whether one of the fields of this name has one of the values.
fn has(header: &HeaderPattern, request: &Request<'_>) -> bool {
    let mut fields = request.head.fields().filter(|field| field.name.eq_ignore_ascii_case(header.name.as_bytes()));
    fields.any(|field| match &header.value {
        ValuePattern::OneOf(values) => values.iter().any(|value| field.value.eq_ignore_ascii_case(value.as_bytes())),
        ValuePattern::Regex(pattern) => pattern.matches_value(field.value),
    })
}

impl Candidate {
    /// How many bytes of the path it takes, if the request is its. Expressions run last.
    pub(super) fn matches(&self, request: &Request<'_>) -> Option<usize> {
        // An empty box has no memory behind it; comparing it costs a masked fault in libc's memcmp.
        if !self.start.is_empty() && !request.path.starts_with(&self.start)
            || self.port.is_some_and(|port| port != request.port)
            || self.asks.as_ref().is_some_and(|asks| !asks.allow(request))
        {
            return None;
        }
        match &self.pattern {
            None => Some(self.start.len()),
            Some(pattern) => pattern.match_path(request.path),
        }
    }
}
