//! Clusters of servers that say what a test wants.

use std::sync::Mutex;
use std::time::Duration;

use redis::FromRedisValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::redis::settings::{Login, Server};
use crate::redis::{Client, Clients};

/// What a server says to a command; nothing for silence.
type Answer = Box<dyn Fn(&[String]) -> Option<String> + Send>;

/// One node on loopback.
struct Scripted {
    address: Address,
    answer: Arc<Mutex<Answer>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let silent: Answer = Box::new(|_| None);
        let (answer, heard) = (Arc::new(Mutex::new(silent)), Arc::<Mutex<Vec<String>>>::default());
        let (say, hear) = (answer.clone(), heard.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, say.clone(), hear.clone()));
            }
        });
        Self { address: Address { host: "127.0.0.1".into(), port }, answer, heard }
    }

    /// `PING` and the table are answered; what a test is about is its own.
    fn says(&self, table: &[(u16, u16, &Self)], get: impl Fn() -> String + Send + 'static) {
        let mut text = format!("*{}\r\n", table.len());
        for (first, last, node) in table {
            text += &format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n$0\r\n\r\n:{}\r\n", node.address.port);
        }
        *self.answer.lock().expect("no panic") = Box::new(move |words| match &*words[0] {
            "PING" => Some("+PONG\r\n".into()),
            "ASKING" => Some("+OK\r\n".into()),
            "CLUSTER" => Some(text.clone()),
            _ => Some(get()),
        });
    }

    fn is_silent(&self) {
        *self.answer.lock().expect("no panic") = Box::new(|_| None);
    }

    /// How often it heard this.
    fn count(&self, line: &str) -> usize {
        self.heard.lock().expect("no panic").iter().filter(|heard| *heard == line).count()
    }

    fn moved(&self) -> String {
        format!("-MOVED 12182 127.0.0.1:{}\r\n", self.address.port)
    }
}

async fn serve(stream: TcpStream, answer: Arc<Mutex<Answer>>, heard: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut words = Vec::new();
        for _ in 0..number(&mut stream).await? {
            let mut word = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut word).await.ok()?;
            word.truncate(word.len() - 2);
            words.push(String::from_utf8(word).ok()?);
        }
        heard.lock().expect("no panic").push(words.join(" "));
        let said = answer.lock().expect("no panic")(&words);
        if let Some(said) = said {
            stream.write_all(said.as_bytes()).await.ok()?;
        }
    }
}

async fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

fn client(nodes: &[&Scripted], max_redirections: u32) -> Arc<Client> {
    crate::crypto::install();
    let nodes = nodes.iter().map(|node| node.address.clone()).collect();
    let settings = Settings {
        server: Server::Cluster(Nodes { nodes, max_redirections }),
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_millis(500),
        login: Login::new(None, None),
        database: 0,
        tls: None,
    };
    Clients::new(Some(Handle::current())).client(&settings)
}

async fn get<T: FromRedisValue>(client: &Client, key: &str) -> Result<T, Error> {
    let mut command = redis::cmd("GET");
    command.arg(key);
    client.query(key.as_bytes(), command).await
}

/// `foo` is in slot 12182.
async fn foo(client: &Client) -> Result<String, Error> {
    get(client, "foo").await
}

async fn until(what: &str, wanted: impl Fn() -> bool) {
    let waiting = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

const TABLE: &str = "CLUSTER SLOTS";

#[tokio::test]
async fn a_slot_that_moved_is_followed_and_remembered() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    let to = b.moved();
    a.says(&[(0, 16_383, &a)], move || to.clone());
    b.says(&[], || "+there\r\n".into());
    let client = client(&[&a], 5);
    assert_eq!(foo(&client).await.expect("an answer"), "there");
    assert_eq!((a.count("GET foo"), b.count("GET foo"), b.count("ASKING")), (1, 1, 0));
    // The table is read anew, and the next one goes there at once.
    let to = b.moved();
    a.says(&[(0, 12_000, &a), (12_001, 16_383, &b)], move || to.clone());
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let before = a.count("GET foo");
        assert_eq!(foo(&client).await.expect("an answer"), "there");
        if a.count("GET foo") == before {
            break;
        }
        assert!(Instant::now() < end, "never there at once");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(a.count(TABLE), 2);
    assert_eq!(client.label(), format!("cluster:{}/0", a.address));
}

