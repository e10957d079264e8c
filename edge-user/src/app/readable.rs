//! What `[process] user` must be able to read once privileges are gone: found before the start, not at the first
//! reload.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{User, getgrouplist};

use crate::config::problem::Problem;
use crate::settings::{Listener, Settings};

/// The files a reload reads, and the store's folder, that the user cannot use. Nothing without `[process] user`.
pub(super) fn problems<'s>(config: &'s Path, settings: &'s Settings) -> Vec<Problem> {
    let Some(name) = &settings.process.user else { return Vec::new() };
    let problem = |path: &str, found: String, expected: String| Problem {
        file: settings.file.as_str().into(),
        line: 0,
        path: path.to_owned(),
        found,
        expected,
    };
    let Some(user) = User::from_name(name).ok().flatten() else {
        return vec![problem("process.user", format!("{name:?}, who does not exist"), "a user of this system".into())];
    };
    let groups = CString::new(name.as_str()).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
    let groups: Vec<u32> = groups.unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
    let who = Who { uid: user.uid.as_raw(), groups };
    let mut wanted = vec![("", config, READ), ("entities.file", &settings.entities.file, READ)];
    wanted.extend(settings.dns.hosts_file.as_deref().map(|path| ("dns.hosts_file", path, READ)));
    wanted.extend(settings.secrets.key_file.as_deref().map(|path| ("secrets.key_file", path, READ)));
    for pair in settings.listeners.iter().filter_map(|listener| listener.pair.as_ref()) {
        wanted.push(("listeners.certificate", &pair.certificate, READ));
        wanted.push(("listeners.key", &pair.key, READ));
    }
    let hosts = |listener: &'s Listener| listener.hosts.iter().map(|host| &host.clients);
    for rules in settings.listeners.iter().flat_map(|listener| [&listener.clients].into_iter().chain(hosts(listener))) {
        wanted.extend(rules.ca.as_deref().map(|path| ("listeners.client_ca", path, READ)));
        wanted.extend(rules.crl.iter().map(|path| ("listeners.client_crl", path.as_path(), READ)));
    }
    wanted.extend(settings.tls.ocsp_responses.iter().map(|path| ("tls.ocsp_responses", path.as_path(), READ)));
    let servers = settings.identity.iter().flat_map(|identity| &identity.servers);
    wanted.extend(
        servers.filter_map(|server| Some(("identity.servers.signing_key", server.signing_key.as_deref()?, READ))),
    );
    wanted.push(("store.path", settings.store.path.parent().unwrap_or(Path::new("/")), WRITE));
    wanted
        .into_iter()
        .filter(|(_, path, bit)| !who.may(path, *bit))
        .map(|(key, path, bit)| {
            let what = if bit == READ { "read" } else { "write in" };
            let found = format!("{}, which process.user {name:?} cannot {what}", path.display());
            problem(key, found, "a place that user may use: it runs the edge after the start".into())
        })
        .collect()
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

struct Who {
    uid: u32,
    groups: Vec<u32>,
}

impl Who {
    /// By the permission bits of the path and of every folder above it. A path that is not there is another check's.
    fn may(&self, path: &Path, bit: u32) -> bool {
        let Ok(path) = path.canonicalize() else { return true };
        self.has(&path, bit) && path.ancestors().skip(1).all(|folder| self.has(folder, SEARCH))
    }

    fn has(&self, path: &Path, bit: u32) -> bool {
        let Ok(metadata) = fs::metadata(path) else { return true };
        let shift = match () {
            () if metadata.uid() == self.uid => 6,
            () if self.groups.contains(&metadata.gid()) => 3,
            () => 0,
        };
        metadata.mode() >> shift & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn bits_of_the_file_and_of_its_folders_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kong.yaml");
        fs::write(&file, "").unwrap();
        let stranger = Who { uid: u32::MAX - 7, groups: vec![u32::MAX - 7] };
        for (folder_mode, file_mode, may) in [(0o755, 0o644, true), (0o700, 0o644, false), (0o755, 0o640, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(folder_mode)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(file_mode)).unwrap();
            assert_eq!(stranger.may(&file, READ), may, "{folder_mode:o} {file_mode:o}");
        }
        let owner = Who { uid: fs::metadata(&file).unwrap().uid(), groups: Vec::new() };
        assert!(owner.has(&file, READ) && owner.has(&file, WRITE) && !owner.has(&file, SEARCH));
    }
}
