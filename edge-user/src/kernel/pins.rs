//! What outlives the process, where `kernel.pin` says so: the programs on interfaces, the maps with denied and penalized
//! sources, and the counters. The next start replaces the programs without a gap and goes on with the maps.
//!
//! Elsewhere the same stands in a bpf file system that is mounted nowhere: it goes from one generation to the next as a
//! descriptor, and ends with the last process that holds it, however that ends.
//!
//! Below the directory: `maps-<ABI>/<MAP>`, and a link for each interface, `native-<INTERFACE>` or `generic-<INTERFACE>`.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use aya::programs::{
    Xdp,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use edge_ebpf::{ABI, COUNTERS, DENY_V4, DENY_V6, PENALTY_V4, PENALTY_V6};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{User, geteuid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use tracing::{debug, info, warn};

use super::{Attachment, Error, XdpVariant, loader};

/// The maps that are kept.
pub(super) const MAPS: [&str; 5] = [DENY_V4, DENY_V6, PENALTY_V4, PENALTY_V6, COUNTERS];
const MAPS_PREFIX: &str = "maps-";
const NATIVE_PREFIX: &str = "native-";
const GENERIC_PREFIX: &str = "generic-";

/// The directory of pins.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    /// The file system that the directory is the root of, where it is mounted nowhere.
    unmounted: Option<OwnedFd>,
}

impl Pins {
    /// Makes it ready, for `user` to end what it holds, and forgets what another version of the programs kept.
    pub(super) fn at(path: &Path, user: Option<&str>) -> Result<Self, Error> {
        Self { directory: path.to_owned(), unmounted: None }.prepare(user)
    }

    /// The same in the file system of the generation before, or in a new one. Nothing where the process may mount none
    /// (CAP_SYS_ADMIN): the programs are then attached anew by each generation.
    pub(super) fn unmounted(handed: Option<OwnedFd>, user: Option<&str>) -> Option<Self> {
        let unmounted = match handed.map_or_else(mount, Ok) {
            Ok(unmounted) => unmounted,
            Err(error) => {
                debug!(%error, "no bpf file system of its own: kernel programs are not handed over where they are");
                return None;
            }
        };
        let directory = PathBuf::from(format!("/proc/self/fd/{}", unmounted.as_raw_fd()));
        let prepared = Self { directory, unmounted: Some(unmounted) }.prepare(user);
        prepared.inspect_err(|error| warn!(reason = loader::chain(error), "kernel programs cannot be handed over")).ok()
    }

    /// The file system for the next generation, where it is not mounted for it to find.
    pub(super) fn handed(&self) -> Option<BorrowedFd<'_>> {
        self.unmounted.as_ref().map(OwnedFd::as_fd)
    }

    fn prepare(self, user: Option<&str>) -> Result<Self, Error> {
        let (this, path) = (&self, &self.directory);
        let failed = |source| Error::Pin { path: path.clone(), source };
        fs::create_dir_all(this.maps()).map_err(failed)?;
        if statfs(path).map_err(|error| failed(error.into()))?.filesystem_type() != BPF_FS_MAGIC {
            let _ = fs::remove_dir(this.maps());
            let message = "it is on no bpf file system: `mount -t bpf bpf /sys/fs/bpf`, and a directory there";
            return Err(failed(io::Error::other(message)));
        }
        let owner = user.and_then(|name| User::from_name(name).ok().flatten()).filter(|_| geteuid().is_root());
        for directory in [path, &this.maps()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
            if let Some(owner) = &owner {
                chown(directory, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).map_err(failed)?;
            }
        }
        for entry in fs::read_dir(path).map_err(failed)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(MAPS_PREFIX) && entry.path() != this.maps() {
                info!(path = %entry.path().display(), "forgetting what another version of the kernel programs kept");
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(self)
    }

    /// Where a map is kept.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    fn maps(&self) -> PathBuf {
        self.directory.join(format!("{MAPS_PREFIX}{ABI}"))
    }

    fn link(&self, attachment: &Attachment) -> PathBuf {
        let prefix = match attachment.variant {
            XdpVariant::Native => NATIVE_PREFIX,
            XdpVariant::Generic => GENERIC_PREFIX,
        };
        // The file system takes no dots (bpf_lookup); names of VLANs have them.
        let interface = attachment.interface.replace('%', "%25").replace('.', "%2e");
        self.directory.join(format!("{prefix}{interface}"))
    }

    /// Puts the program in the place of the one that was left on an interface; nothing where none was.
    pub(super) fn adopt(&self, program: &mut Xdp, interface: &str) -> Option<(Attachment, Held)> {
        for variant in [XdpVariant::Native, XdpVariant::Generic] {
            let attachment = Attachment { interface: interface.to_owned(), variant };
            let path = self.link(&attachment);
            let Ok(pinned) = PinnedLink::from_pin(&path) else { continue };
            let replaced = XdpLink::try_from(FdLink::from(pinned))
                .map_err(|error| error.to_string())
                .and_then(|link| replace(program, link));
            match replaced {
                Ok(link) => {
                    info!(interface, "kernel program replaced where the last one was left");
                    return Some((attachment, Held { link, pin: Some(path) }));
                }
                // Its interface went away and came again, say.
                Err(reason) => {
                    warn!(interface, reason, "what was left on the interface is of no use");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        None
    }

    /// Keeps a link.
    pub(super) fn keep(&self, attachment: &Attachment, link: XdpLink) -> Result<Held, Error> {
        let path = self.link(attachment);
        let failed = |error: String| Error::Pin { path: path.clone(), source: io::Error::other(error) };
        let link = FdLink::try_from(link).map_err(|error| failed(error.to_string()))?;
        let pinned = link.pin(&path).map_err(|error| failed(error.to_string()))?;
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| failed(error.to_string()))?;
        Ok(Held { link, pin: Some(path) })
    }

    /// Takes the programs off interfaces that the settings do not name any more.
    pub(super) fn clean(&self, held: &[Held]) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_link = name.starts_with(NATIVE_PREFIX) || name.starts_with(GENERIC_PREFIX);
            if is_link && !held.iter().any(|held| held.pin.as_ref() == Some(&path)) {
                info!(path = %path.display(), "kernel program taken off an interface that is not named any more");
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Puts the program in the place of the one that a link holds.
fn replace(program: &mut Xdp, link: XdpLink) -> Result<XdpLink, String> {
    let replaced = program.attach_to_link(link).and_then(|id| program.take_link(id));
    replaced.map_err(|error| loader::chain(&error))
}

/// A bpf file system, mounted nowhere.
fn mount() -> io::Result<OwnedFd> {
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// A program on an interface, and where it is kept.
pub(super) struct Held {
    link: XdpLink,
    pin: Option<PathBuf>,
}

impl Held {
    /// One that ends with the process.
    pub(super) fn of(link: XdpLink) -> Self {
        Self { link, pin: None }
    }

    /// Whether another process can take it up.
    pub(super) fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// Puts the program there once more, in the place of one that another generation put there.
    pub(super) fn restore(self, program: &mut Xdp) -> Option<Self> {
        match replace(program, self.link) {
            Ok(link) => Some(Self { link, pin: self.pin }),
            Err(reason) => {
                warn!(reason, "the program of a generation that does not serve stays on its interface");
                None
            }
        }
    }

    /// Takes the program off.
    pub(super) fn end(self) {
        if let Some(pin) = &self.pin
            && let Err(error) = fs::remove_file(pin)
        {
            warn!(path = %pin.display(), %error, "the kernel program stays on its interface");
        }
        drop(self.link);
    }
}
