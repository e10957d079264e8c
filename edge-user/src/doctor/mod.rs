//! `edge doctor`: looks for faults around a configuration before its users find them.
//!
//! It asks what the edge would ask, by the same rules, and changes nothing: no listener, no grant, no file, no attached
//! program.

mod host;
mod issuer;
mod report;

use std::error::Error as StdError;
use std::io;
use std::path::Path;

pub use self::report::{Finding, Level, Report};

use crate::app;
use crate::config::problem::Problems;
use crate::plugin::Plugin;

/// Why nothing can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime.
    #[error("no runtime")]
    Runtime(#[from] io::Error),
    /// The configuration is not one.
    #[error(transparent)]
    Configuration(#[from] Problems),
}

/// Looks at everything that the configuration leads to.
pub fn examine(path: &Path) -> Result<Report, Error> {
    crate::crypto::install();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, snapshot, env) = app::load_apart(path, &control)?;
    let mut report = Report::default();
    let warnings: Vec<&String> = settings.warnings.iter().chain(&snapshot.warnings).collect();
    report.ok("configuration", &settings.file, format!("no problems, {} remarks", warnings.len()));
    for warning in warnings {
        report.warn("configuration", &settings.file, warning.clone(), "see `edge check`");
    }
    // Routes share issuers.
    let mut seen: Vec<[u8; 32]> = Vec::new();
    for route in &snapshot.routes {
        for instance in route.plugins.slots.iter().flat_map(|slot| slot.defaults.iter()) {
            let mut is_new = |id: &[u8; 32]| {
                !seen.contains(id) && {
                    seen.push(*id);
                    true
                }
            };
            match &instance.1.plugin {
                Plugin::OpenidConnect(plugin) if is_new(plugin.validator().id()) => {
                    control.block_on(issuer::examine(plugin, &route.label, &mut report));
                }
                Plugin::JwtSigner(plugin) if plugin.validators().any(|(_, validator)| is_new(validator.id())) => {
                    control.block_on(issuer::examine_signer(plugin, &route.label, &mut report));
                }
                _ => {}
            }
        }
    }
    control.block_on(host::names(&settings, &snapshot, control.handle().clone(), &mut report));
    host::certificates(&snapshot, &mut report);
    host::freshness(&snapshot, &mut report);
    control.block_on(host::redis(&env, &mut report));
    host::store(&settings, &mut report);
    host::descriptors(&settings, &mut report);
    host::kernel(&settings.kernel, &mut report);
    host::admin(&settings, &mut report);
    Ok(report)
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    printable(&text)
}

/// A text without what could move a terminal's cursor: issuers have their say in some.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}
