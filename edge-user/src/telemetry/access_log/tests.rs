use super::*;
use std::time::UNIX_EPOCH;

fn record() -> Record<'static> {
    Record {
        time: UNIX_EPOCH + Duration::from_millis(1_795_303_202_512),
        request_id: "0f3a",
        client: "192.0.2.7:4711".parse().unwrap(),
        via: None,
        local: None,
        listener: "0.0.0.0:8000",
        version: Some(Version::Http11),
        tls: None,
        method: b"GET",
        host: b"api.example.com",
        target: b"/orders?access_token=s3cret&x=1",
        route: Some("orders"),
        service: None,
        consumer: None,
        consumer_id: None,
        credential: None,
        status: 401,
        reason: Some(Reason::TokenExpired),
        total: Duration::from_micros(412),
        edge: Duration::from_micros(400),
        upstream: None,
        issuer: None,
        correlation_id: None,
        bytes_in: 120,
        bytes_out: 340,
        tries: 1,
        upstream_address: None,
    }
}

fn line(record: &Record<'_>) -> String {
    let log = AccessLog { sink: Some(Arc::new(Sink::open(&LogTarget::Off, 1).unwrap())) };
    let mut writer = log.writer();
    writer.format(record);
    String::from_utf8(std::mem::take(&mut writer.buffer)).unwrap()
}

#[test]
fn a_refusal_is_one_line_without_its_token() {
    assert_eq!(
        line(&record()),
        concat!(
            r#"{"time":"2026-11-21T23:20:02.512Z","request_id":"0f3a","client":"192.0.2.7","client_port":4711,"#,
            r#""listener":"0.0.0.0:8000","version":"1.1","method":"GET","host":"api.example.com","#,
            r#""path":"/orders?access_token=[redacted]&x=1","route":"orders","status":401,"#,
            r#""reason":"token_expired","total_ms":0.412,"edge_ms":0.400,"bytes_in":120,"bytes_out":340}"#,
            "\n"
        )
    );
}

#[test]
fn every_field_has_its_place() {
    let full = Record {
        tls: Some("TLSv1.3"),
        client: "[2001:db8::1]:1".parse().unwrap(),
        service: Some("svc"),
        consumer: Some("alice"),
        consumer_id: Some(Uuid::nil()),
        credential: Some("ann\"\n"),
        upstream: Some(Duration::from_millis(3)),
        issuer: Some(Duration::from_millis(20)),
        upstream_address: Some("[::1]:9000".parse().unwrap()),
        ..record()
    };
    let value: serde_json::Value = serde_json::from_str(&line(&full)).unwrap();
    for (field, expected) in [
        ("client", "2001:db8::1"),
        ("tls", "TLSv1.3"),
        ("service", "svc"),
        ("consumer", "alice"),
        ("consumer_id", "00000000-0000-0000-0000-000000000000"),
        ("credential", "ann\"\n"),
        ("upstream", "[::1]:9000"),
    ] {
        assert_eq!(value[field], expected);
    }
    assert_eq!((value["upstream_ms"].as_f64(), value["issuer_ms"].as_f64()), (Some(3.0), Some(20.0)));
}

#[test]
fn a_session_has_its_line() {
    let log = AccessLog { sink: Some(Arc::new(Sink::open(&LogTarget::Off, 1).unwrap())) };
    let mut writer = log.writer();
    let full = SessionRecord {
        time: UNIX_EPOCH,
        request_id: "0f3a",
        client: "192.0.2.7:4711".parse().unwrap(),
        listener: "0.0.0.0:9000",
        protocol: Some("tls"),
        tls: Some("TLSv1.3"),
        sni: Some("db.example"),
        route: Some("db"),
        service: Some("postgres"),
        reason: Some(Reason::TunnelIdle),
        total: Duration::from_millis(5),
        upstream: Some(Duration::from_millis(1)),
        bytes_in: 12,
        bytes_out: 34,
        upstream_address: Some("10.0.0.1:5432".parse().unwrap()),
    };
    writer.format_session(&full);
    assert_eq!(
        String::from_utf8_lossy(&writer.buffer),
        concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","request_id":"0f3a","client":"192.0.2.7","client_port":4711,"#,
            r#""listener":"0.0.0.0:9000","protocol":"tls","tls":"TLSv1.3","host":"db.example","route":"db","#,
            r#""service":"postgres","reason":"tunnel_idle","total_ms":5.000,"upstream_ms":1.000,"#,
            r#""bytes_in":12,"bytes_out":34,"upstream":"10.0.0.1:5432"}"#,
            "\n"
        )
    );
}

/// L2.
#[test]
fn a_client_cannot_forge_a_line() {
    let forged = Record {
        method: b"GET\x1b[2J",
        host: b"h\"}\n{\"status\":200",
        target: b"/\xff\r\nx?\n",
        version: None,
        ..record()
    };
    let text = line(&forged);
    assert_eq!(text.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["host"], &value["status"]), (&"h\"}\n{\"status\":200".into(), &401.into()));
}

#[test]
fn batches_reach_the_file_in_order_and_off_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(&LogTarget::File(path.clone())).unwrap();
    let mut writer = log.writer();
    for status in 0..500 {
        writer.write(&Record { status, ..record() });
    }
    drop(writer);
    log.flush();
    let text = std::fs::read_to_string(path).unwrap();
    let statuses: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, (0..500).collect::<Vec<_>>());

    let mut off = AccessLog::open(&LogTarget::Off).unwrap().writer();
    off.write(&record());
    assert_eq!((off.enabled(), off.buffer.capacity()), (false, 0));
}
