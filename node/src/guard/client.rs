//! The agent's end of the conversation with its guard.
//!
//! [`connect`] gives an [`Orders`] to speak and a [`Notices`] to listen. When the guard is gone the
//! stream of notices ends, and so must the agent: without its guard nobody beats for it. What the
//! node holds is let go of before the stream ends ([`LeaseWatch`]).

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};

pub use super::lease_watch::{Lasting, LeaseWatch};
use super::protocol::{LineError, Lines, Notice, Order, line};

/// Notices that wait for the agent. The guard sends a few a second; an agent that is 64 behind
/// makes the guard wait and merge its reports.
const WAITING: usize = 64;

/// Why the guard cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Connecting or writing failed.
    #[error(
        "the guard does not answer on {path}: {source}. \
         Start the agent through `vedette daemon`, which starts the guard first"
    )]
    Io {
        /// The socket.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Sends orders; cheap to clone.
#[derive(Clone, Debug)]
pub struct Orders {
    path: Arc<str>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
}

impl Orders {
    /// Sends one order. Orders of several tasks do not mix.
    pub async fn send(&self, order: &Order) -> Result<(), ClientError> {
        let mut writer = self.writer.lock().await;
        writer
            .write_all(&line(order))
            .await
            .map_err(|source| ClientError::Io { path: self.path.to_string(), source })
    }
}

/// Receives notices.
#[derive(Debug)]
pub struct Notices {
    receiver: mpsc::Receiver<Notice>,
    watch: LeaseWatch,
}

impl Notices {
    /// The next notice; `None` once the guard is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        self.receiver.recv().await
    }

    /// The watch over the lease, which hears of each grant and of the guard's end by itself.
    pub fn lease_watch(&self) -> LeaseWatch {
        self.watch.clone()
    }
}

/// Connects to the guard that listens on `path`.
pub async fn connect(path: &Path) -> Result<(Orders, Notices), ClientError> {
    let shown = path.display().to_string();
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| ClientError::Io { path: shown.clone(), source })?;
    let (reader, writer) = stream.into_split();
    let (sender, receiver) = mpsc::channel(WAITING);
    let watch = LeaseWatch::default();
    tokio::spawn(read_to_the_end(reader, sender, watch.clone()));
    let orders = Orders { path: shown.into(), writer: Arc::new(Mutex::new(writer)) };
    Ok((orders, Notices { receiver, watch }))
}

/// When nothing more can be heard of the guard, whatever the reason, everything is let go of; then
/// the stream of notices ends.
async fn read_to_the_end(reader: OwnedReadHalf, sender: mpsc::Sender<Notice>, watch: LeaseWatch) {
    read(reader, &sender, &watch).await;
    // Not on this thread: it may take as long as a release may.
    let _ = tokio::task::spawn_blocking(move || watch.guard_gone()).await;
    drop(sender);
}

/// Ends when the guard is gone, talks nonsense, or nobody listens any more.
async fn read(mut reader: OwnedReadHalf, sender: &mpsc::Sender<Notice>, watch: &LeaseWatch) {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => lines.extend(&buffer[..length]),
            Err(error) => return tracing::warn!(%error, "the guard's socket failed"),
        }
        loop {
            match next(&mut lines) {
                Ok(Some(notice)) => {
                    watch.hear(&notice);
                    if sender.send(notice).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => return tracing::error!(%error, "the guard is not understood"),
            }
        }
    }
}

fn next(lines: &mut Lines) -> Result<Option<Notice>, LineError> {
    lines.next_message()
}