#[tokio::test]
async fn a_slot_that_is_moving_is_asked_for_and_stays_where_it_is() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    let to = b.moved().replace("MOVED", "ASK");
    a.says(&[(0, 16_383, &a)], move || to.clone());
    b.says(&[], || "+there\r\n".into());
    let client = client(&[&a], 5);
    for _ in 0..3 {
        assert_eq!(foo(&client).await.expect("an answer"), "there");
    }
    assert_eq!((a.count("GET foo"), b.count("GET foo"), b.count("ASKING")), (3, 3, 3));
    let heard = b.heard.lock().expect("no panic").clone();
    let pairs = heard.windows(2).filter(|pair| *pair == ["ASKING", "GET foo"]).count();
    assert_eq!((pairs, a.count(TABLE)), (3, 1));
}

#[tokio::test]
async fn redirections_have_an_end() {
    for limit in [0, 1, 5] {
        let (a, b) = (Scripted::start().await, Scripted::start().await);
        let (to_a, to_b) = (a.moved(), b.moved());
        a.says(&[(0, 16_383, &a)], move || to_b.clone());
        b.says(&[], move || to_a.clone());
        let client = client(&[&a], limit);
        assert!(matches!(foo(&client).await, Err(Error::Redirections)), "{limit}");
        assert_eq!(a.count("GET foo") + b.count("GET foo"), limit as usize + 1);
    }
}

#[tokio::test]
async fn what_the_cluster_cannot_do_is_an_error_and_its_table_doubted() {
    let mut servers = Vec::new();
    for (line, doubted) in [
        ("-TRYAGAIN Multiple keys request during rehashing of slot\r\n", false),
        ("-ERR other\r\n", false),
        ("-CLUSTERDOWN Hash slot not served\r\n", true),
        ("-MASTERDOWN Link with MASTER is down\r\n", true),
        ("-MOVED 12182 ?:1\r\n", true),
    ] {
        let a = Scripted::start().await;
        a.says(&[(0, 16_383, &a)], || line.into());
        let client = client(&[&a], 5);
        assert!(matches!(foo(&client).await, Err(Error::Server(_))), "{line}");
        assert!(!client.is_down() && a.count("GET foo") == 1, "{line}");
        servers.push((a, client, line, doubted));
    }
    // Who were asked first would be asked again first.
    for (a, _, line, _) in servers.iter().filter(|(.., doubted)| *doubted) {
        until(line, || a.count(TABLE) == 2).await;
    }
    for (a, _, line, doubted) in &servers {
        assert_eq!(a.count(TABLE), 1 + usize::from(*doubted), "{line}");
    }
}

#[tokio::test]
async fn the_first_node_that_tells_a_table_is_believed() {
    let (silent, stranger, a) = (Scripted::start().await, Scripted::start().await, Scripted::start().await);
    *stranger.answer.lock().expect("no panic") =
        Box::new(|_| Some("-ERR This instance has cluster support disabled\r\n".into()));
    // A gap, for `bar` in slot 5061.
    a.says(&[(10_000, 16_383, &a)], || "+there\r\n".into());
    let client = client(&[&stranger, &silent, &a], 5);
    // Who asks meanwhile waits no longer than its own time.
    assert!(matches!(foo(&client).await, Err(Error::Timeout)));
    assert!(matches!(foo(&client).await, Err(Error::Down)));
    until("a table", || !client.is_down()).await;
    assert_eq!(foo(&client).await.expect("an answer"), "there");
    assert!(matches!(get::<String>(&client, "bar").await, Err(Error::Unserved)));
    client.ping().await.expect("the only master");
}

#[tokio::test]
async fn a_node_that_is_silent_takes_its_own_slots_along() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    for node in [&a, &b] {
        node.says(&[(0, 10_000, &a), (10_001, 16_383, &b)], || "+there\r\n".into());
    }
    let client = client(&[&a], 5);
    assert_eq!(foo(&client).await.expect("an answer"), "there");
    client.ping().await.expect("both");
    b.is_silent();
    assert!(matches!(foo(&client).await, Err(Error::Timeout)));
    until("its loss", || client.is_down()).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert!(matches!(foo(&client).await, Err(Error::Down)));
        assert_eq!(get::<String>(&client, "bar").await.expect("an answer"), "there");
    }
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    let error = client.ping().await.expect_err("one does not answer");
    assert!(matches!(&error, Error::Node(node, _) if **node == *b.address.to_string()), "{error}");
    // Another takes its place; the old one is forgotten.
    let before = a.count(TABLE);
    a.says(&[(0, 16_383, &a)], || "+here\r\n".into());
    until("another reading", || a.count(TABLE) > before && !client.is_down()).await;
    assert_eq!(foo(&client).await.expect("an answer"), "here");
}
