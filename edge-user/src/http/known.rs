//! Field names the edge itself looks at, each found by one look at a table made at compile time.

macro_rules! known {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// Field names the edge itself looks at; everything else is `Other`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is the field of that name")]
        pub enum Known { Other, $($variant),+ }

        const KNOWN: &[(Known, &str)] = &[$((Known::$variant, $text)),+];

        impl Known {
            /// The usual spelling; empty for `Other`.
            pub fn spelling(self) -> &'static str {
                match self { Self::Other => "", $(Self::$variant => $text),+ }
            }
        }
    };
}

impl Known {
    /// Whether proxies tell by it where a request came from.
    pub fn tells_origin(self) -> bool {
        matches!(
            self,
            Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedPath
                | Self::XForwardedPrefix
                | Self::XRealIp
                | Self::Forwarded
        )
    }

    /// The tag of a field name, compared without case (RFC 9110, 5.1).
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        // One look at length and first letter leaves no more than a name or two to compare.
        let (mut index, end) = match PLACES.get(place(name.len(), *first)) {
            Some((start, end)) => (usize::from(*start), usize::from(*end)),
            None => return Self::Other,
        };
        while index < end {
            let (known, text) = KNOWN[usize::from(ORDER[index])];
            if text.len() == name.len() && name.eq_ignore_ascii_case(text.as_bytes()) {
                return known;
            }
            index += 1;
        }
        Self::Other
    }
}

/// Names of this many bytes, and longer ones, are not known.
pub const KNOWN_BYTES: usize = 32;
const PLACE_COUNT: usize = KNOWN_BYTES * 32;

const fn place(length: usize, first: u8) -> usize {
    // ASCII letters of both cases share their low five bits.
    if length >= KNOWN_BYTES { usize::MAX } else { length * 32 + (first & 31) as usize }
}

/// `KNOWN` sorted by place, and for each place where its names stand in that order.
const ORDER: [u8; KNOWN.len()] = order();
static PLACES: [(u8, u8); PLACE_COUNT] = places();

const fn place_of(index: usize) -> usize {
    let text = KNOWN[index].1.as_bytes();
    place(text.len(), text[0])
}

const fn order() -> [u8; KNOWN.len()] {
    let mut order = [0; KNOWN.len()];
    let mut count = 0;
    while count < KNOWN.len() {
        let mut at = count;
        while at > 0 && place_of(order[at - 1] as usize) > place_of(count) {
            order[at] = order[at - 1];
            at -= 1;
        }
        order[at] = count as u8;
        count += 1;
    }
    order
}

const fn places() -> [(u8, u8); PLACE_COUNT] {
    let mut places = [(0, 0); PLACE_COUNT];
    let mut index = 0;
    while index < KNOWN.len() {
        let place = place_of(ORDER[index] as usize);
        if places[place].1 == 0 {
            places[place].0 = index as u8;
        }
        places[place].1 = index as u8 + 1;
        index += 1;
    }
    places
}

known! {
    Host = "Host",
    ContentLength = "Content-Length",
    TransferEncoding = "Transfer-Encoding",
    Connection = "Connection",
    Authorization = "Authorization",
    UserAgent = "User-Agent",
    Accept = "Accept",
    ContentType = "Content-Type",
    Date = "Date",
    Server = "Server",
    KeepAlive = "Keep-Alive",
    ProxyConnection = "Proxy-Connection",
    Te = "TE",
    Trailer = "Trailer",
    Upgrade = "Upgrade",
    Http2Settings = "HTTP2-Settings",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyAuthenticate = "Proxy-Authenticate",
    Expect = "Expect",
    Via = "Via",
    Forwarded = "Forwarded",
    XForwardedFor = "X-Forwarded-For",
    XForwardedProto = "X-Forwarded-Proto",
    XForwardedHost = "X-Forwarded-Host",
    XForwardedPort = "X-Forwarded-Port",
    XForwardedPath = "X-Forwarded-Path",
    XForwardedPrefix = "X-Forwarded-Prefix",
    XRealIp = "X-Real-IP",
    XKongRequestId = "X-Kong-Request-Id",
    XKongUpstreamLatency = "X-Kong-Upstream-Latency",
    XKongProxyLatency = "X-Kong-Proxy-Latency",
    WwwAuthenticate = "WWW-Authenticate",
    RetryAfter = "Retry-After",
    Location = "Location",
    Cookie = "Cookie",
    Dpop = "DPoP",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (known, text) in KNOWN {
            assert_eq!(Known::of(text.as_bytes()), *known, "{text}");
            assert_eq!(Known::of(text.to_ascii_lowercase().as_bytes()), *known, "{text}");
            assert_eq!(Known::of(text.to_ascii_uppercase().as_bytes()), *known, "{text}");
            assert_eq!(Known::of(format!("{text}x").as_bytes()), Known::Other, "{text}x");
        }
        for other in ["", "Hosu", "Tost", "X-Kong-Request-Ie", &"h".repeat(100), "\u{7}ost"] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
        }
    }
}
