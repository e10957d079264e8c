//! What the process must be allowed to do, and what it says where it is not.

use std::{env, process::Command, thread};

use caps::{CapSet, Capability, CapsHashSet};
use edge_user::{
    kernel::{self, Changes, Error, Kernel},
    settings::{self, KernelMode},
};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::{
    attach::{Captured, networks, settings},
    namespace::{INTERFACE, Namespace},
};

/// A host with an interface that can take a program.
fn host() -> Namespace {
    let host = Namespace::new();
    host.ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", "edge1"]);
    host
}

/// Runs the work with these capabilities alone: they are each thread's own.
fn with_capabilities<T: Send>(keep: &[Capability], work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            let keep: CapsHashSet = keep.iter().copied().collect();
            caps::set(None, CapSet::Effective, &keep).unwrap();
            caps::set(None, CapSet::Permitted, &keep).unwrap();
            work()
        });
        unprivileged.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Starts with these capabilities alone, and gives what was logged.
fn start_with(host: &Namespace, keep: &[Capability], mode: KernelMode) -> (Result<Kernel, Error>, String) {
    host.run(|| {
        with_capabilities(keep, || {
            let captured = Captured::default();
            let guard = captured.subscriber("info").set_default();
            let started = kernel::start(&settings(mode, INTERFACE, &["192.0.2.1"]));
            drop(guard);
            (started, captured.text())
        })
    })
}

/// X1: without the privilege the edge runs nevertheless, and says once what is missing.
#[test]
fn auto_names_what_is_missing_once() {
    let host = host();
    let check = |keep: &[Capability], missing: Option<&str>| {
        let (started, log) = start_with(&host, keep, KernelMode::Auto);
        let kernel = started.unwrap();
        assert_eq!(kernel.is_active(), missing.is_none(), "{keep:?}: {log}");
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
        match missing {
            None => assert!(warnings.is_empty(), "{keep:?}: {log}"),
            Some(missing) => {
                assert_eq!(warnings.len(), 1, "{keep:?}: {log}");
                assert!(warnings[0].contains(&format!("needs {missing};")), "{keep:?}: {log}");
                assert!(kernel.counters().is_empty() && kernel.attachments().is_empty());
                let nothing = kernel.publish_deny(&networks(&["192.0.2.2"])).unwrap();
                assert_eq!(nothing, Changes::default());
            }
        }
        drop(kernel);
        assert_eq!(host.program(INTERFACE), None);
    };
    let (bpf, net, perfmon) = (Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON);
    check(&[], Some("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"));
    check(&[net, perfmon], Some("CAP_BPF"));
    check(&[bpf, perfmon], Some("CAP_NET_ADMIN"));
    check(&[bpf, net], Some("CAP_PERFMON"));
    check(&[bpf, net, perfmon], None);
    check(&[Capability::CAP_SYS_ADMIN], Some("CAP_NET_ADMIN"));
    check(&[Capability::CAP_SYS_ADMIN, net], None);
}

#[test]
fn required_does_not_start_without() {
    let host = host();
    let (started, log) = start_with(&host, &[], KernelMode::Required);
    let error = started.err().expect("it started").to_string();
    assert!(error.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{error}");
    assert!(log.is_empty(), "{log}");
    assert!(start_with(&host, &[], KernelMode::Off).0.unwrap().attachments().is_empty());

    let unknown = |mode| host.run(|| kernel::start(&settings(mode, "eth99", &[])));
    assert!(matches!(unknown(KernelMode::Required), Err(Error::Attach { interface, .. }) if interface == "eth99"));
    assert!(!unknown(KernelMode::Auto).unwrap().is_active());

    let nowhere = |mode| kernel::start(&settings::Kernel { mode, ..Default::default() });
    assert!(matches!(nowhere(KernelMode::Required), Err(Error::NoInterface)));
    assert!(!nowhere(KernelMode::Auto).unwrap().is_active());
}

/// X5: what runs after the start needs no privilege.
#[test]
fn maps_are_written_and_read_after_privileges_are_gone() {
    let host = host();
    let kernel = host.run(|| kernel::start(&settings(KernelMode::Required, INTERFACE, &["192.0.2.1"]))).unwrap();
    with_capabilities(&[], || {
        let deny = networks(&["192.0.2.2", "2001:db8::/32"]);
        assert_eq!(kernel.publish_deny(&deny).unwrap(), Changes { added: 2, removed: 1 });
        assert_eq!(kernel.publish_deny(&[]).unwrap(), Changes { added: 0, removed: 2 });
        assert_eq!(kernel.counters().len(), edge_ebpf::Counter::ALL.len());
    });
    assert!(kernel.is_active());
    with_capabilities(&[], || drop(kernel));
    assert_eq!(host.program(INTERFACE), None);
}

/// An edge of an ordinary user in a namespace with an interface, asked once; what it logged.
fn ordinary(capabilities: &str, mode: &str) -> (Namespace, edge_tests::edge::Edge) {
    let host = host();
    let upstream = host.run(edge_tests::upstream::Upstream::start);
    let entities = serde_json::json!({"_format_version": "3.0", "services": [
        {"name": "up", "url": upstream.url(), "routes": [{"name": "all", "paths": ["/"]}]}]});
    let edge = edge_tests::edge::Setup::new(entities.to_string())
        .within(host.name())
        .listener("address = \"127.0.0.1:8000\"")
        .section(&format!("[kernel]\nmode = \"{mode}\"\ninterfaces = [\"{INTERFACE}\"]\nlanes = true"))
        .folder_mode(0o777)
        .as_user("nobody", capabilities)
        .start();
    let answer = host.run(|| edge.ask(edge_tests::wire::get("/", &[])));
    assert_eq!(answer.status(), 200);
    (host, edge)
}

/// X5: nobody needs root. With the three capabilities the programs run, and afterwards none is left.
#[test]
fn an_ordinary_user_with_three_capabilities_runs_the_programs() {
    let (host, edge) = ordinary("+bpf,+net_admin,+perfmon", "required");
    assert_eq!(host.program(INTERFACE), Some("xdp"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.pid())).unwrap();
    for set in ["CapEff:", "CapPrm:", "CapAmb:"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    let output = edge.command(&["kernel", "status"]);
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(status.contains(&format!("attached     {INTERFACE}: XDP, native")), "{status}");
    for program in [edge_ebpf::XDP_PROGRAM, edge_ebpf::LANE_PROGRAM, edge_ebpf::VIP_PROGRAM] {
        assert!(status.contains(&format!("program      {program}: ")), "{status}");
    }
    edge.stop();
    assert_eq!(host.program(INTERFACE), None);
}

/// X1: with none it serves as well, and says once what it lacks.
#[test]
fn an_ordinary_user_without_capabilities_serves_without_programs() {
    let (host, edge) = ordinary("", "auto");
    let line = edge.logged("no kernel program runs");
    assert!(line.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{line}");
    assert_eq!(host.program(INTERFACE), None);
    edge.stop();
}

/// Not a test: what `a_user_namespace_is_told_apart` runs in one.
#[test]
#[ignore = "run by a_user_namespace_is_told_apart"]
fn start_and_tell() {
    let started = kernel::start(&settings(KernelMode::Required, "lo", &[]));
    println!("\nerror: {}", started.err().expect("it started"));
}

/// In a user namespace capabilities look complete and count for nothing.
#[test]
fn a_user_namespace_is_told_apart() {
    crate::require_root();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "privileges::start_and_tell", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "error: the kernel forbids loading BPF programs here, as in a container or a user namespace";
    assert!(text.lines().any(|line| line == expected), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
