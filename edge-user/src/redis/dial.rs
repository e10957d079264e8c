//! A connection from nothing: TCP, TLS, login, and before them the sentinels' word which server is the master. What a
//! cluster says of its nodes is asked here too.

use std::pin::Pin;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::Error;
use super::settings::{Address, Login, Place, Sentinels, Settings};
use super::slots::Slots;
use crate::tls::{self, Alpn, ClientTls};

/// What moves a connection's bytes; it ends with the connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What one question's connection may bring, login and all: more than every slot alone with three names each.
const MAX_ANSWER: u64 = 8 << 20;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opens a connection to the server, each step of it in `connect_timeout`.
pub(super) async fn connect(settings: &Settings, place: &Place) -> Result<(MultiplexedConnection, Driver), Error> {
    match place {
        Place::At(address) => {
            let (connection, driver) = dial(settings, address, &settings.login, settings.database).await?;
            // One that takes connections and says nothing does not serve; whatever it says, it lives.
            let (_, driver) = exchange(settings, connection.clone(), driver, &redis::cmd("PING")).await?;
            Ok((connection, driver))
        }
        Place::Master(sentinels) => master(settings, sentinels).await,
    }
}

/// Asks one sentinel after the other; the first that knows the master decides.
async fn master(settings: &Settings, sentinels: &Sentinels) -> Result<(MultiplexedConnection, Driver), Error> {
    let mut last = Error::Sentinels;
    for sentinel in &sentinels.nodes {
        let address = match ask(settings, sentinels, sentinel).await {
            Ok(Some(address)) => address,
            Ok(None) => continue,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let (connection, driver) = dial(settings, &address, &settings.login, settings.database).await?;
        let (role, driver) = answer(settings, connection.clone(), driver, &redis::cmd("ROLE")).await?;
        // A sentinel that lags behind a failover names the old master.
        let is_master = matches!(role, Value::Array(parts) if text(parts.first()) == Some("master"));
        return if is_master { Ok((connection, driver)) } else { Err(Error::NotMaster) };
    }
    Err(last)
}

/// Where this sentinel says that the master is; nothing where it knows none of this name.
async fn ask(settings: &Settings, sentinels: &Sentinels, sentinel: &Address) -> Result<Option<Address>, Error> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(&*sentinels.master);
    let Value::Array(parts) = ask_once(settings, sentinel, &sentinels.login, &question).await? else {
        return Ok(None);
    };
    let address = || {
        let port = text(parts.get(1))?.parse().ok()?;
        Some(Address { host: text(parts.first())?.into(), port })
    };
    Ok(address())
}

/// The table of slots that this node of a cluster tells.
pub(super) async fn slots(settings: &Settings, node: &Address) -> Result<Slots, Error> {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    Slots::parse(&ask_once(settings, node, &settings.login, &question).await?, node)
}

/// The answer to one question, on a connection for it alone.
async fn ask_once(settings: &Settings, address: &Address, login: &Login, question: &Cmd) -> Result<Value, Error> {
    let opening = async {
        let (reader, writer) = tokio::io::split(open(settings, address).await?);
        enter(Box::new(tokio::io::join(reader.take(MAX_ANSWER), writer)), login, 0).await
    };
    let (connection, driver) = in_time(settings, opening).await?;
    let (value, _) = answer(settings, connection, driver, question).await?;
    Ok(value)
}

/// As `exchange`, where an answer that is an error is none.
async fn answer(
    settings: &Settings,
    connection: MultiplexedConnection,
    driver: Driver,
    command: &Cmd,
) -> Result<(Value, Driver), Error> {
    let (value, driver) = exchange(settings, connection, driver, command).await?;
    Ok((value.extract_error().map_err(Error::Server)?, driver))
}

/// The answer to one command, on a connection whose driver nobody else runs yet.
async fn exchange(
    settings: &Settings,
    mut connection: MultiplexedConnection,
    mut driver: Driver,
    command: &Cmd,
) -> Result<(Value, Driver), Error> {
    let exchange = async {
        tokio::select! {
            answer = connection.send_packed_command(command) => answer.map_err(Error::Server),
            () = &mut driver => Err(Error::Ended),
        }
    };
    let value = in_time(settings, exchange).await?;
    Ok((value, driver))
}

async fn in_time<T>(settings: &Settings, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(settings.connect_timeout, step).await.unwrap_or(Err(Error::Timeout))
}

/// A string, of whatever kind.
pub(super) fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

async fn dial(
    settings: &Settings,
    address: &Address,
    login: &Login,
    database: i64,
) -> Result<(MultiplexedConnection, Driver), Error> {
    in_time(settings, async { enter(open(settings, address).await?, login, database).await }).await
}

async fn open(settings: &Settings, address: &Address) -> Result<Box<dyn Stream>, Error> {
    let tcp = TcpStream::connect((&*address.host, address.port)).await.map_err(Error::Connect)?;
    tcp.set_nodelay(true).map_err(Error::Connect)?;
    let Some(rules) = &settings.tls else { return Ok(Box::new(tcp)) };
    let client = ClientTls { verify: rules.verify, alpn: Alpn::Nothing, ..ClientTls::default() };
    let config = tls::client_config(&client).map_err(|_| Error::Tls)?;
    let name = rules.server_name.as_ref().unwrap_or(&address.host).to_string();
    let name = ServerName::try_from(name).map_err(|_| Error::Tls)?;
    let connector = tokio_rustls::TlsConnector::from(config);
    Ok(Box::new(connector.connect(name, tcp).await.map_err(Error::Connect)?))
}

/// Logs in on a stream that is open.
async fn enter(
    stream: Box<dyn Stream>,
    login: &Login,
    database: i64,
) -> Result<(MultiplexedConnection, Driver), Error> {
    let mut info =
        RedisConnectionInfo::default().set_db(database).set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
    if let Some(password) = &login.password {
        info = info.set_password(password);
        if let Some(username) = &login.username {
            info = info.set_username(username);
        }
    }
    // The time-outs are ours.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = opened.map_err(Error::Server)?;
    Ok((connection, Box::pin(driver)))
}
