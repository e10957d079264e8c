//! What the process may still do once it serves.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use edge_tests::edge::Setup;
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::json;

use super::{entities, open};

/// A field of `/proc/PID/task/TID/status`, of every thread.
fn of_all_threads(pid: u32, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the edge runs");
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap_or_default();
    let value = |text: String| {
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default().to_owned();
        line[field.len()..].trim().to_owned()
    };
    tasks.flatten().map(status).filter(|text| !text.is_empty()).map(value).collect()
}

#[test]
fn an_ordinary_user_without_capabilities_serves_and_reloads() {
    // X5, B1
    assert!(nix::unistd::geteuid().is_root(), "this test starts the edge as root");
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).section("[process]\nuser = \"nobody\"").folder_mode(0o777).start();
    assert_eq!(edge.ask(get("/a", &[])).status(), 200);
    let pid = edge.pid();
    let nobody = nix::unistd::User::from_name("nobody").expect("readable").expect("every system has it").uid.as_raw();
    for uids in of_all_threads(pid, "Uid:") {
        assert!(uids.split_whitespace().all(|uid| uid == nobody.to_string()), "{uids}");
    }
    for field in ["CapEff:", "CapPrm:"] {
        for set in of_all_threads(pid, field) {
            assert_eq!(u64::from_str_radix(&set, 16), Ok(0), "{field}");
        }
    }
    edge.reload(&entities(&upstream.url(), json!([{"name": "one", "paths": ["/b"]}])), "reload");
    let end = std::time::Instant::now() + edge_tests::edge::READY;
    while edge.ask(get("/b", &[])).status() != 200 {
        assert!(std::time::Instant::now() < end, "the new routes are not in force");
    }
}

#[test]
fn files_the_user_could_not_read_are_found_by_check() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    let setup = Setup::new(open("http://127.0.0.1:9"))
        .section("[process]\nuser = \"nobody\"\n[store]\npath = \"/tmp/edge.db\"");
    let config = setup.write(folder.path(), edge_tests::edge::free_address()).expect("written");
    let check = || {
        let edge = edge_tests::edge::binary();
        std::process::Command::new(edge).arg("check").arg("--config").arg(&config).output().expect("it runs")
    };
    let entities = folder.path().join("kong.yaml");
    fs::set_permissions(&entities, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let refused = check();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("entities.file") && said.contains("nobody"), "{said}");
    fs::set_permissions(&entities, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let taken = check();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}
