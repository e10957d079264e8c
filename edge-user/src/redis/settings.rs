//! Where a server is and how it is spoken to; Kong's small `redis` record of `rate-limiting`. The large one is `record`'s.

use std::fmt;
use std::time::Duration;

use crate::config::reader::Reader;
use crate::tls::Verify;

/// Where a server is, and who we are to it. Equal settings share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    pub(super) server: Server,
    /// Each step of making a connection.
    pub(super) connect_timeout: Duration,
    /// From a query to its answer.
    pub(super) timeout: Duration,
    pub(super) login: Login,
    pub(super) database: i64,
    /// For sentinels too.
    pub(super) tls: Option<Tls>,
}

/// More nodes than any cluster should have; none asks more of them.
pub(super) const MAX_NODES: usize = 1000;

/// One server, or many that share the keys among them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Server {
    One(Place),
    Cluster(Nodes),
}

/// Which server it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// This one.
    At(Address),
    /// Whichever the sentinels name.
    Master(Sentinels),
}

/// `host` and `port`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Address {
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `cluster_*`
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Nodes {
    /// Some of the cluster's nodes, which know the others; at least one.
    pub(super) nodes: Box<[Address]>,
    /// How often one query may be sent on.
    pub(super) max_redirections: u32,
}

/// `sentinel_*`
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Sentinels {
    /// The name they know the master by.
    pub(super) master: Box<str>,
    /// In the order in which they are asked; at least one.
    pub(super) nodes: Box<[Address]>,
    pub(super) login: Login,
}

/// `username` and `password`
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Login {
    pub(super) username: Option<Box<str>>,
    pub(super) password: Option<Box<str>>,
}

impl Login {
    /// Empty texts are nothing, as in Kong.
    pub(super) fn new(username: Option<&str>, password: Option<&str>) -> Self {
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Box::from);
        Self { username: given(username), password: given(password) }
    }

    /// Whether it names a user and shows nothing for it: then it does not take place.
    pub(super) fn is_nameless(&self) -> bool {
        self.username.is_some() && self.password.is_none()
    }
}

/// What is remarked of a user without a password.
pub(super) const NAMELESS: &str = "not sent without a password: the server's default user is who asks";

/// `ssl: true`
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Tls {
    pub(super) verify: Verify,
    /// `server_name`; else the host.
    pub(super) server_name: Option<Box<str>>,
}

impl Tls {
    pub(super) fn new(verify: bool, server_name: Option<&str>) -> Self {
        Self { verify: if verify { Verify::Full } else { Verify::Off }, server_name: server_name.map(Box::from) }
    }
}

/// What a cloud's own login would need.
const CLOUD: [&str; 12] = [
    "auth_provider",
    "aws_access_key_id",
    "aws_assume_role_arn",
    "aws_cache_name",
    "aws_is_serverless",
    "aws_region",
    "aws_role_session_name",
    "aws_secret_access_key",
    "azure_client_id",
    "azure_client_secret",
    "azure_tenant_id",
    "gcp_service_account_json",
];

impl Settings {
    /// Reads the small record of `rate-limiting`, with the deprecated spellings `redis_host`, … beside it, which it goes
    /// before; nothing where neither names a host.
    pub fn read_with_flat<'a>(record: Option<Reader<'a>>, flat: Option<&mut Reader<'a>>) -> Option<Self> {
        let mut fields = Fields { record, flat };
        let host = fields.of("host", "redis_host", |reader, key| reader.string(key));
        let port = fields.of("port", "redis_port", |reader, key| reader.integer(key, 0..=65_535));
        let timeout = fields.of("timeout", "redis_timeout", |reader, key| reader.integer(key, 1..=2_147_483_646));
        let username = fields.of("username", "redis_username", |reader, key| reader.any_string(key));
        let password = fields.of("password", "redis_password", |reader, key| reader.any_string(key));
        let database = fields.of("database", "redis_database", |reader, key| reader.integer(key, 0..=i64::MAX));
        let ssl = fields.of("ssl", "redis_ssl", |reader, key| reader.bool(key)).unwrap_or(false);
        let verify = fields.of("ssl_verify", "redis_ssl_verify", |reader, key| reader.bool(key)).unwrap_or(true);
        let server_name = fields.of("server_name", "redis_server_name", |reader, key| reader.string(key));
        if ssl && !verify {
            fields.warn("ssl_verify", "the server's certificate is not verified");
        }
        let login = Login::new(username, password);
        if login.is_nameless() {
            fields.warn("username", NAMELESS);
        }
        fields.finish();
        let timeout = Duration::from_millis(timeout.unwrap_or(2000) as u64);
        Some(Self {
            server: Server::One(Place::At(Address { host: host?.into(), port: port.unwrap_or(6379) as u16 })),
            connect_timeout: timeout,
            timeout,
            login,
            database: database.unwrap_or(0),
            tls: ssl.then(|| Tls::new(verify, server_name)),
        })
    }

    /// The server and database as logs and metrics name them: no name of a user, no password.
    pub(super) fn label(&self) -> String {
        match &self.server {
            Server::One(Place::At(address)) => format!("{address}/{}", self.database),
            Server::One(Place::Master(sentinels)) => format!("sentinel:{}/{}", sentinels.master, self.database),
            Server::Cluster(Nodes { nodes, .. }) => format!("cluster:{}/{}", nodes[0], self.database),
        }
    }
}

