//! The local routes to the virtual addresses in force.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;

use crate::kernel::Kernel;
use crate::routes::{Changed, Error, Routes};
use crate::settings::{Cidr, Settings};

/// Those of the running edge; none where it has no virtual addresses.
#[derive(Clone, Default)]
pub(super) struct LocalRoutes(Option<Arc<Mutex<Routes>>>);

impl LocalRoutes {
    /// Sets them. `adopt`: another generation, which this one takes over from, may have set them already.
    pub(super) fn start(settings: &Settings, kernel: &Kernel, adopt: bool) -> anyhow::Result<Self> {
        if !settings.kernel.has_vips || !kernel.is_active() {
            return Ok(Self::default());
        }
        let routes = Routes::start(settings.process.user.as_deref()).context("local routes to `vips`")?;
        let this = Self(Some(Arc::new(Mutex::new(routes))));
        this.apply(settings, adopt);
        Ok(this)
    }

    /// Changes them to what the settings say.
    pub(super) fn set(&self, settings: &Settings) {
        self.apply(settings, false);
    }

    fn apply(&self, settings: &Settings, adopt: bool) {
        let prefixes: Vec<Cidr> = settings.listeners.iter().flat_map(|listener| listener.vips.clone()).collect();
        self.report(|routes| routes.have(&prefixes, adopt));
    }

    /// Leaves them to the next generation.
    pub(super) fn leave(&self) {
        self.report(Routes::leave);
    }

    fn report(&self, order: impl FnOnce(&mut Routes) -> Result<Changed, Error>) {
        let Some(routes) = &self.0 else { return };
        match order(&mut routes.lock().unwrap_or_else(PoisonError::into_inner)) {
            Ok(Changed { added, removed, refused }) => {
                added.iter().for_each(|prefix| tracing::info!(%prefix, "local route added"));
                removed.iter().for_each(|prefix| tracing::info!(%prefix, "local route removed"));
                refused.iter().for_each(|prefix| tracing::error!(%prefix, "the kernel refuses a local route"));
            }
            Err(error) => {
                tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "local routes could not be set");
            }
        }
    }
}
