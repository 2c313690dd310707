//! Answers `GET /metrics` and `GET /healthz` over HTTP/1.1, one request a connection.
//!
//! This is for the operator's own network: it has no TLS and asks for no credentials, so it listens only at the address
//! that the operator names. Everything is bounded: the number of connections, the bytes of a request, and the time for
//! each. What exceeds a bound is dropped, and takes nothing from those who push.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::Monitor;

/// The most connections at the same time.
const CONNECTIONS_MAX: usize = 16;
/// The most bytes of a request's head.
const HEAD_MAX: usize = 8 * 1024;
/// The most header fields of a request.
const FIELDS_MAX: usize = 64;
/// How long a request may take to arrive, and how long its answer may take to be taken.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to find the answer: the disk may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a connection could not be accepted, usually for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// An answer: status line, type and body.
struct Answer(&'static str, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers until the server's threads end.
pub async fn serve(listener: TcpListener, monitor: Arc<Monitor>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // One too many is closed at once.
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let monitor = monitor.clone();
        tokio::spawn(async move {
            converse(stream, monitor, permit).await;
        });
    }
}

async fn converse(mut stream: TcpStream, monitor: Arc<Monitor>, permit: OwnedSemaphorePermit) {
    let Ok(Some(request)) = timeout(READ_TIMEOUT, read_head(&mut stream)).await else { return };
    let is_head = request.method == "HEAD";
    let permit = Arc::new(permit);
    let Answer(status, kind, body) = find(permit.clone(), ANSWER_TIMEOUT, move || answer(&request, &monitor)).await;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let write = async {
        stream.write_all(head.as_bytes()).await?;
        if !is_head {
            stream.write_all(body.as_bytes()).await?;
        }
        stream.shutdown().await
    };
    // Whoever asked may have gone.
    let _ = timeout(WRITE_TIMEOUT, write).await;
}

/// Finds an answer on a thread, and waits for it this long. The thread keeps the connection's place until it has ended:
/// otherwise those who ask again and again while the disk is slow would take one thread after the other from clients.
async fn find(
    permit: Arc<OwnedSemaphorePermit>,
    limit: Duration,
    answer: impl FnOnce() -> Answer + Send + 'static,
) -> Answer {
    let answering = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        answer()
    });
    match timeout(limit, answering).await {
        Ok(Ok(found)) => found,
        _ => Answer("503 Service Unavailable", TEXT, "the server is too busy to answer\n".into()),
    }
}

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Request {
    method: String,
    path: String,
}

/// Reads the head of a request. Returns `None` if none comes. A request that cannot be read has an empty method.
async fn read_head(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(request) = parse(&bytes) {
            return Some(request);
        }
    }
}

/// Parses the head of a request; returns `None` if it is not complete.
fn parse(bytes: &[u8]) -> Option<Request> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => None,
        Ok(httparse::Status::Complete(_)) => Some(Request {
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned(),
        }),
        _ => Some(Request { method: String::new(), path: String::new() }),
    }
}

fn answer(request: &Request, monitor: &Monitor) -> Answer {
    let text = |status, text: &str| Answer(status, TEXT, format!("{text}\n"));
    match (request.method.as_str(), request.path.as_str()) {
        ("", _) => text("400 Bad Request", "this is not a request of HTTP/1.1 that can be answered here"),
        ("GET" | "HEAD", "/metrics") => Answer("200 OK", "text/plain; version=0.0.4", monitor.render()),
        ("GET" | "HEAD", "/healthz") => match monitor.unhealthy() {
            None => text("200 OK", "ok"),
            Some(why) => text("503 Service Unavailable", &why),
        },
        ("GET" | "HEAD", _) => text("404 Not Found", "there are /metrics and /healthz"),
        _ => text("405 Method Not Allowed", "only GET and HEAD"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_within_bounds() {
        let request = |method: &str, path: &str| Some(Request { method: method.into(), path: path.into() });
        assert_eq!(parse(b"GET /metr"), None);
        assert_eq!(parse(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"), request("GET", "/metrics"));
        assert_eq!(parse(b"\x16\x03\x01 not http\r\n\r\n"), request("", ""));
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX));
        assert_eq!(parse(long.as_bytes()), request("", ""));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_waited_for_keeps_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let permit = Arc::new(places.clone().try_acquire_owned().unwrap());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let answer = move || {
            let _ = ended.recv();
            Answer("200 OK", TEXT, String::new())
        };
        assert_eq!(find(permit, Duration::ZERO, answer).await.0, "503 Service Unavailable");
        assert_eq!(places.available_permits(), 0, "a thread still looks for the answer");
        drop(end);
        drop(places.acquire().await.unwrap());
    }
}
