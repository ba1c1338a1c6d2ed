//! What the gate consists of: tables, sets, chains and rules, as messages of a transaction.
//!
//! As `nft list ruleset` shows it:
//!
//! ```text
//! table inet NAME {
//!   set known4 { type ipv4_addr; }                  set live4 { type ipv4_addr; flags timeout; }
//!   set known6 { type ipv6_addr; }                  set live6 { type ipv6_addr; flags timeout; }
//!   chain in  { type filter hook prerouting priority -310;
//!     ip  daddr @known4 ip  daddr != @live4 drop    ip6 daddr @known6 ip6 daddr != @live6 drop }
//!   chain out { type filter hook postrouting priority 310;
//!     ip  saddr @known4 ip  saddr != @live4 drop    ip6 saddr @known6 ip6 saddr != @live6 drop
//!     an ICMPv6 neighbour advertisement for a target in @known6 that is not in @live6 drop }
//! }
//! table arp NAME {
//!   set known4, set live4
//!   chain out { type filter hook output; arp saddr ip @known4 arp saddr ip != @live4 drop }
//! }
//! ```
//!
//! Only what this node does *with* a service address is stopped: packets for it that come in, and
//! packets from it that go out. A client on this node still reaches the address where it is now, and
//! still learns from neighbours who has it.

use std::net::IpAddr;
use std::time::Duration;

use super::batch::{Batch, name, nested, number};
use crate::netlink::message::push;

// Messages (`enum nf_tables_msg_types`).
pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DEL_ELEMENT: u16 = 14;

/// `NFPROTO_INET`: IPv4 and IPv6.
pub(super) const INET: u8 = 1;
/// `NFPROTO_ARP`
pub(super) const ARP: u8 = 3;

/// Chains and rules in each family, as many as [`create`] makes.
pub(super) const SHAPE: [(u8, Shape); 2] =
    [(INET, Shape { chains: 2, rules: 5 }), (ARP, Shape { chains: 1, rules: 1 })];

/// How many chains and rules a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) chains: usize,
    pub(super) rules: usize,
}

/// Nobody else may change the table while this socket is open (not even `nft flush ruleset`), and
/// it stays when the socket is closed: `NFT_TABLE_F_OWNER`, `NFT_TABLE_F_PERSIST`.
pub(super) const OWNED: u32 = 2 | 4;

/// A set in a family.
#[derive(Clone, Copy, Debug)]
struct Set {
    family: u8,
    known: &'static str,
    live: &'static str,
    six: bool,
}

const SETS: [Set; 3] = [
    Set { family: INET, known: "known4", live: "live4", six: false },
    Set { family: INET, known: "known6", live: "live6", six: true },
    Set { family: ARP, known: "known4", live: "live4", six: false },
];

/// Most elements in one message, whose length is sixteen bits.
const ELEMENTS: usize = 500;

/// Where in a packet something is, and how long it is.
#[derive(Clone, Copy, Debug)]
struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

const fn network(offset: u32, length: u32) -> Field {
    Field { base: 1, offset, length }
}

const fn transport(offset: u32, length: u32) -> Field {
    Field { base: 2, offset, length }
}

/// `NFT_META_NFPROTO`, `NFT_META_L4PROTO`
const PROTOCOL: u32 = 15;
const TRANSPORT: u32 = 16;
/// ICMPv6 "neighbour advertisement".
const ADVERTISEMENT: u8 = 136;

/// Removes a table.
pub(super) fn remove(batch: &mut Batch, family: u8, table: &str) {
    batch.add(DEL_TABLE, 0, family, |body| name(body, 1, table));
}

/// Makes both tables, closed for every address that is known.
pub(super) fn create(batch: &mut Batch, table: &str, flags: u32, known: &[IpAddr]) {
    for family in [INET, ARP] {
        batch.add(NEW_TABLE, libc::NLM_F_CREATE, family, |body| {
            name(body, 1, table);
            number(body, 2, flags);
        });
    }
    for (id, set) in (1..).step_by(2).zip(SETS) {
        new_set(batch, table, set.family, (set.known, id), set.six, 0);
        new_set(batch, table, set.family, (set.live, id + 1), set.six, 0x10);
    }
    chains(batch, table);
    rules(batch, table);
    fill_known(batch, table, known);
}

fn new_set(
    batch: &mut Batch,
    table: &str,
    family: u8,
    (set, id): (&str, u32),
    six: bool,
    flags: u32,
) {
    batch.add(NEW_SET, libc::NLM_F_CREATE, family, |body| {
        name(body, 1, table);
        name(body, 2, set);
        number(body, 3, flags);
        // The kinds that `nft` calls ipv4_addr and ipv6_addr.
        number(body, 4, if six { 8 } else { 7 });
        number(body, 5, if six { 16 } else { 4 });
        number(body, 10, id);
    });
}

fn chains(batch: &mut Batch, table: &str) {
    // Before address translation on the way in, after it on the way out.
    for (family, chain, hook, priority) in
        [(INET, "in", 0, -310_i32), (INET, "out", 4, 310), (ARP, "out", 1, 0)]
    {
        batch.add(NEW_CHAIN, libc::NLM_F_CREATE, family, |body| {
            name(body, 1, table);
            name(body, 3, chain);
            nested(body, 4, |hooked| {
                number(hooked, 1, hook);
                number(hooked, 2, priority as u32);
            });
            // `NF_ACCEPT`
            number(body, 5, 1);
            name(body, 7, "filter");
        });
    }
}

