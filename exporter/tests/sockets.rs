//! Real sockets: limits, permissions, and an end that comes.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{DEADLINE, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vedette_collector::clinfo::ProblemDoc;
use vedette_collector::clinfo::problem::Kind;
use vedette_exporter::{Limits, serve_tcp, serve_unix};

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

async fn start(limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Stage::one_down().router();
    let (stop, stopped) = oneshot::channel::<()>();
    let end = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve_tcp(listener, router, limits, end));
    Server { address, stop, task }
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A connection that is reset says no more than one that is closed.
    let _ = timeout(DEADLINE, reading).await.expect("the server closes in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    read_all(&mut stream).await
}

#[tokio::test]
async fn requests_are_answered_and_the_end_comes() {
    let server = start(Limits::default()).await;
    let answer =
        ask(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    // An open stream does not hold up the end.
    let mut watcher = TcpStream::connect(server.address).await.expect("connects");
    watcher.write_all(b"GET /api/v1/watch HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
    let mut first = [0; 64];
    watcher.read_exact(&mut first).await.expect("an answer");
    server.stop.send(()).expect("it runs");
    timeout(DEADLINE, server.task).await.expect("in time").expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let server =
        start(Limits { head_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    let answer = ask(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(Limits::default()).await;
    let request = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    // The server may close before everything is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let answer = read_all(&mut stream).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = TcpStream::connect(server.address).await.expect("connects");
    first.write_all(b"GET /api/v1/watch HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
    first.read_exact(&mut [0; 16]).await.expect("it is served");
    let mut second = TcpStream::connect(server.address).await.expect("connects");
    let answer = read_all(&mut second).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let problem = ProblemDoc::read(503, body.as_bytes()).expect("a problem");
    assert!(problem.is(Kind::TooManyConnections), "{problem:?}");
}

/// The socket has its permissions before anybody can connect, replaces one that was left behind,
/// and goes away at the end.
#[tokio::test]
async fn the_unix_socket_has_its_permissions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("one that was left behind"));
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Stage::one_down().router();
    let task = tokio::spawn({
        let path = path.clone();
        async move {
            let end = async {
                let _ = stopped.await;
            };
            serve_unix(&path, router, 0o600, Limits::default(), end).await
        }
    });
    let connecting = async {
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let mut stream = timeout(DEADLINE, connecting).await.expect("in time");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("writes");
    assert!(read_all(&mut stream).await.ends_with("ok\n"));
    stop.send(()).expect("it runs");
    task.await.expect("no panic").expect("no error");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_says_where() {
    let path = std::path::Path::new("/nonexistent/control.sock");
    let router = Stage::one_down().router();
    let error = serve_unix(path, router, 0o600, Limits::default(), std::future::pending())
        .await
        .expect_err("no such directory");
    assert!(error.to_string().contains("/nonexistent/control.sock"), "{error}");
}
