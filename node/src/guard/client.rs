//! The agent's end of the conversation with its guard.
//!
//! A thread of its own listens, which runs before normal work: what the guard grants must be known on the busiest
//! machine, and whatever the agent's other tasks are at, or its services would be let go of for nothing.
//!
//! [`connect`] gives an [`Orders`] to speak and a [`Notices`] to listen. When the guard is gone the
//! stream of notices ends, and so must the agent: without its guard nobody beats for it. What the
//! node holds is let go of before the stream ends ([`LeaseWatch`]).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};

pub use super::lease_watch::{Lasting, LeaseWatch};
use super::protocol::{LineError, Lines, Notice, Order, line};
use super::sys;

/// Notices that wait for the agent's tasks. The guard sends a few a second; of what an agent that is 64 behind would get
/// besides, the latest report and lease are kept, and everything else.
const WAITING: usize = 64;

/// How often it is tried to hand on what waits.
const AGAIN: Duration = Duration::from_millis(20);

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
///
/// # Errors
/// If nobody listens there, or the thread cannot be started.
pub async fn connect(path: &Path) -> Result<(Orders, Notices), ClientError> {
    let shown = path.display().to_string();
    let failed = |source| ClientError::Io { path: shown.clone(), source };
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    let socket = stream.into_std().map_err(failed)?;
    let reader = socket.try_clone().map_err(failed)?;
    let (_, writer) = UnixStream::from_std(socket).map_err(failed)?.into_split();
    let (sender, receiver) = mpsc::channel(WAITING);
    let watch = LeaseWatch::default();
    let writer = Arc::new(Mutex::new(writer));
    let (heard, open) = (watch.clone(), writer.clone());
    std::thread::Builder::new()
        .name("guard's notices".into())
        .stack_size(512 << 10)
        .spawn(move || {
            read_to_the_end(reader, sender, &heard);
            // Whoever speaks may end before the process does. The guard takes that for the end of the agent, and closes
            // the conversation, and this for the end of the guard.
            drop(open);
        })
        .map_err(failed)?;
    let orders = Orders { path: shown.into(), writer };
    Ok((orders, Notices { receiver, watch }))
}

/// When nothing more can be heard of the guard, whatever the reason, everything is let go of; then
/// the stream of notices ends.
fn read_to_the_end(socket: Socket, sender: mpsc::Sender<Notice>, watch: &LeaseWatch) {
    if let Err(error) = sys::nearly_real_time() {
        tracing::warn!(
            %error,
            "the guard is listened to without real-time priority: on a busy machine services may be let go of for \
             nothing. Give the service CAP_SYS_NICE or LimitRTPRIO=10"
        );
    }
    read(socket, &sender, watch);
    watch.guard_gone();
    drop(sender);
}

/// Ends when the guard is gone, or talks nonsense. An agent whose tasks take no notices any more is about to end, and its
/// successor will have what it holds: until then the watch goes on.
fn read(mut socket: Socket, sender: &mpsc::Sender<Notice>, watch: &LeaseWatch) {
    let mut lines = Lines::default();
    let mut waiting = Waiting::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let again = (!waiting.0.is_empty()).then_some(AGAIN);
        sys::wait(&mut [sys::readable(&socket)], again);
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => lines.extend(&buffer[..length]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return tracing::warn!(%error, "the guard's socket failed"),
        }
        loop {
            match next(&mut lines) {
                Ok(Some(notice)) => {
                    watch.hear(&notice);
                    waiting.put(notice);
                }
                Ok(None) => break,
                Err(error) => return tracing::error!(%error, "the guard is not understood"),
            }
        }
        waiting.hand_on(sender);
    }
}

/// What the agent's tasks have not taken yet.
#[derive(Default)]
struct Waiting(VecDeque<Notice>);

impl Waiting {
    /// Of reports and leases the latest counts.
    fn put(&mut self, notice: Notice) {
        let kind = std::mem::discriminant(&notice);
        if matches!(notice, Notice::Report(_) | Notice::Lease { .. }) {
            self.0.retain(|it| std::mem::discriminant(it) != kind);
        }
        self.0.push_back(notice);
    }

    /// Hands on what there is room for.
    fn hand_on(&mut self, sender: &mpsc::Sender<Notice>) {
        while let Some(notice) = self.0.pop_front() {
            match sender.try_send(notice) {
                Ok(()) => {}
                Err(TrySendError::Full(notice)) => return self.0.push_front(notice),
                Err(TrySendError::Closed(_)) => return self.0.clear(),
            }
        }
    }
}

fn next(lines: &mut Lines) -> Result<Option<Notice>, LineError> {
    lines.next_message()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Leases are heard of though the agent's tasks take nothing, for whatever reason; and what they have not taken is
    /// there when they do.
    #[tokio::test]
    async fn leases_are_heard_of_though_nobody_takes_notices() {
        const MANY: usize = 10 * WAITING;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guard");
        let listener = UnixListener::bind(&path).unwrap();
        let (orders, mut notices) = connect(&path).await.unwrap();
        let (mut guard, _) = listener.accept().unwrap();
        let speaking = std::thread::spawn(move || {
            for number in 0..MANY {
                guard.write_all(&line(&Notice::Warning { text: number.to_string() })).unwrap();
            }
            let until_us = sys::boot_time_us() + 3_600_000_000;
            guard.write_all(&line(&Notice::Lease { until_us })).unwrap();
            guard
        });
        let watch = notices.lease_watch();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !watch.is_valid() {
            assert!(std::time::Instant::now() < end, "the lease was not heard of");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for number in 0..MANY {
            let Some(Notice::Warning { text }) = notices.next().await else { panic!("{number}") };
            assert_eq!(text, number.to_string());
        }
        assert!(matches!(notices.next().await, Some(Notice::Lease { .. })));
        drop((speaking.join().unwrap(), orders));
        assert!(notices.next().await.is_none(), "the guard is gone");
    }

    /// An agent that ends takes no notices any more. What it holds is not let go of for that: the next one has it.
    #[tokio::test]
    async fn an_agent_that_is_about_to_end_lets_go_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guard");
        let listener = UnixListener::bind(&path).unwrap();
        let (orders, notices) = connect(&path).await.unwrap();
        let (mut guard, _) = listener.accept().unwrap();
        let watch = notices.lease_watch();
        drop((notices, orders));
        for ahead in [1_000_000_u64, 3_600_000_000] {
            guard.write_all(&line(&Notice::Warning { text: "so".into() })).unwrap();
            let until_us = sys::boot_time_us() + ahead;
            guard.write_all(&line(&Notice::Lease { until_us })).unwrap();
        }
        guard.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let heard = guard.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(
            heard,
            Err(ErrorKind::WouldBlock),
            "as long as its process is there, it is not gone"
        );
        assert!(watch.is_valid(), "what was granted last is heard of");
    }
}
