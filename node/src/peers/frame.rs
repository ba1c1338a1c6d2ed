//! Messages on a connection, cut into pieces.
//!
//! A snapshot of many megabytes must not hold up the log's next heartbeat behind it on the same
//! connection. So a message travels in pieces of at most [`PIECE`] bytes, and messages that wait
//! take turns. A piece is
//!
//! ```text
//! u32 length of what follows | u64 request id | u16 kind, highest bit: more pieces follow | bytes
//! ```
//!
//! (big-endian). Whoever reads gives a limit for whole messages and holds no more than that for
//! all unfinished ones together.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Largest piece of a message.
pub const PIECE: usize = 32 * 1024;
/// Largest message between members: a snapshot of the state with all alert scripts.
pub const LARGEST: usize = 64 * 1024 * 1024;
/// Largest message from somebody without a certificate.
pub const LARGEST_FROM_STRANGER: usize = 64 * 1024;
/// Largest number of messages that a peer may send at once, each unfinished.
const MOST_UNFINISHED: usize = 128;
/// Bytes of a piece before its content, without the length.
const HEADER: usize = 10;
const MORE: u16 = 0x8000;

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request that it is, or that it answers.
    pub id: u64,
    /// What it is.
    pub kind: u16,
    /// What it says.
    pub body: Vec<u8>,
}

/// A message to send. The body is shared, as it may go over two networks.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The request that it is, or that it answers.
    pub id: u64,
    /// What it is.
    pub kind: u16,
    /// What it says.
    pub body: Arc<Vec<u8>>,
}

impl Outgoing {
    /// A message.
    pub fn new(id: u64, kind: u16, body: Vec<u8>) -> Self {
        Self { id, kind, body: Arc::new(body) }
    }

    /// The piece that begins at `from`, and where the next one begins if there is one.
    fn piece(&self, from: usize) -> (Vec<u8>, Option<usize>) {
        let to = self.body.len().min(from.saturating_add(PIECE));
        let content = self.body.get(from..to).unwrap_or_default();
        let next = (to < self.body.len()).then_some(to);
        let kind = if next.is_some() { self.kind | MORE } else { self.kind };
        let mut bytes = Vec::with_capacity(4 + HEADER + content.len());
        bytes.extend_from_slice(&((HEADER + content.len()) as u32).to_be_bytes());
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(content);
        (bytes, next)
    }
}

/// Puts pieces together again.
#[derive(Debug)]
pub struct Assembly {
    limit: usize,
    held: usize,
    unfinished: BTreeMap<u64, Vec<u8>>,
}

impl Assembly {
    /// For messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: 0, unfinished: BTreeMap::new() }
    }

    /// Takes a piece: the message, if it was the last.
    ///
    /// # Errors
    /// The message is too long, or too many are unfinished.
    pub fn accept(&mut self, id: u64, kind: u16, piece: &[u8]) -> io::Result<Option<Message>> {
        if self.held.saturating_add(piece.len()) > self.limit {
            return Err(invalid(format!("a message is longer than {} bytes", self.limit)));
        }
        if kind & MORE == 0 {
            let mut body = self.unfinished.remove(&id).unwrap_or_default();
            self.held -= body.len();
            body.extend_from_slice(piece);
            return Ok(Some(Message { id, kind, body }));
        }
        if self.unfinished.len() >= MOST_UNFINISHED && !self.unfinished.contains_key(&id) {
            return Err(invalid(format!("more than {MOST_UNFINISHED} messages are unfinished")));
        }
        self.unfinished.entry(id).or_default().extend_from_slice(piece);
        self.held += piece.len();
        Ok(None)
    }

    /// Reads the next whole message. Not to be cancelled in between.
    ///
    /// # Errors
    /// The connection ends or fails, or what arrives is no message within the limit.
    pub async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
        loop {
            let length = from.read_u32().await? as usize;
            if !(HEADER..=HEADER + PIECE).contains(&length) {
                return Err(invalid(format!("a piece claims {length} bytes")));
            }
            let id = from.read_u64().await?;
            let kind = from.read_u16().await?;
            let mut piece = vec![0; length - HEADER];
            from.read_exact(&mut piece).await?;
            if let Some(message) = self.accept(id, kind, &piece)? {
                return Ok(message);
            }
        }
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Sends one message and nothing else meanwhile.
///
/// # Errors
/// The connection fails.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), message: &Outgoing) -> io::Result<()> {
    let mut next = Some(0);
    while let Some(from) = next {
        let (piece, following) = message.piece(from);
        to.write_all(&piece).await?;
        next = following;
    }
    to.flush().await
}