fn rules(batch: &mut Batch, table: &str) {
    let [four, six, arp] = SETS;
    rule(batch, table, four, "in", |list| only_protocol(list, libc::NFPROTO_IPV4), network(16, 4));
    rule(batch, table, six, "in", |list| only_protocol(list, libc::NFPROTO_IPV6), network(24, 16));
    rule(batch, table, four, "out", |list| only_protocol(list, libc::NFPROTO_IPV4), network(12, 4));
    rule(batch, table, six, "out", |list| only_protocol(list, libc::NFPROTO_IPV6), network(8, 16));
    rule(batch, table, six, "out", only_advertisements, transport(8, 16));
    rule(batch, table, arp, "out", |_| (), network(14, 4));
}

/// A rule: if the packet passes `only`, and `field` is known and not live, drop it.
fn rule(
    batch: &mut Batch,
    table: &str,
    set: Set,
    chain: &str,
    only: impl FnOnce(&mut Vec<u8>),
    field: Field,
) {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
    batch.add(NEW_RULE, flags, set.family, |body| {
        name(body, 1, table);
        name(body, 2, chain);
        nested(body, 4, |list| {
            only(list);
            load(list, field);
            look_up(list, set.known, false);
            look_up(list, set.live, true);
            drop_it(list);
        });
    });
}

fn only_protocol(list: &mut Vec<u8>, protocol: i32) {
    compare_meta(list, PROTOCOL, protocol as u8);
}

fn only_advertisements(list: &mut Vec<u8>) {
    only_protocol(list, libc::NFPROTO_IPV6);
    compare_meta(list, TRANSPORT, libc::IPPROTO_ICMPV6 as u8);
    load(list, transport(0, 1));
    compare(list, ADVERTISEMENT);
}

fn expression(list: &mut Vec<u8>, kind: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    nested(list, 1, |element| {
        name(element, 1, kind);
        nested(element, 2, fill);
    });
}

/// Everything passes through the first register of sixteen bytes.
const REGISTER: u32 = 1;

fn compare_meta(list: &mut Vec<u8>, key: u32, value: u8) {
    expression(list, "meta", |body| {
        number(body, 1, REGISTER);
        number(body, 2, key);
    });
    compare(list, value);
}

fn compare(list: &mut Vec<u8>, value: u8) {
    expression(list, "cmp", |body| {
        number(body, 1, REGISTER);
        number(body, 2, 0);
        nested(body, 3, |data| push(data, 1, &[value]));
    });
}

fn load(list: &mut Vec<u8>, field: Field) {
    expression(list, "payload", |body| {
        number(body, 1, REGISTER);
        number(body, 2, field.base);
        number(body, 3, field.offset);
        number(body, 4, field.length);
    });
}

fn look_up(list: &mut Vec<u8>, set: &str, inverted: bool) {
    expression(list, "lookup", |body| {
        name(body, 1, set);
        number(body, 2, REGISTER);
        number(body, 5, u32::from(inverted));
    });
}

fn drop_it(list: &mut Vec<u8>) {
    expression(list, "immediate", |body| {
        number(body, 1, 0);
        nested(body, 2, |data| nested(data, 2, |verdict| number(verdict, 1, libc::NF_DROP as u32)));
    });
}

/// Replaces what is known.
pub(super) fn replace_known(batch: &mut Batch, table: &str, known: &[IpAddr]) {
    for set in SETS {
        flush(batch, table, set.family, set.known);
    }
    fill_known(batch, table, known);
}

/// Replaces what is live. Taking out and putting in within one transaction is what begins a new
/// time for an element; adding it once more would leave the old time as it is.
pub(super) fn replace_live(batch: &mut Batch, table: &str, live: &[IpAddr], time: Duration) {
    for set in SETS {
        flush(batch, table, set.family, set.live);
        fill(batch, table, set.family, (set.live, set.six), live, Some(time));
    }
}

fn fill_known(batch: &mut Batch, table: &str, known: &[IpAddr]) {
    for set in SETS {
        fill(batch, table, set.family, (set.known, set.six), known, None);
    }
}

/// Takes everything out of a set; that there is nothing is no error.
fn flush(batch: &mut Batch, table: &str, family: u8, set: &str) {
    batch.add(DEL_ELEMENT, 0, family, |body| {
        name(body, 1, table);
        name(body, 2, set);
    });
}

fn fill(
    batch: &mut Batch,
    table: &str,
    family: u8,
    (set, six): (&str, bool),
    addresses: &[IpAddr],
    time: Option<Duration>,
) {
    let fitting: Vec<_> = addresses.iter().filter(|address| address.is_ipv6() == six).collect();
    for some in fitting.chunks(ELEMENTS) {
        batch.add(NEW_ELEMENT, libc::NLM_F_CREATE, family, |body| {
            name(body, 1, table);
            name(body, 2, set);
            nested(body, 3, |list| some.iter().for_each(|address| element(list, address, time)));
        });
    }
}

fn element(list: &mut Vec<u8>, address: &IpAddr, time: Option<Duration>) {
    nested(list, 1, |body| {
        nested(body, 1, |key| match address {
            IpAddr::V4(four) => push(key, 1, &four.octets()),
            IpAddr::V6(six) => push(key, 1, &six.octets()),
        });
        if let Some(time) = time {
            push(body, 4, &(time.as_millis() as u64).to_be_bytes());
        }
    });
}
