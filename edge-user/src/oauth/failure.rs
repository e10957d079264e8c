//! Why an issuer's endpoint gives no answer: faults of the issuer's or of ours, never verdicts.

/// What a client is told to wait for where nothing better is known.
pub(super) const RETRY_SECS: u32 = 1;
/// The same while the issuer refuses the edge: somebody has to change a configuration.
const CREDENTIALS_SECS: u32 = 10;

/// An answer that is none. The text says why, and nothing of what came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer is malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// No connection, no TLS session, or a connection that broke.
    Transport,
    /// No whole answer in time.
    Timeout,
    /// 5xx or 429.
    Status(u16),
    /// The issuer refuses the edge's own credentials.
    Credentials,
    /// Not what was asked for.
    Malformed(Malformed),
    /// Too many calls at once.
    Busy,
    /// It failed before, and the next try is not due.
    Open,
    /// The issuer's metadata is not known.
    Undiscovered,
    /// Neither the configuration nor the issuer names the endpoint.
    NoEndpoint,
    /// What is named cannot be called.
    BadEndpoint,
}

impl FailureKind {
    /// The fault in words of the edge's own.
    pub fn fault(self) -> &'static str {
        match self {
            Self::Transport => "the connection failed",
            Self::Timeout => "no answer in time",
            Self::Status(_) => "the answer has an error status",
            Self::Credentials => "the issuer refuses the edge's own credentials",
            Self::Malformed(Malformed(_)) => "the answer is malformed",
            Self::Busy => "too many calls wait for this endpoint",
            Self::Open => "the endpoint is left alone after failures",
            Self::Undiscovered => "the issuer's metadata is not known",
            Self::NoEndpoint => "no endpoint is configured or discovered",
            Self::BadEndpoint => "the endpoint that the issuer names cannot be called",
        }
    }
}

/// The fault, and what more is known of it.
impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.fault())?;
        match self {
            Self::Status(status) => write!(f, ": {status}"),
            Self::Malformed(Malformed(why)) => write!(f, ": {why}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for FailureKind {}

impl From<Malformed> for FailureKind {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A call without an answer: a fault of the issuer's or of ours, never of a client's token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// For `Retry-After`.
    pub retry_after_secs: u32,
}

impl From<FailureKind> for Failure {
    fn from(kind: FailureKind) -> Self {
        let retry_after_secs = match kind {
            FailureKind::Credentials | FailureKind::NoEndpoint | FailureKind::BadEndpoint => CREDENTIALS_SECS,
            _ => RETRY_SECS,
        };
        Self { kind, retry_after_secs }
    }
}
