//! `correlation-id`: gives each request an id that the logs of many systems share, unless its client brought one.

use std::cell::Cell;

use uuid::Uuid;

use super::fields::{is_of_hop, value};
use super::{Access, Request, Response};
use crate::config::reader::Reader;
use crate::http::head::{Head, Known, is_field_name};
use crate::proxy::connection::Connection;
use crate::token::Now;

/// As in the configuration.
pub const NAME: &str = "correlation-id";
/// Kong's: before every other plugin, so that their refusals bear the id too.
pub const PRIORITY: u32 = 100_001;

/// One configured instance.
pub struct CorrelationId {
    header_name: Box<str>,
    generator: Generator,
    echo_downstream: bool,
}

#[derive(Clone, Copy)]
enum Generator {
    Uuid,
    Counter,
    Tracker,
}

thread_local! {
    /// The worker's id and how many ids it has made of it: for all instances, over all reloads.
    static WORKER: (Uuid, Cell<u64>) = (Uuid::new_v4(), Cell::new(0));
}

impl CorrelationId {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>) -> Option<Self> {
        const GENERATORS: [(&str, Generator); 3] =
            [("uuid", Generator::Uuid), ("uuid#counter", Generator::Counter), ("tracker", Generator::Tracker)];
        let problems = config.sink().count();
        let header_name = config.string("header_name").unwrap_or("Kong-Request-ID");
        let generator = config.word("generator", &GENERATORS).unwrap_or(Generator::Counter);
        let echo_downstream = config.bool("echo_downstream").unwrap_or(false);
        if !is_field_name(header_name.as_bytes()) {
            config.problem("header_name", format!("{header_name:?}"), "a header name");
        }
        let is_edges = matches!(Known::of(header_name.as_bytes()), Known::XKongRequestId | Known::Host);
        if is_edges || is_of_hop(header_name) {
            config.problem("header_name", format!("{header_name:?}"), "a name the edge does not write itself");
        }
        let sink = config.sink();
        config.finish();
        (sink.count() == problems).then(|| Self { header_name: header_name.into(), generator, echo_downstream })
    }

    /// The access phase.
    pub fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        let id = match self.sent(request.head) {
            Some(id) => id,
            None => {
                let id = self.generator.make(request.connection, request.now);
                request.head.replace(self.header_name.as_bytes(), id.as_bytes());
                id
            }
        };
        request.notes.correlation_id = Some(id.into());
        Access::Continue
    }

    /// The response phase.
    pub fn respond(&self, response: &mut Response<'_>) {
        if !self.echo_downstream {
            return;
        }
        // What was answered before the access phase has its id from here.
        let id = value(response.request, &self.header_name).filter(|id| !id.is_empty());
        match id {
            Some(id) => response.head.replace(self.header_name.as_bytes(), id),
            None => {
                let id = self.generator.make(response.connection, Now::read());
                response.head.replace(self.header_name.as_bytes(), id.as_bytes());
            }
        }
    }

    /// What the client brought: taken as it is.
    fn sent(&self, head: &Head) -> Option<String> {
        let id = value(head, &self.header_name).filter(|id| !id.is_empty())?;
        Some(String::from_utf8_lossy(id).into_owned())
    }
}

