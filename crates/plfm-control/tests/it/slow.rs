//! Clients that are slow on purpose. Each holds a connection for a bounded time, and nobody else notices.

use std::time::{Duration, Instant};

use plfm_control::server::limits::{BODY_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::plane::{Plane, start, start_with};
use crate::wire::{answer, ask};

/// What the machine may take on top of a limit.
const SLACK: Duration = Duration::from_secs(5);

async fn connect(plane: &Plane) -> TlsStream<TcpStream> {
    crate::wire::connect(plane.running.address, &plane.dir.path().join("ca.crt")).await
}

/// Reads to the end of the connection; what came, and how long that took.
async fn until_closed(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    most: Duration,
) -> (String, Duration) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(most, stream.read_to_end(&mut bytes))
        .await
        .expect("it is closed in time");
    (String::from_utf8_lossy(&bytes).into_owned(), began.elapsed())
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_ends() {
    let plane = start().await;
    let mut silent = TcpStream::connect(plane.running.address).await.unwrap();
    let mut started = TcpStream::connect(plane.running.address).await.unwrap();
    started.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let ends = tokio::join!(
        until_closed(&mut silent, HANDSHAKE_TIMEOUT + SLACK),
        until_closed(&mut started, HANDSHAKE_TIMEOUT + SLACK),
    );
    assert!(ends.0.1 > HANDSHAKE_TIMEOUT / 2);
}

#[tokio::test]
async fn headers_that_come_drop_by_drop_end() {
    let plane = start().await;
    let mut silent = connect(&plane).await;
    let (mut read, mut write) = tokio::io::split(connect(&plane).await);
    let dripping = tokio::spawn(async move {
        let head = "GET /v1/whoami HTTP/1.1\r\nhost: localhost\r\nx: "
            .bytes()
            .chain(std::iter::repeat(b'x'));
        for byte in head {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let _ = tokio::join!(
        until_closed(&mut read, HEADER_TIMEOUT + SLACK + SLACK),
        until_closed(&mut silent, HEADER_TIMEOUT + SLACK + SLACK),
    );
    dripping.abort();
}

#[tokio::test]
async fn the_head_of_a_second_request_has_no_more_time_than_the_first() {
    let plane = start().await;
    let (mut read, mut write) = tokio::io::split(connect(&plane).await);
    write
        .write_all(b"GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 12];
    read.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 404");
    write.write_all(b"GET /v1/who").await.unwrap();
    let (_, took) = until_closed(&mut read, HEADER_TIMEOUT + SLACK + SLACK).await;
    assert!(took > HEADER_TIMEOUT / 2);
}

#[tokio::test]
async fn a_body_that_comes_drop_by_drop_is_answered_408() {
    let plane = start().await;
    let (mut read, mut write) = tokio::io::split(connect(&plane).await);
    let head = "POST /v1/hosts/enroll HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n";
    write.write_all(head.as_bytes()).await.unwrap();
    let dripping = tokio::spawn(async move {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let (text, _) = until_closed(&mut read, BODY_TIMEOUT + SLACK + SLACK).await;
    dripping.abort();
    assert!(
        text.starts_with("HTTP/1.1 408") && text.contains("body_too_slow"),
        "{text}"
    );
}

#[tokio::test]
async fn a_connection_stays_after_a_request_that_was_refused_before_its_body_came() {
    let plane = start().await;
    let mut stream = connect(&plane).await;
    let head = "POST /v1/hosts/01K00000000000000000000000/certificate HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 20000\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.unwrap();
        let refused = answer(&mut stream).await;
        assert!(
            refused.starts_with("HTTP/1.1 401") && refused.contains("certificate_missing"),
            "{refused}"
        );
        stream.write_all(&[b' '; 20_000]).await.unwrap();
    }
    assert!(ask(&mut stream, "/v1/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_refused_request_whose_body_does_not_end_ends_the_connection() {
    let plane = start().await;
    let mut stream = connect(&plane).await;
    let head = "POST /v1/hosts/01K00000000000000000000000/certificate HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 401"));
    let (mut read, mut write) = tokio::io::split(stream);
    let flood = tokio::spawn(async move {
        let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
        while write.write_all(&chunk).await.is_ok() {}
    });
    until_closed(&mut read, SLACK).await;
    flood.await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let plane = start().await;
    let (mut read, mut write) = tokio::io::split(connect(&plane).await);
    let head = format!(
        "GET /v1/whoami HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    let _ = write.write_all(head.as_bytes()).await;
    let (text, _) = until_closed(&mut read, SLACK).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test]
async fn connections_are_bounded_and_places_come_back() {
    let plane = start_with(|settings| plfm_control::settings::Settings {
        connections_max: 4,
        ..settings
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(connect(&plane).await);
    }
    let request = plane
        .client()
        .get(plane.url("/v1/openapi.json"))
        .timeout(Duration::from_millis(500));
    assert!(request.send().await.is_err(), "there is no place");
    held.clear();
    assert_eq!(plane.get("/v1/whoami").await.status(), 200);
}

#[tokio::test]
async fn slow_clients_hold_nobody_up() {
    let plane = start().await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(TcpStream::connect(plane.running.address).await.unwrap());
    }
    let began = Instant::now();
    assert_eq!(plane.get("/v1/whoami").await.status(), 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
