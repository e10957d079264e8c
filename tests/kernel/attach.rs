//! The programs on interfaces, with a real client and server.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use edge_user::{
    kernel::{self, Attachment, Changes, Kernel, XdpVariant},
    settings::{self, Cidr, KernelMode},
};

use crate::namespace::{Hosts, INTERFACE, Namespace, enter};

pub(crate) fn settings(mode: KernelMode, interface: &str, deny: &[&str]) -> settings::Kernel {
    settings::Kernel { mode, interfaces: vec![interface.to_owned()], deny: networks(deny), ..Default::default() }
}

pub(crate) fn networks(texts: &[&str]) -> Vec<Cidr> {
    texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
}

fn start(hosts: &Hosts, deny: &[&str]) -> Kernel {
    hosts.server.run(|| kernel::start(&settings(KernelMode::Required, INTERFACE, deny)).unwrap())
}

pub(crate) fn count(kernel: &Kernel, name: &str) -> u64 {
    let counters = kernel.counters();
    counters.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no `{name}` in {counters:?}")).1
}

#[track_caller]
fn reaches(hosts: &Hosts, source: &str, server: &str, port: u16) {
    assert_eq!(hosts.connect(source, server, port).unwrap(), source);
}

#[track_caller]
fn is_dropped(hosts: &Hosts, source: &str, server: &str, port: u16) {
    let error = hosts.connect(source, server, port).expect_err("a denied source got through");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
}

/// X3, X4: a denied source is cut off, its neighbour is not, and nothing is left after the end.
#[test]
fn a_denied_client_is_cut_off_until_the_programs_end() {
    let hosts = Hosts::new();
    let port = hosts.serve();
    let kernel = start(&hosts, &["10.9.0.3", "fd00:9::3"]);
    let native = Attachment { interface: INTERFACE.to_owned(), variant: XdpVariant::Native };
    assert_eq!(kernel.attachments(), [native]);
    assert_eq!(hosts.server.program(INTERFACE), Some("xdp"));

    reaches(&hosts, "10.9.0.2", "10.9.0.1", port);
    reaches(&hosts, "fd00:9::2", "fd00:9::1", port);
    assert_eq!((count(&kernel, "denied_v4"), count(&kernel, "denied_v6")), (0, 0));
    assert!(count(&kernel, "passed") > 0);

    is_dropped(&hosts, "10.9.0.3", "10.9.0.1", port);
    assert!(count(&kernel, "denied_v4") > 0);
    is_dropped(&hosts, "fd00:9::3", "fd00:9::1", port);
    assert!(count(&kernel, "denied_v6") > 0);

    drop(kernel);
    assert_eq!(hosts.server.program(INTERFACE), None);
    reaches(&hosts, "10.9.0.3", "10.9.0.1", port);
    reaches(&hosts, "fd00:9::3", "fd00:9::1", port);
}

#[test]
fn changed_settings_take_effect_at_once() {
    let hosts = Hosts::new();
    let port = hosts.serve();
    let kernel = start(&hosts, &[]);
    let publish = |deny: &[&str], added, removed| {
        assert_eq!(kernel.publish_deny(&networks(deny)).unwrap(), Changes { added, removed });
    };
    reaches(&hosts, "10.9.0.3", "10.9.0.1", port);
    publish(&["10.9.0.2/31", "fd00:9::/64"], 2, 0);
    is_dropped(&hosts, "10.9.0.3", "10.9.0.1", port);
    publish(&["10.9.0.2/31", "fd00:9::/64"], 0, 0);
    publish(&["10.9.0.2/32", "10.9.0.2/32", "fd00:9::/64"], 1, 1);
    is_dropped(&hosts, "10.9.0.2", "10.9.0.1", port);
    reaches(&hosts, "10.9.0.3", "10.9.0.1", port);
    publish(&[], 0, 2);
    reaches(&hosts, "10.9.0.2", "10.9.0.1", port);
    reaches(&hosts, "fd00:9::2", "fd00:9::1", port);
}

