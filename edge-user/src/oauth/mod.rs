//! The edge as an OAuth client: how it shows who it is (`client`), how one endpoint of an issuer is called (`target`,
//! `endpoint`), and what is asked there (`introspection`).
//!
//! Everything here runs on the control runtime. What comes back is read strictly; whatever is not a clear answer is a
//! `Failure`, which is never a verdict on a client's token.

mod breaker;
pub mod client;
pub mod endpoint;
mod extras;
pub mod failure;
pub mod fleet;
pub mod introspection;
pub mod kept;
pub mod keys;
mod latency;
pub mod legacy_exchange;
pub mod own_grant;
pub mod request;
mod settings;
pub mod shared;
mod signed;
pub mod target;
#[cfg(test)]
mod testing;
pub mod token_endpoint;
pub mod tokens;
pub mod userinfo;

pub use client::{Client, Clients, Method};
pub use endpoint::{Endpoint, Endpoints, Purpose};
pub use failure::{Failure, FailureKind, Malformed};
pub use introspection::{Extras, Introspection, Said};
pub use keys::GeneratedKeys;
pub use request::{Form, Request};
pub use target::Target;