/// Sends what comes out of `queue`, a piece of each message in turn, until the queue is closed.
///
/// # Errors
/// The connection fails.
pub async fn send_all(
    to: &mut (impl AsyncWrite + Unpin),
    mut queue: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    let mut turns: VecDeque<(Outgoing, usize)> = VecDeque::new();
    loop {
        if turns.is_empty() {
            to.flush().await?;
            let Some(message) = queue.recv().await else { return Ok(()) };
            turns.push_back((message, 0));
        }
        while turns.len() < MOST_UNFINISHED
            && let Ok(message) = queue.try_recv()
        {
            turns.push_back((message, 0));
        }
        if let Some((message, from)) = turns.pop_front() {
            let (piece, next) = message.piece(from);
            to.write_all(&piece).await?;
            turns.extend(next.map(|next| (message, next)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends the messages through `send_all` into memory.
    async fn wire(messages: &[Outgoing]) -> Vec<u8> {
        let (sender, queue) = mpsc::channel(messages.len().max(1));
        for message in messages {
            sender.send(message.clone()).await.expect("the queue is open");
        }
        drop(sender);
        let mut bytes = Vec::new();
        send_all(&mut bytes, queue).await.expect("memory takes everything");
        bytes
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    /// A long message does not hold up a short one that is queued behind it.
    #[test]
    fn short_messages_overtake_long_ones() {
        let long = Outgoing::new(1, 1, vec![7; 10 * PIECE]);
        let short = Outgoing::new(2, 1, vec![8; 10]);
        run(async {
            let bytes = wire(&[long, short]).await;
            let mut assembly = Assembly::new(LARGEST);
            let mut from = bytes.as_slice();
            let first = assembly.read(&mut from).await.expect("a message");
            assert_eq!((first.id, first.body.len()), (2, 10));
            let second = assembly.read(&mut from).await.expect("a message");
            assert_eq!((second.id, second.body.len()), (1, 10 * PIECE));
        });
    }

    /// What is longer than the limit is refused before it is held.
    #[test]
    fn long_messages_of_strangers_are_refused() {
        let long = Outgoing::new(1, 1, vec![7; LARGEST_FROM_STRANGER + 1]);
        run(async {
            let bytes = wire(&[long]).await;
            let mut assembly = Assembly::new(LARGEST_FROM_STRANGER);
            let refused = assembly.read(&mut bytes.as_slice()).await.expect_err("too long");
            assert_eq!(refused.to_string(), "a message is longer than 65536 bytes");
        });
    }

    proptest! {
        /// Whatever arrives, reading ends in messages or an error.
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            run(async {
                let mut assembly = Assembly::new(1_000);
                let mut from = bytes.as_slice();
                while assembly.read(&mut from).await.is_ok() {}
            });
        }

        /// Messages of any length arrive as they were sent.
        #[test]
        fn messages_survive_the_wire(
            lengths in proptest::collection::vec(0usize..3 * PIECE, 0..6),
            kind in 0u16..0x8000,
        ) {
            let messages: Vec<Outgoing> = lengths
                .iter()
                .enumerate()
                .map(|(id, length)| Outgoing::new(id as u64, kind, vec![id as u8; *length]))
                .collect();
            run(async {
                let bytes = wire(&messages).await;
                let mut assembly = Assembly::new(LARGEST);
                let mut from = bytes.as_slice();
                let mut arrived = Vec::new();
                while let Ok(message) = assembly.read(&mut from).await {
                    arrived.push(message);
                }
                arrived.sort_by_key(|message| message.id);
                let sent: Vec<Message> = messages
                    .iter()
                    .map(|m| Message { id: m.id, kind: m.kind, body: m.body.to_vec() })
                    .collect();
                assert_eq!(arrived, sent);
                assert_eq!(assembly.held, 0);
            });
        }
    }
}
