//! Debian's Redis as a cluster, which keeps nothing. It serves on without the slots of a node that is lost.

use std::time::{Duration, Instant};

use super::redis::Redis;
use crate::certs;
use crate::edge::free_address;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// One node, and the ports beside that of its address.
struct Node {
    redis: Redis,
    /// For TLS, where the cluster has that.
    tls: Option<u16>,
    bus: u16,
    _dir: tempfile::TempDir,
}

impl Node {
    fn start(tls: bool, options: &[&str]) -> Self {
        let (dir, bus) = (tempfile::tempdir().expect("a folder"), free_address().port());
        let mut words = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"].map(str::to_owned).to_vec();
        let mut set = |name: &str, value: &str| words.extend([format!("--{name}"), value.to_owned()]);
        set("cluster-port", &bus.to_string());
        set("cluster-require-full-coverage", "no");
        set("repl-diskless-sync-delay", "0");
        let tls = tls.then(|| free_address().port());
        if let Some(port) = tls {
            let file = |name: &str, text: &str| {
                let path = dir.path().join(name);
                std::fs::write(&path, text).expect("a file");
                path.to_str().expect("UTF-8").to_owned()
            };
            let pair = certs::server();
            set("tls-port", &port.to_string());
            set("tls-cluster", "yes");
            set("tls-auth-clients", "no");
            set("tls-cert-file", &file("tls.crt", &pair.certificate));
            set("tls-key-file", &file("tls.key", &pair.key));
            set("tls-ca-cert-file", &file("ca.crt", certs::root()));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).chain(options.iter().copied()).collect();
        Self { redis: Redis::at(free_address(), &words), tls, bus, _dir: dir }
    }

    /// Where clients and other nodes ask it.
    fn port(&self) -> u16 {
        self.tls.unwrap_or_else(|| self.redis.address().port())
    }

    fn ask(&self, words: &[&str]) -> String {
        self.redis.command(words).expect("an answer")
    }

    fn must(&self, words: &[&str]) {
        assert_eq!(self.ask(words), "OK", "{words:?}");
    }
}

/// Masters that have the slots in equal shares, in order, on loopback.
pub struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Each node with more options than a cluster alone needs.
    pub fn start(masters: usize, options: &[&str]) -> Self {
        Self::of((0..masters).map(|_| Node::start(false, options)).collect())
    }

    /// Clients are served over TLS, by the certificate of `certs::server`.
    pub fn over_tls(masters: usize) -> Self {
        Self::of((0..masters).map(|_| Node::start(true, &[])).collect())
    }

    fn of(nodes: Vec<Node>) -> Self {
        for (index, node) in nodes.iter().enumerate() {
            node.must(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            let edge = |index: usize| SLOTS * index / nodes.len();
            let (first, last) = (edge(index).to_string(), (edge(index + 1) - 1).to_string());
            node.must(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes[1..] {
            cluster.meet(node);
        }
        cluster.agree(cluster.nodes.len());
        cluster
    }

    fn meet(&self, node: &Node) {
        self.nodes[0].must(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &node.bus.to_string()]);
    }

    /// Waits until all know each other and every slot.
    fn agree(&self, count: usize) {
        let known = format!("cluster_known_nodes:{count}\r\n");
        let knows = |node: &Node| {
            let info = node.ask(&["CLUSTER", "INFO"]);
            ["cluster_state:ok\r\n", "cluster_slots_ok:16384\r\n", &known].iter().all(|part| info.contains(part))
        };
        wait("the nodes to know each other", || self.nodes.iter().all(knows));
    }

    /// Adds a replica of a master, its last node from now on.
    pub fn replicate(&mut self, master: usize) {
        let node = Node::start(false, &[]);
        self.meet(&node);
        let id = self.id(master);
        self.nodes.push(node);
        self.agree(self.nodes.len());
        let replica = &self.nodes[self.nodes.len() - 1];
        replica.must(&["CLUSTER", "REPLICATE", &id]);
        wait("the replica to follow", || replica.ask(&["INFO", "replication"]).contains("master_link_status:up"));
    }

    /// The node that was started as this one of them.
    pub fn node(&self, index: usize) -> &Redis {
        &self.nodes[index].redis
    }

    /// The name that nodes know this one by.
    pub fn id(&self, index: usize) -> String {
        self.nodes[index].ask(&["CLUSTER", "MYID"])
    }

    /// Ends a node.
    pub fn kill(&mut self, index: usize) {
        self.nodes.remove(index);
    }

    /// Where clients ask the nodes.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(Node::port).collect()
    }

    /// The names of the keys of each node.
    pub fn keys(&self) -> Vec<Vec<String>> {
        self.nodes.iter().map(|node| node.redis.keys()).collect()
    }

    /// How many keys all masters have together.
    pub fn count(&self) -> usize {
        self.keys().iter().map(Vec::len).sum()
    }
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
