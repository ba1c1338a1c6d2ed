//! Sockets: the limits that keep one client from harming the others or the daemon.
//!
//! A connection must send its request head in time and within a size, must read what it asked
//! for, and there are only so many connections. At the end, open ones get a short while to finish.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use vedette_collector::clinfo::ProblemDoc;
use vedette_collector::clinfo::problem::Kind;

use crate::problem::MEDIA_TYPE;
use crate::stall::StallGuard;

/// What one socket allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; one more is answered 503 and closed.
    pub connections: usize,
    /// Time for a request's head to arrive, also on a connection that is kept open.
    pub head_timeout: Duration,
    /// Size of a request's head.
    pub head_bytes: usize,
    /// How long a write may wait for the client to read.
    pub stall: Duration,
    /// How long open connections may go on after the end was called.
    pub goodbye: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            head_timeout: Duration::from_secs(15),
            head_bytes: 16 * 1_024,
            stall: Duration::from_secs(30),
            goodbye: Duration::from_millis(500),
        }
    }
}

/// The answer to one connection too many.
fn full() -> String {
    let problem = ProblemDoc::new(
        Kind::TooManyConnections,
        "Too many connections are open.",
        "Try again, or ask another node.",
    );
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let length = body.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\n\
         connection: close\r\nretry-after: 1\r\n\r\n{body}"
    )
}

/// Serves `router` on a TCP socket until `shutdown` is done.
///
/// # Errors
/// None now; kept for symmetry with [`serve_unix`].
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve(listener, router, limits, shutdown).await;
    Ok(())
}

/// Serves `router` on a Unix socket at `path`, with the permissions `mode` (such as `0o600`), until
/// `shutdown` is done. A socket that an earlier run left there is replaced.
///
/// # Errors
/// The socket cannot be made; the error says where.
pub async fn serve_unix(
    path: &Path,
    router: Router,
    mode: u32,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let listener = bind_unix(path, mode)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    serve(listener, router, limits, shutdown).await;
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// Binds under another name first: nobody can connect before the permissions are right.
fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".new");
    let hidden = Path::new(&hidden);
    match std::fs::remove_file(hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(hidden)?;
    std::fs::set_permissions(hidden, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(hidden, path)?;
    Ok(listener)
}

/// A socket that connections come from.
trait Listen: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn connection(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn connection(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn connection(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn serve(
    listener: impl Listen,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (ending, end) = watch::channel(false);
    let mut open = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.connection() => accepted,
        };
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok(stream), Ok(place)) => {
                open.spawn(connection(stream, place, router.clone(), limits, end.clone()));
            }
            (Ok(stream), Err(_)) => {
                open.spawn(refuse(stream));
            }
            (Err(error), _) => {
                // Out of file descriptors, most likely: closing connections will help.
                warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let _ = ending.send(true);
    let all_closed = async { while open.join_next().await.is_some() {} };
    if timeout(limits.goodbye, all_closed).await.is_err() {
        open.shutdown().await;
    }
}

async fn connection<S>(
    stream: S,
    _place: OwnedSemaphorePermit,
    router: Router,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(StallGuard::new(stream, limits.stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes.max(8_192))
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(connection);
    let mut leaving = false;
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    debug!(%error, "a connection ended early");
                }
                return;
            }
            _ = end.wait_for(|end| *end), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// One second for the client to be told; it must not cost more than that.
async fn refuse<S: AsyncWrite + Unpin>(mut stream: S) {
    let tell = async {
        let _ = stream.write_all(full().as_bytes()).await;
        let _ = stream.shutdown().await;
    };
    let _ = timeout(Duration::from_secs(1), tell).await;
}