impl Generator {
    fn make(self, connection: &Connection, now: Now) -> String {
        match self {
            Self::Uuid => Uuid::new_v4().to_string(),
            Self::Counter => WORKER.with(|(id, count)| {
                count.set(count.get() + 1);
                format!("{id}#{}", count.get())
            }),
            Self::Tracker => {
                let (address, port, pid) = (connection.local, connection.port, std::process::id());
                let (serial, requests) = (connection.serial, connection.requests.get());
                let (secs, millis) = (now.unix_ms.div_euclid(1000), now.unix_ms.rem_euclid(1000));
                format!("{address}-{port}-{pid}-{serial}-{requests}-{secs}.{millis:03}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Plugin;
    use crate::plugin::testing::{Scene, fields, parse};

    fn plugin(yaml: &str) -> Plugin {
        parse(NAME, yaml).expect("good settings")
    }

    /// The id that goes upstream, which is also the log's.
    async fn id(plugin: &Plugin, sent: &[(&str, &str)]) -> String {
        let mut scene = Scene::new("GET", sent);
        assert!(matches!(scene.access(plugin).await, Access::Continue));
        let upstream = value(&scene.head, "kong-request-id").map(|id| String::from_utf8_lossy(id).into_owned());
        assert_eq!(scene.notes.correlation_id.as_deref(), upstream.as_deref());
        upstream.expect("an id")
    }

    #[tokio::test]
    async fn what_the_client_sends_is_kept_and_nothing_else_is() {
        let plugin = plugin("{}");
        assert_eq!(id(&plugin, &[("kong-request-id", "any thing/äöü")]).await, "any thing/äöü");
        for sent in [&[][..], &[("Kong-Request-ID", "")]] {
            let made = id(&plugin, sent).await;
            let (worker, count) = made.split_once('#').expect("uuid#counter");
            assert!(Uuid::try_parse(worker).is_ok() && count.parse::<u64>().is_ok(), "{made}");
        }
    }

    #[tokio::test]
    async fn each_generator_makes_its_form() {
        let counter = plugin("generator: 'uuid#counter'");
        let counts = [id(&counter, &[]).await, id(&plugin("{}"), &[]).await];
        let counts = counts.map(|id| id.split_once('#').map(|(worker, count)| (worker.to_owned(), count.to_owned())));
        let [Some((first, one)), Some((second, two))] = counts else { panic!("uuid#counter") };
        // Tests may share a thread or not: the first id of one is 1, the next of the same worker is one more.
        assert_eq!(first, second);
        assert_eq!(one.parse::<u64>().map(|count| count + 1), two.parse::<u64>());

        let uuid = id(&plugin("generator: uuid"), &[]).await;
        let parsed = Uuid::try_parse(&uuid).expect("a UUID");
        assert_eq!((parsed.get_version_num(), parsed.to_string()), (4, uuid));

        let mut scene = Scene::new("GET", &[]);
        scene.now.unix_ms = 1_700_000_000_042;
        scene.connection.requests.set(3);
        scene.access(&plugin("generator: tracker")).await;
        let (serial, pid) = (scene.connection.serial, std::process::id());
        let expected = format!("127.0.0.1-8000-{pid}-{serial}-3-1700000000.042");
        assert_eq!(scene.notes.correlation_id.as_deref(), Some(expected.as_str()));
    }

    #[tokio::test]
    async fn echoes_take_the_place_of_the_upstreams_field() {
        let echo = plugin("{header_name: X-Id, echo_downstream: true, generator: uuid}");
        let mut scene = Scene::new("GET", &[("x-id", "mine")]);
        scene.access(&echo).await;
        let head = scene.respond(&echo, 200, &[("X-ID", "upstream's"), ("A", "1")]);
        assert_eq!(fields(&head), [("A".into(), "1".into()), ("X-Id".into(), "mine".into())]);
        // Without an access phase, as after a redirect to https, there is an id all the same.
        let scene = Scene::new("GET", &[]);
        let head = scene.respond(&echo, 426, &[]);
        assert!(Uuid::try_parse(&fields(&head)[0].1).is_ok());
        assert!(fields(&Scene::new("GET", &[]).respond(&plugin("{}"), 200, &[])).is_empty());
    }

    #[test]
    fn settings_are_judged() {
        for (yaml, part) in [
            ("generator: random", "one of: uuid, uuid#counter, tracker"),
            ("header_name: 'a b'", "a header name"),
            ("header_name: Content-Length", "a name the edge does not write itself"),
            ("header_name: X-Kong-Request-Id", "a name the edge does not write itself"),
            ("echo: true", "echo_downstream"),
        ] {
            let problems = parse(NAME, yaml).err().expect("a problem");
            assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
        }
    }
}
