//! One open connection to a peer, shared by many requests at a time.
//!
//! Each request has an id and waits for the answer that carries the same. A request whose caller
//! went away (its answer came over another network, or too late) is forgotten; an answer to it is
//! thrown away. The connection is asked for a sign of life every second, and ends when there is
//! none for [`SILENT`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use vedette_core::refusal::Refusal;

use super::dial::refusal;
use super::frame::{Assembly, LARGEST, Message, Outgoing, send_all};
use super::kinds;
use crate::pki;

/// A connection on which nothing arrives for this long is given up.
const SILENT: Duration = Duration::from_secs(4);
const PING_EVERY: Duration = Duration::from_secs(1);
/// Messages that wait to be sent; enough for every kind of request of a busy node at once.
const QUEUE: usize = 256;

type Waiting = BTreeMap<u64, oneshot::Sender<Result<Vec<u8>, Refusal>>>;

/// How a request on one connection ended without an answer.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer refused it.
    Refused(Refusal),
    /// The connection is no more; whether the request arrived is not known.
    Lost(String),
}

/// The caller's side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    last_id: AtomicU64,
    waiting: Mutex<Waiting>,
    /// A request waited too long here, and nothing has arrived since.
    suspect: AtomicBool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Forgets a request when its caller goes away.
struct Forget<'a>(&'a Shared, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

impl Connection {
    /// A connection over `stream`, and what must be run for it to work.
    pub(crate) fn new<S: AsyncRead + AsyncWrite>(stream: S) -> (Self, Driver<S>) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let driver = Driver { stream, outgoing, queue: queue.clone(), shared: shared.clone() };
        (Self { queue, shared }, driver)
    }

    /// Sends a request and waits for its answer, for as long as the caller cares to.
    pub(crate) async fn request(&self, kind: u16, body: Arc<Vec<u8>>) -> Result<Vec<u8>, Ended> {
        let id = self.shared.next_id();
        let (answer, answered) = oneshot::channel();
        self.shared.waiting().insert(id, answer);
        let _forget = Forget(&self.shared, id);
        let lost = || Ended::Lost("the connection was lost".into());
        self.queue.send(Outgoing { id, kind, body }).await.map_err(|_| lost())?;
        match answered.await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(refusal)) => Err(Ended::Refused(refusal)),
            Err(_) => Err(lost()),
        }
    }

    /// Notes that a request waits too long here.
    pub(crate) fn doubt(&self) {
        self.shared.suspect.store(true, Ordering::Relaxed);
    }

    /// Whether a request waited too long here and nothing has arrived since.
    pub(crate) fn suspect(&self) -> bool {
        self.shared.suspect.load(Ordering::Relaxed)
    }
}

/// The working side of a connection.
pub(crate) struct Driver<S> {
    stream: S,
    outgoing: mpsc::Receiver<Outgoing>,
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
}

impl<S: AsyncRead + AsyncWrite> Driver<S> {
    /// Works until the connection ends: why it did.
    pub(crate) async fn run(self) -> String {
        let Self { stream, outgoing, queue, shared } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let heard = Mutex::new(Instant::now());
        let why = tokio::select! {
            why = receive(&mut reader, &shared, &heard) => why,
            end = send_all(&mut writer, outgoing) => match end {
                Ok(()) => "nobody needs it any more".into(),
                Err(error) => pki::explain(&error),
            },
            why = ping(&queue, &shared, &heard) => why,
        };
        // Whoever still waits is told by its sender being dropped.
        shared.waiting().clear();
        why
    }
}

async fn receive(
    reader: &mut (impl AsyncRead + Unpin),
    shared: &Shared,
    heard: &Mutex<Instant>,
) -> String {
    let mut assembly = Assembly::new(LARGEST);
    loop {
        let message = match assembly.read(reader).await {
            Ok(message) => message,
            Err(error) => return pki::explain(&error),
        };
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        shared.suspect.store(false, Ordering::Relaxed);
        if let Some(why) = deliver(message, shared) {
            return why;
        }
    }
}

/// Gives an answer to who waits for it; why the connection ends, if it does.
fn deliver(message: Message, shared: &Shared) -> Option<String> {
    let answer = match message.kind {
        kinds::ANSWER => Ok(message.body),
        kinds::REFUSED if message.id == 0 => {
            return Some(format!("the peer refuses: {}", refusal(&message.body)));
        }
        kinds::REFUSED => Err(refusal(&message.body)),
        other => return Some(format!("the peer answers with kind {other}")),
    };
    if let Some(waiting) = shared.waiting().remove(&message.id) {
        // The caller may have gone away in this moment.
        let _ = waiting.send(answer);
    }
    None
}

/// Asks for a sign of life; ends when there is none.
async fn ping(queue: &mpsc::Sender<Outgoing>, shared: &Shared, heard: &Mutex<Instant>) -> String {
    let mut tick = interval(PING_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let silence = heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silence > SILENT {
            return format!("nothing was heard for {} s", silence.as_secs());
        }
        // A full queue means that there is traffic enough.
        let _ = queue.try_send(Outgoing::new(shared.next_id(), kinds::PING, Vec::new()));
    }
}
