//! Kong's whole `redis` record, as `openid-connect` (`cluster_cache_redis`) and `upstream-oauth` (`cache.redis`) have it.
//!
//! A dump of a Kong holds all of its fields with their defaults; each is honoured, or says why it cannot be.

use std::time::Duration;

use serde_json::json;

use super::settings::{
    Address, Login, MAX_NODES, NAMELESS, Nodes, Place, Sentinels, Server, Settings, Tls, refuse_cloud,
};
use crate::config::reader::Reader;

/// Kong's own defaults.
const HOST: &str = "127.0.0.1";
const PORT: i64 = 6379;
const TIMEOUT_MS: i64 = 2000;
const POOL: i64 = 256;
const MAX_REDIRECTIONS: i64 = 5;
/// More sentinels than any set has.
const MAX_SENTINELS: usize = 32;

/// `sentinel_role` as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Any,
    Master,
    Slave,
}

impl Settings {
    /// Reads the whole record; nothing where it leads to no server.
    pub fn read(mut record: Reader<'_>) -> Option<Self> {
        let address = address(&mut record, "host");
        let mut timeout = |key| record.integer(key, 1..=2_147_483_646).unwrap_or(TIMEOUT_MS) as u64;
        let connect_timeout = Duration::from_millis(timeout("connect_timeout"));
        // Sending and receiving are one step here, which neither of them alone may end too early.
        let timeout = Duration::from_millis(timeout("send_timeout").max(timeout("read_timeout")));
        let login = login(&mut record, "username", "password");
        let database = record.integer("database", 0..=i64::MAX).unwrap_or(0);
        let ssl = record.bool("ssl").unwrap_or(false);
        let verify = record.bool("ssl_verify").unwrap_or(true);
        let server_name = record.string("server_name");
        if ssl && !verify {
            record.warn("ssl_verify", "the server's certificate is not verified");
        }
        let sentinels = sentinels(&mut record);
        let cluster = cluster(&mut record);
        pool(&mut record);
        refuse_cloud(&mut record);
        record.unsupported("connection_is_proxied", json!(false));
        if cluster.is_some() && sentinels.is_some() {
            record.problem("cluster_nodes", "a cluster beside sentinels", "one of the two");
        }
        if cluster.is_some() && database != 0 {
            record.problem("database", database.to_string(), "0, the only one of a cluster");
        }
        record.finish();
        let server = match (cluster, sentinels) {
            (Some(nodes), _) => Server::Cluster(nodes),
            (None, Some(sentinels)) => Server::One(Place::Master(sentinels)),
            (None, None) => Server::One(Place::At(address?)),
        };
        let tls = ssl.then(|| Tls::new(verify, server_name));
        Some(Self { server, connect_timeout, timeout, login, database, tls })
    }
}

fn address(reader: &mut Reader<'_>, name: &'static str) -> Option<Address> {
    let (host, port) = (reader.string(name), reader.integer("port", 0..=65_535));
    // A value that is there and wrong is no default.
    let host = if reader.has(name) { host? } else { HOST };
    let port = if reader.has("port") { port? } else { PORT };
    Some(Address { host: host.into(), port: port as u16 })
}

fn login(record: &mut Reader<'_>, username: &'static str, password: &'static str) -> Login {
    let login = Login::new(record.any_string(username), record.any_string(password));
    if login.is_nameless() {
        record.warn(username, NAMELESS);
    }
    login
}

fn sentinels(record: &mut Reader<'_>) -> Option<Sentinels> {
    let master = record.string("sentinel_master");
    let (nodes, count) = nodes(record, "sentinel_nodes", "host");
    let login = login(record, "sentinel_username", "sentinel_password");
    let roles = [("any", Role::Any), ("master", Role::Master), ("slave", Role::Slave)];
    let role = record.word("sentinel_role", &roles).unwrap_or(Role::Master);
    if role != Role::Master {
        record.problem("sentinel_role", "another role", "master: what is read here is written here too");
    }
    match (master, count) {
        (None, 0) => None,
        (Some(_), 0) => {
            record.problem("sentinel_nodes", "none", "the sentinels that know `sentinel_master`");
            None
        }
        (None, _) => {
            record.problem("sentinel_master", "nothing", "the name by which `sentinel_nodes` know the master");
            None
        }
        (Some(_), count) if count > MAX_SENTINELS => {
            record.problem("sentinel_nodes", format!("{count} sentinels"), format!("at most {MAX_SENTINELS}"));
            None
        }
        (Some(master), _) => Some(Sentinels { master: master.into(), nodes: nodes?, login }),
    }
}

/// The nodes, unless one of them is wrong, and how many stand there.
fn nodes(record: &mut Reader<'_>, key: &'static str, name: &'static str) -> (Option<Box<[Address]>>, usize) {
    let given = record.objects(key);
    let count = given.len();
    let read = |mut node: Reader<'_>| {
        let address = address(&mut node, name);
        node.finish();
        address
    };
    let nodes: Vec<_> = given.into_iter().filter_map(read).collect();
    ((nodes.len() == count).then(|| nodes.into()), count)
}