/// The record, and the object around it for the deprecated spellings.
struct Fields<'r, 'a> {
    record: Option<Reader<'a>>,
    flat: Option<&'r mut Reader<'a>>,
}

impl<'a> Fields<'_, 'a> {
    fn of<T>(
        &mut self,
        key: &'static str,
        deprecated: &'static str,
        read: impl Fn(&mut Reader<'a>, &'static str) -> Option<T>,
    ) -> Option<T> {
        let own = self.record.as_mut().and_then(|record| read(record, key));
        let Some(flat) = &mut self.flat else { return own };
        if flat.has(deprecated) {
            flat.warn(deprecated, &format!("deprecated: read as `redis.{key}`"));
        }
        let old = read(flat, deprecated);
        own.or(old)
    }

    fn warn(&self, key: &str, text: &str) {
        match (&self.record, &self.flat) {
            (Some(record), _) => record.warn(key, text),
            (None, Some(flat)) => flat.warn(&format!("redis_{key}"), text),
            (None, None) => {}
        }
    }

    fn finish(self) {
        let Some(mut record) = self.record else { return };
        refuse_cloud(&mut record);
        record.finish();
    }
}

/// `cloud_authentication`: whatever asks for something is refused.
pub(super) fn refuse_cloud(record: &mut Reader<'_>) {
    let Some(mut cloud) = record.object("cloud_authentication") else { return };
    for key in CLOUD {
        // What the schema fills in by itself asks for nothing.
        let default = key == "aws_is_serverless" && cloud.bool(key) == Some(true);
        if cloud.raw(key).is_some() && !default {
            cloud.problem(key, "a value", "nothing: logins by a cloud's own means are not supported");
        }
    }
    cloud.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    fn read(yaml: &str) -> (Option<Settings>, Vec<String>, Vec<String>) {
        testing::read("config", yaml, |config| {
            let record = config.object("redis");
            Settings::read_with_flat(record, Some(config))
        })
    }

    #[test]
    fn the_record_and_its_deprecated_spellings_say_the_same() {
        let (nested, problems, warnings) = read(
            "redis: {host: r.example, port: 6390, timeout: 5, username: u, password: p, database: 3, ssl: true, \
             ssl_verify: false, server_name: s.example}",
        );
        assert_eq!((problems.len(), warnings.len()), (0, 1), "{problems:?} {warnings:?}");
        let (flat, problems, warnings) = read(
            "{redis_host: r.example, redis_port: 6390, redis_timeout: 5, redis_username: u, redis_password: p, \
             redis_database: 3, redis_ssl: true, redis_ssl_verify: false, redis_server_name: s.example}",
        );
        assert_eq!((problems.len(), warnings.len()), (0, 10), "{problems:?} {warnings:?}");
        assert!(nested.is_some() && nested == flat);
        let (both, ..) = read("{redis: {host: new.example}, redis_host: old.example}");
        assert_eq!(both.expect("settings").label(), "new.example:6379/0");
    }

    #[test]
    fn defaults_are_kongs() {
        let (settings, ..) = read("redis: {host: r}");
        let settings = settings.expect("settings");
        assert_eq!((settings.label().as_str(), settings.timeout), ("r:6379/0", Duration::from_secs(2)));
        assert!(settings.tls.is_none() && settings.login == Login::new(None, None));
        let (settings, ..) = read("redis: {host: r, ssl: true}");
        assert!(settings.expect("settings").tls.expect("TLS").verify == Verify::Full);
        assert!(read("redis: {port: 1}").0.is_none());
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for (yaml, part) in [
            ("redis: {host: r, port: 70000}", "found 70000"),
            ("redis: {host: r, timeout: 0}", "expected an integer between 1"),
            ("redis: {host: r, hots: x}", "expected `host`"),
            ("redis: {host: r, cloud_authentication: {auth_provider: aws}}", "auth_provider: found a value"),
            ("redis: {host: r, cloud_authentication: {gcp_service_account_json: hush}}", "not supported"),
            ("redis: {host: r, password: [hush]}", "password"),
        ] {
            let (_, problems, _) = read(yaml);
            assert_eq!(problems.len(), 1, "{yaml}: {problems:?}");
            assert!(problems[0].contains(part) && !problems[0].contains("hush"), "{yaml}: {problems:?}");
        }
        let (settings, problems, _) =
            read("redis: {host: r, cloud_authentication: {auth_provider: null, aws_is_serverless: true}}");
        assert!(settings.is_some() && problems.is_empty(), "{problems:?}");
    }
}
