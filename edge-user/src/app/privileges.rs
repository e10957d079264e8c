//! The step down from root or from capabilities, once everything that needs them is done (X5).

use std::ffi::CString;

use anyhow::{Context as _, bail};
use caps::CapSet;
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

/// Becomes `user`, where one is configured, and gives up every capability. Threads started before keep the new user
/// as well: the C library changes it for all of them.
pub(super) fn drop(user: Option<&str>) -> anyhow::Result<()> {
    match user {
        Some(name) if geteuid().is_root() => become_user(name)?,
        Some(name) => {
            let current = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
            if current.as_deref() != Some(name) {
                bail!("[process] user = {name:?}: only root can become another user");
            }
        }
        None if geteuid().is_root() => {
            tracing::warn!("running as root: name an ordinary user in [process] user");
            return Ok(());
        }
        None => {}
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).with_context(|| format!("giving up {set:?} capabilities"))?;
    }
    Ok(())
}

fn become_user(name: &str) -> anyhow::Result<()> {
    let user = User::from_name(name)?.with_context(|| format!("[process] user = {name:?}: no such user"))?;
    if user.uid.is_root() {
        bail!("[process] user = {name:?} is root");
    }
    initgroups(&CString::new(name)?, user.gid).context("setting the groups")?;
    setgid(user.gid).context("setting the group")?;
    setuid(user.uid).context("setting the user")?;
    tracing::info!(user = name, "privileges dropped");
    Ok(())
}