#[test]
fn a_driver_without_native_mode_gets_the_generic_one() {
    let host = Namespace::new();
    let kernel = host.run(|| kernel::start(&settings(KernelMode::Required, "lo", &["127.0.0.3"])).unwrap());
    let generic = Attachment { interface: "lo".to_owned(), variant: XdpVariant::Generic };
    assert_eq!(kernel.attachments(), [generic]);
    assert_eq!(host.program("lo"), Some("xdpgeneric"));
    host.run(|| {
        let target = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = target.local_addr().unwrap();
        let send =
            |source: &str| std::net::UdpSocket::bind(source).unwrap().send_to(source.as_bytes(), address).unwrap();
        send("127.0.0.3:0");
        send("127.0.0.2:0");
        // On lo frames stay in order, so the first one to arrive tells that the other did not.
        let mut bytes = [0; 32];
        let (length, _) = target.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"127.0.0.2:0");
    });
    assert_eq!(count(&kernel, "denied_v4"), 1);
    drop(kernel);
    assert_eq!(host.program("lo"), None);
}

/// The interface stays with whom it belongs to.
#[test]
fn an_interface_with_a_program_is_refused() {
    let hosts = Hosts::new();
    let port = hosts.serve();
    let first = start(&hosts, &["10.9.0.3"]);
    let again = |mode| hosts.server.run(|| kernel::start(&settings(mode, INTERFACE, &[])));
    let error = again(KernelMode::Required).err().expect("a second program was attached").to_string();
    assert_eq!(error, "attaching to interface `edge0`");
    assert!(!again(KernelMode::Auto).unwrap().is_active());
    is_dropped(&hosts, "10.9.0.3", "10.9.0.1", port);
    drop(first);
    assert!(again(KernelMode::Required).unwrap().is_active());
}

const CHILD_NAMESPACE: &str = "EDGE_TEST_NAMESPACE";

/// Not a test: the process that `a_killed_process_leaves_nothing` kills.
#[test]
#[ignore = "run by a_killed_process_leaves_nothing"]
fn hold_until_killed() {
    let namespace = env::var(CHILD_NAMESPACE).expect("started by another test only");
    let kernel =
        enter(&namespace, || kernel::start(&settings(KernelMode::Required, INTERFACE, &["10.9.0.3"])).unwrap());
    assert!(kernel.is_active());
    println!("\nattached");
    io::stdin().read_line(&mut String::new()).unwrap();
}

/// X4: a crash leaves no program attached and no address blocked.
#[test]
fn a_killed_process_leaves_nothing() {
    let hosts = Hosts::new();
    let port = hosts.serve();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "attach::hold_until_killed", "--ignored", "--nocapture"])
        .env(CHILD_NAMESPACE, hosts.server.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let attached = lines.any(|line| line.unwrap() == "attached");
    let seen = hosts.server.program(INTERFACE);
    let blocked = hosts.connect("10.9.0.3", "10.9.0.1", port);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(attached, "the child did not attach");
    assert_eq!(seen, Some("xdp"));
    blocked.expect_err("a denied source got through");

    // The kernel closes a dead process's files a moment after it is gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    while hosts.server.program(INTERFACE).is_some() {
        assert!(Instant::now() < deadline, "a killed process left its program attached");
        std::thread::yield_now();
    }
    reaches(&hosts, "10.9.0.3", "10.9.0.1", port);
}

/// What the log says, for comparing.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// A subscriber of this level and above that writes here.
    pub(crate) fn subscriber(&self, level: &str) -> impl tracing_subscriber::util::SubscriberInitExt + use<> {
        let this = self.clone();
        tracing_subscriber::fmt().with_env_filter(level).with_ansi(false).with_writer(move || this.clone()).finish()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn at_debug_level_the_programs_log_what_they_drop() {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let hosts = Hosts::new();
    let port = hosts.serve();
    // For the whole process, as the edge does it: the programs' lines come by the `log` crate.
    let captured = Captured::default();
    captured.subscriber("debug").init();
    let mut kernel = start(&hosts, &["10.9.0.3", "fd00:9::3"]);
    let log = kernel.take_log().expect("debug is on");
    reaches(&hosts, "10.9.0.2", "10.9.0.1", port);
    is_dropped(&hosts, "10.9.0.3", "10.9.0.1", port);
    is_dropped(&hosts, "fd00:9::3", "fd00:9::1", port);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let expected = ["dropped a frame of denied source 10.9.0.3", "dropped a frame of denied source fd00:9::3"];
    runtime.block_on(async {
        let arrived = async {
            while !expected.iter().all(|line| captured.text().contains(line)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), arrived);
        tokio::select! {
            () = log.run() => unreachable!("it runs forever"),
            result = in_time => assert!(result.is_ok(), "{}", captured.text()),
        }
    });
    let text = captured.text();
    assert!(text.contains("kernel program attached") && text.contains(r#"mode="native""#), "{text}");
    assert!(!text.contains("source 10.9.0.2"), "{text}");
}