/// Several servers that share the keys among them.
fn cluster(record: &mut Reader<'_>) -> Option<Nodes> {
    let (nodes, count) = nodes(record, "cluster_nodes", "ip");
    let redirections = record.integer("cluster_max_redirections", 0..=i64::from(i32::MAX)).unwrap_or(MAX_REDIRECTIONS);
    match count {
        0 => {
            if redirections != MAX_REDIRECTIONS {
                record.warn("cluster_max_redirections", "no effect without `cluster_nodes`");
            }
            None
        }
        1..=MAX_NODES => Some(Nodes { nodes: nodes?, max_redirections: redirections as u32 }),
        _ => {
            record.problem("cluster_nodes", format!("{count} nodes"), format!("at most {MAX_NODES}"));
            None
        }
    }
}

/// One connection carries all queries of a server, so there is no pool to size.
fn pool(record: &mut Reader<'_>) {
    let size = record.integer("keepalive_pool_size", 1..=2_147_483_646);
    let backlog = record.integer("keepalive_backlog", 0..=2_147_483_646);
    for (key, given) in
        [("keepalive_pool_size", size.is_some_and(|size| size != POOL)), ("keepalive_backlog", backlog.is_some())]
    {
        if given {
            record.warn(key, "no effect: one connection carries all queries of a server");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Sink;
    use crate::config::value::Value;
    use crate::tls::Verify;

    fn read(yaml: &str) -> (Option<Settings>, Vec<String>, Vec<String>) {
        let sink = Sink::new("k");
        let value = Value::from_yaml(yaml, &sink).expect("YAML");
        let settings = Settings::read(Reader::new(&value, "redis", &sink).expect("an object"));
        let (problems, warnings) = sink.into_parts();
        (settings, problems.iter().map(ToString::to_string).collect(), warnings)
    }

    /// What decK writes of a record of which nothing was set.
    const DUMP: &str = "{cloud_authentication: {auth_provider: null, aws_access_key_id: null, aws_is_serverless: true}, \
        cluster_max_redirections: 5, cluster_nodes: null, connect_timeout: 2000, connection_is_proxied: false, \
        database: 0, host: 127.0.0.1, keepalive_backlog: null, keepalive_pool_size: 256, password: null, port: 6379, \
        read_timeout: 2000, send_timeout: 2000, sentinel_master: null, sentinel_nodes: null, sentinel_password: null, \
        sentinel_role: null, sentinel_username: null, server_name: null, ssl: false, ssl_verify: true, username: null}";

    #[test]
    fn a_dump_of_defaults_is_the_defaults() {
        let (dumped, problems, warnings) = read(DUMP);
        assert_eq!((problems.len(), warnings.len()), (0, 0), "{problems:?} {warnings:?}");
        let (empty, ..) = read("{}");
        assert!(dumped.is_some() && dumped == empty);
        let settings = dumped.expect("settings");
        assert_eq!((settings.label().as_str(), settings.timeout), ("127.0.0.1:6379/0", Duration::from_secs(2)));
        assert!(settings.tls.is_none() && settings.login == Login::new(None, None));
    }

    #[test]
    fn what_is_set_is_honoured() {
        let (settings, problems, warnings) = read(
            "{host: r.example, port: 6390, connect_timeout: 10, send_timeout: 20, read_timeout: 30, username: u, \
             password: p, database: 3, ssl: true, ssl_verify: false, server_name: s.example}",
        );
        assert_eq!((problems.len(), warnings.len()), (0, 1), "{problems:?} {warnings:?}");
        let settings = settings.expect("settings");
        assert_eq!(settings.label(), "r.example:6390/3");
        let ms = Duration::from_millis;
        assert_eq!((settings.connect_timeout, settings.timeout), (ms(10), ms(30)));
        assert!(settings.login == Login::new(Some("u"), Some("p")));
        assert!(settings.tls == Some(Tls { verify: Verify::Off, server_name: Some("s.example".into()) }));
    }

    #[test]
    fn sentinels_stand_in_for_a_host() {
        let (settings, problems, _) = read(
            "{host: unused.example, sentinel_master: m, sentinel_nodes: [{host: a, port: 1}, {}], sentinel_role: master, \
             sentinel_username: u, sentinel_password: p, database: 2}",
        );
        assert_eq!(problems, [""; 0]);
        let settings = settings.expect("settings");
        assert_eq!(settings.label(), "sentinel:m/2");
        let Server::One(Place::Master(sentinels)) = &settings.server else { panic!("no sentinels") };
        let nodes: Vec<_> = sentinels.nodes.iter().map(|node| (&*node.host, node.port)).collect();
        assert_eq!(nodes, [("a", 1), ("127.0.0.1", 6379)]);
        assert!(sentinels.login == Login::new(Some("u"), Some("p")));
    }

    #[test]
    fn a_cluster_stands_in_for_a_host() {
        let (settings, problems, warnings) = read(
            "{host: unused.example, cluster_nodes: [{ip: ::1, port: 7000}, {}, {ip: r.example}], \
             cluster_max_redirections: 2, username: u, password: p, database: 0}",
        );
        assert_eq!((problems.len(), warnings.len()), (0, 0), "{problems:?} {warnings:?}");
        let settings = settings.expect("settings");
        assert_eq!(settings.label(), "cluster:::1:7000/0");
        let Server::Cluster(cluster) = &settings.server else { panic!("no cluster") };
        let nodes: Vec<_> = cluster.nodes.iter().map(|node| (&*node.host, node.port)).collect();
        assert_eq!(
            (nodes, cluster.max_redirections),
            (vec![("::1", 7000), ("127.0.0.1", 6379), ("r.example", 6379)], 2)
        );
        assert!(settings.login == Login::new(Some("u"), Some("p")));

        let many = |count: usize| format!("{{cluster_nodes: [{}]}}", vec!["{}"; count].join(", "));
        assert_eq!(read(&many(MAX_NODES)).1, [""; 0]);
        let (_, problems, _) = read(&many(MAX_NODES + 1));
        assert!(problems.concat().contains("cluster_nodes: found 1001 nodes, expected at most 1000"), "{problems:?}");
    }

    #[test]
    fn what_has_no_effect_is_said_and_what_cannot_be_done_refused() {
        for (yaml, problem, warning) in [
            ("{keepalive_pool_size: 256}", None, None),
            ("{username: u, password: p}", None, None),
            ("{username: u}", None, Some("redis.username: not sent without a password")),
            ("{username: u, password: ''}", None, Some("redis.username: not sent without a password")),
            ("{keepalive_pool_size: 30}", None, Some("no effect: one connection")),
            ("{keepalive_backlog: 0}", None, Some("no effect: one connection")),
            ("{cluster_nodes: []}", None, None),
            ("{cluster_max_redirections: 5}", None, None),
            (
                "{cluster_max_redirections: 3}",
                None,
                Some("cluster_max_redirections: no effect without `cluster_nodes`"),
            ),
            ("{cluster_nodes: [{}], cluster_max_redirections: 0}", None, None),
            ("{cluster_nodes: [{}], cluster_max_redirections: -1}", Some("cluster_max_redirections: found -1"), None),
            ("{cluster_nodes: [{ip: ''}]}", Some("redis.cluster_nodes[0].ip"), None),
            ("{cluster_nodes: [{host: a}]}", Some("cluster_nodes[0].host: found an unknown field"), None),
            ("{cluster_nodes: [{}], database: 3}", Some("redis.database: found 3, expected 0, the only one"), None),
            (
                "{cluster_nodes: [{}], sentinel_master: m, sentinel_nodes: [{}]}",
                Some("redis.cluster_nodes: found a cluster beside sentinels, expected one of the two"),
                None,
            ),
            ("{connection_is_proxied: true}", Some("redis.connection_is_proxied: found true"), None),
            ("{cloud_authentication: {auth_provider: gcp}}", Some("not supported"), None),
            ("{sentinel_master: m}", Some("redis.sentinel_nodes: found none"), None),
            ("{sentinel_nodes: [{}]}", Some("redis.sentinel_master: found nothing"), None),
            (
                "{sentinel_master: m, sentinel_nodes: [{hots: a}]}",
                Some("sentinel_nodes[0].hots: found an unknown field, expected `host`"),
                None,
            ),
            ("{sentinel_master: m, sentinel_nodes: [{}], sentinel_role: slave}", Some("expected master"), None),
            ("{sentinel_master: m, sentinel_nodes: [{}], sentinel_role: any}", Some("expected master"), None),
            ("{read_timeout: 0}", Some("expected an integer between 1"), None),
            ("{port: 65536}", Some("found 65536"), None),
            ("{password: [hush]}", Some("redis.password"), None),
            ("{prefix: x}", Some("redis.prefix: found an unknown field"), None),
        ] {
            let (_, problems, warnings) = read(yaml);
            assert_eq!(
                (problems.len(), warnings.len()),
                (usize::from(problem.is_some()), usize::from(warning.is_some())),
                "{yaml}: {problems:?} {warnings:?}"
            );
            assert!(problem.is_none_or(|part| problems[0].contains(part)), "{yaml}: {problems:?}");
            assert!(warning.is_none_or(|part| warnings[0].contains(part)), "{yaml}: {warnings:?}");
            assert!(!problems.concat().contains("hush"), "{yaml}");
        }
    }
}
