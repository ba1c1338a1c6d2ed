//! Transactions to nftables: a run of netlink messages that the kernel carries out all or none.
//!
//! Numbers in attributes are big-endian, unlike in the messages' headers. An attribute that holds
//! attributes is marked as nested; [`nested`] measures it after it was filled.

use crate::netlink::message::push;

/// Marks an attribute that holds others.
const NESTED: u16 = 1 << 15;
/// The subsystem's number in a message's kind.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;

/// A transaction that is being written.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    first: u32,
    next: u32,
    /// Where the last message's flags are.
    last: usize,
}

impl Batch {
    /// Its messages count from `first`.
    pub(super) fn new(first: u32) -> Self {
        let mut batch = Self { bytes: Vec::with_capacity(2_048), first, next: first, last: 0 };
        batch.raw(BATCH_BEGIN, 0, (0, NFTABLES), |_| ());
        batch
    }

    /// Adds a message: `NFT_MSG_…`, `NLM_F_…`, `NFPROTO_…`, and attributes.
    pub(super) fn add(
        &mut self,
        message: u16,
        flags: i32,
        family: u8,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        self.last = self.bytes.len() + 6;
        self.raw(NFTABLES << 8 | message, flags as u16, (family, 0), fill);
    }

    fn raw(
        &mut self,
        kind: u16,
        flags: u16,
        (family, resource): (u8, u16),
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let at = self.bytes.len();
        header(&mut self.bytes, kind, flags | libc::NLM_F_REQUEST as u16, self.next);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(&mut self.bytes);
        let length = (self.bytes.len() - at) as u32;
        self.bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
        self.next = self.next.wrapping_add(1);
    }

    /// The bytes, and the first and the last message's numbers: an error may name any of them; that
    /// all went well is said of the last.
    pub(super) fn finish(mut self) -> (Vec<u8>, u32, u32) {
        let last = self.next.wrapping_sub(1);
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        if let Some(there) = self.bytes.get(self.last..self.last + 2) {
            let flags = flags | u16::from_ne_bytes([there[0], there[1]]);
            self.bytes[self.last..self.last + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        self.raw(BATCH_END, 0, (0, NFTABLES), |_| ());
        (self.bytes, self.first, last)
    }
}

/// A question outside of a transaction, about everything of a kind in a family. Where the kernel
/// can, it leaves out what is not in the table.
pub(super) fn question(message: u16, sequence: u32, family: u8, table: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 4 + table.len());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    header(&mut bytes, NFTABLES << 8 | message, flags, sequence);
    bytes.extend([family, 0, 0, 0]);
    name(&mut bytes, 1, table);
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// The message's number in an answer's kind, if it is one of nftables.
pub(super) fn message_of(kind: u16) -> Option<u16> {
    (kind >> 8 == NFTABLES).then_some(kind & 0xff)
}

fn header(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) {
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
}

/// An attribute with a number.
pub(super) fn number(body: &mut Vec<u8>, kind: u16, value: u32) {
    push(body, kind, &value.to_be_bytes());
}

/// An attribute with a name.
pub(super) fn name(body: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    push(body, kind, &bytes);
}

/// An attribute that holds others. What does not fit into one is the caller's fault; callers keep
/// far below 64 KiB.
pub(super) fn nested(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = body.len();
    push(body, kind | NESTED, &[]);
    fill(body);
    let length = (body.len() - at) as u16;
    body[at..at + 2].copy_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::message::{Message, attributes, split};

    proptest! {
        /// What is written can be taken apart again, in order, with a begin and an end.
        #[test]
        fn a_batch_reads_as_it_was_written(
            first: u32,
            messages in prop::collection::vec((0_u16..25, prop::collection::vec(any::<u8>(), 0..30)), 1..6),
        ) {
            let mut batch = Batch::new(first);
            for (message, value) in &messages {
                batch.add(*message, 0, 1, |body| nested(body, 3, |body| push(body, 7, value)));
            }
            let (bytes, begin, last) = batch.finish();
            prop_assert_eq!(begin, first);
            prop_assert_eq!(last, first.wrapping_add(messages.len() as u32));
            let read = split(&bytes);
            prop_assert_eq!(read.len(), messages.len() + 2);
            for (at, (message, value)) in messages.iter().enumerate() {
                let Message::Item { kind, body, sequence } = read[at + 1] else {
                    return Err(TestCaseError::fail("not an item"));
                };
                prop_assert_eq!(message_of(kind), Some(*message));
                prop_assert_eq!(sequence, first.wrapping_add(at as u32 + 1));
                let outer = attributes(&body[4..]);
                let inner = attributes(outer[0].1);
                prop_assert_eq!((outer[0].0, inner[0].0), (3, 7));
                prop_assert_eq!(inner[0].1, value.as_slice());
            }
        }
    }
}
