//! The edge as a library: everything but argument parsing, so that tests and fuzz targets reach it.
#![deny(unsafe_code)]

pub mod admin;
pub mod app;
pub mod balancer;
pub mod clock;
pub mod config;
pub mod control;
pub mod crypto;
pub mod dns;
pub mod doctor;
pub mod echo;
pub mod explain;
pub mod http;
pub mod http_client;
pub mod http_server;
pub mod identity;
pub mod kept;
pub mod kernel;
pub mod metrics;
pub mod oauth;
pub mod penalty;
pub mod plugin;
pub mod proxy;
pub mod reason;
pub mod redis;
pub mod rejection;
pub mod router;
pub mod routes;
pub mod settings;
pub mod state;
pub mod store;
mod stream;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod trace;
pub mod worker;
