//! A connection from nothing: TCP, TLS, login, and before them the sentinels' word which server is the master.

use std::pin::Pin;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Error;
use super::settings::{Address, Login, Sentinels, Server, Settings};
use crate::tls::{self, Alpn, ClientTls};

/// What moves a connection's bytes; it ends with the connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opens a connection to the server, each step of it in `connect_timeout`.
pub(super) async fn connect(settings: &Settings) -> Result<(MultiplexedConnection, Driver), Error> {
    match &settings.server {
        Server::At(address) => {
            let (connection, driver) = dial(settings, address, &settings.login, settings.database).await?;
            // One that takes connections and says nothing does not serve; whatever it says, it lives.
            let mut ping = Cmd::new();
            ping.arg("PING");
            let (_, driver) = exchange(settings, connection.clone(), driver, &ping).await?;
            Ok((connection, driver))
        }
        Server::Master(sentinels) => master(settings, sentinels).await,
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
        let mut role = Cmd::new();
        role.arg("ROLE");
        let (role, driver) = answer(settings, connection.clone(), driver, &role).await?;
        // A sentinel that lags behind a failover names the old master.
        let is_master = matches!(role, Value::Array(parts) if text(parts.first()) == Some("master"));
        return if is_master { Ok((connection, driver)) } else { Err(Error::NotMaster) };
    }
    Err(last)
}

/// Where this sentinel says that the master is; nothing where it knows none of this name.
async fn ask(settings: &Settings, sentinels: &Sentinels, sentinel: &Address) -> Result<Option<Address>, Error> {
    let (connection, driver) = dial(settings, sentinel, &sentinels.login, 0).await?;
    let mut question = Cmd::new();
    question.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&*sentinels.master);
    let (found, _) = answer(settings, connection, driver, &question).await?;
    let Value::Array(parts) = found else { return Ok(None) };
    let address = || {
        let port = text(parts.get(1))?.parse().ok()?;
        Some(Address { host: text(parts.first())?.into(), port })
    };
    Ok(address())
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
    let value = tokio::time::timeout(settings.connect_timeout, exchange).await.unwrap_or(Err(Error::Timeout))?;
    Ok((value, driver))
}

fn text(value: Option<&Value>) -> Option<&str> {
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
    let opened = tokio::time::timeout(settings.connect_timeout, open(settings, address, login, database)).await;
    opened.unwrap_or(Err(Error::Timeout))
}

async fn open(
    settings: &Settings,
    address: &Address,
    login: &Login,
    database: i64,
) -> Result<(MultiplexedConnection, Driver), Error> {
    let tcp = TcpStream::connect((&*address.host, address.port)).await.map_err(Error::Connect)?;
    tcp.set_nodelay(true).map_err(Error::Connect)?;
    let stream: Box<dyn Stream> = match &settings.tls {
        None => Box::new(tcp),
        Some(rules) => {
            let client = ClientTls { verify: rules.verify, alpn: Alpn::Nothing, ..ClientTls::default() };
            let config = tls::client_config(&client).map_err(|_| Error::Tls)?;
            let name = rules.server_name.as_ref().unwrap_or(&address.host).to_string();
            let name = ServerName::try_from(name).map_err(|_| Error::Tls)?;
            let connector = tokio_rustls::TlsConnector::from(config);
            Box::new(connector.connect(name, tcp).await.map_err(Error::Connect)?)
        }
    };
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
