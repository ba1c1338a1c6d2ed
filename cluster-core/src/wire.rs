//! The beat: the one packet that guards send each other, and the seal that makes it trustworthy.
//!
//! A beat is [`LEN`] bytes, big-endian, of fixed layout, so that encoding needs no allocation and
//! decoding can neither loop nor run past the end. Its last 16 bytes are HMAC-SHA256 over all bytes
//! before, keyed with the cluster's secret; nothing of a packet is believed before the seal is
//! right. The cluster tag comes first only because it is cheap: several clusters may share a wire
//! (spec H8, V4), and their packets are nobody's fault.
//!
//! The seal also covers the storage ids of both ends ([`Ends`]), which are not in the packet: each
//! end takes them from what it knows of the members. A state directory of a node that was deleted,
//! and whose number another machine has now, still holds the cluster's secret; its beats count for
//! nobody, and it believes nobody's.
//!
//! ```text
//!  0 magic "VDB"   3 version   4 cluster tag   12 source  14 destination  16 network
//! 17 agent status 18 flags    19 zero          20 session 28 sequence     36 sent (µs)
//! 44 director term           52 epoch      60 wall clock (µs)             68 position
//! 76 remains      84 echo: session            92 sequence 100 sent (µs) 108 held (µs)
//! 116 seal (16 bytes)
//! ```
//!
//! The wall clock and the position in the log ride along so that every node knows how far the clocks
//! and the logs of its peers are, without a director or a quorum.
//!
//! The seal says who wrote a packet, not when. When is what the [`Echo`] is for: a packet that
//! repeats the session which *this* run of *this* guard drew at its start was written after that
//! start. [`crate::topology`] judges that.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::id::{ClusterId, NetworkNumber, NodeNumber, Session, StorageId};
use crate::model::AgentStatus;
use crate::takeover::Remains;

/// Bytes of a beat on the wire.
pub const LEN: usize = SEALED + SEAL;

/// Bytes of a long beat: a beat with zeroes behind it, which makes a frame of an IPv4 network as long as
/// [`FRAME`]. It tells of nothing but the way: whoever gets the beats and not the long ones is behind something
/// that loses frames of that size, as those of the log and of snapshots are.
pub const LONG_LEN: usize = FRAME - 28;

/// Bytes of the IP packets that every network of a cluster has to carry.
pub const FRAME: usize = 1_400;

/// The version of the layout; a packet of another one is refused as such.
pub const VERSION: u8 = 6;

const MAGIC: [u8; 3] = *b"VDB";
const SEALED: usize = 116;
const SEAL: usize = 16;

/// Sixty-four bits of the cluster's id: enough to tell clusters on one wire apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterTag(pub u64);

impl From<ClusterId> for ClusterTag {
    fn from(id: ClusterId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// What a sender says besides its statuses; one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The sender's node is leaving on purpose (spec A19).
    pub leaving: bool,
    /// The sender was late itself and doubts its own view.
    pub self_suspect: bool,
    /// The sender hears the destination on this network.
    pub hears_you: bool,
    /// The sender's next beat on this network comes after two intervals, not one (spec V2).
    pub half_rate: bool,
    /// The sender watches the destination on this network and wants its beats.
    pub watching: bool,
    /// The sender's log stands still: what it says of the cluster is of the past.
    pub log_stalled: bool,
    /// The echo is of a beat that the sender accepted: if the sender votes, it is a grant (see [`crate::lease`]).
    pub grants: bool,
    /// The sender holds something by its lease, and would have it answered at once.
    pub asks: bool,
}

impl Flags {
    fn bits(self) -> u8 {
        u8::from(self.leaving)
            | u8::from(self.self_suspect) << 1
            | u8::from(self.hears_you) << 2
            | u8::from(self.half_rate) << 3
            | u8::from(self.watching) << 4
            | u8::from(self.log_stalled) << 5
            | u8::from(self.grants) << 6
            | u8::from(self.asks) << 7
    }

    const fn from_bits(bits: u8) -> Self {
        Self {
            leaving: bits & 1 != 0,
            self_suspect: bits & 2 != 0,
            hears_you: bits & 4 != 0,
            half_rate: bits & 8 != 0,
            watching: bits & 16 != 0,
            log_stalled: bits & 32 != 0,
            grants: bits & 64 != 0,
            asks: bits & 128 != 0,
        }
    }
}

/// What the sender last got from the destination on this network. All zero: nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echo {
    /// The session in that packet.
    pub session: Session,
    /// Its sequence number.
    pub seq: u64,
    /// Its time of sending, on the clock of who sent it.
    pub sent_us: u64,
    /// How long the sender held it before it sent this beat.
    pub held_us: u64,
}

/// A beat, as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Who sends.
    pub source: NodeNumber,
    /// To whom.
    pub destination: NodeNumber,
    /// Over which network.
    pub network: NetworkNumber,
    /// Status of the sender's agent.
    pub agent: AgentStatus,
    /// What else the sender says.
    pub flags: Flags,
    /// The run of the sender's guard.
    pub session: Session,
    /// Counts up by one with each beat of that session to this destination on this network.
    pub seq: u64,
    /// The sender's monotonic clock.
    pub sent_us: u64,
    /// The term of the sender's office if its agent is director and a majority confirmed that
    /// lately; otherwise 0.
    pub director_term: u64,
    /// The sender's epoch: it grows each time its lease ended and what it held was let go of, but for what
    /// `remains` (see [`crate::takeover`]).
    pub epoch: u64,
    /// Groups of earlier epochs of which something is still there.
    pub remains: Remains,
    /// The sender's wall clock when it sent this, in microseconds since 1970; 0 if it did not say.
    pub wall_us: u64,
    /// Index of the last log entry that the sender's agent has applied; 0 if that is not known.
    pub position: u64,
    /// What the sender last got from the destination.
    pub echo: Echo,
}

/// Why bytes are not a beat for this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than a beat has.
    #[error("the packet is shorter than a beat")]
    Truncated,
    /// More bytes than a beat has.
    #[error("the packet is longer than a beat")]
    Oversized,
    /// It does not begin like a beat.
    #[error("the packet is not a beat of Vedette")]
    Foreign,
    /// Another version of the layout.
    #[error("the packet has another protocol version")]
    Version(u8),
    /// A beat of another cluster on the same wire.
    #[error("the packet belongs to another cluster")]
    OtherCluster,
    /// The seal is wrong: another key, or the bytes were changed.
    #[error("the packet is not sealed with this cluster's key")]
    Seal,
    /// It says to be from a node that is no member: there is nothing to check its seal with.
    #[error("the packet's sender is no member of this cluster")]
    Stranger,
    /// Well sealed, yet a field has a value that this version does not know.
    #[error("a field of the packet has an unknown value")]
    Malformed,
}

/// The storages of the two ends of a beat, as whoever seals or opens it knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Of its source.
    pub source: StorageId,
    /// Of its destination.
    pub destination: StorageId,
}

/// Seals and opens the beats of one cluster. The keyed state is computed once and cloned.
#[derive(Clone)]
pub struct Codec {
    keyed: Hmac<Sha256>,
    tag: ClusterTag,
}

impl fmt::Debug for Codec {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl Codec {
    /// A codec for the cluster with this id and secret.
    pub fn new(cluster: ClusterId, key: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        // HMAC pads a short key with zeros to one block, so this is the same key, and a full
        // block is the one length for which the constructor cannot fail.
        Self {
            keyed: <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into()),
            tag: cluster.into(),
        }
    }

    fn seal(&self, packet: &[u8; LEN], ends: &Ends) -> Hmac<Sha256> {
        let mut seal = self.keyed.clone();
        seal.update(&packet[..SEALED]);
        seal.update(&ends.source.0);
        seal.update(&ends.destination.0);
        seal
    }

    /// The bytes of `beat` between those ends.
    pub fn encode(&self, beat: &Beat, ends: &Ends) -> [u8; LEN] {
        let mut packet = [0; LEN];
        let mut writer = Writer { packet: &mut packet, at: 0 };
        writer.put(&MAGIC);
        writer.put(&[VERSION]);
        writer.put(&self.tag.0.to_be_bytes());
        writer.put(&beat.source.0.to_be_bytes());
        writer.put(&beat.destination.0.to_be_bytes());
        writer.put(&[beat.network.0, beat.agent.code() as u8, beat.flags.bits(), 0]);
        for number in [
            beat.session.0,
            beat.seq,
            beat.sent_us,
            beat.director_term,
            beat.epoch,
            beat.wall_us,
            beat.position,
            beat.remains.0,
            beat.echo.session.0,
            beat.echo.seq,
            beat.echo.sent_us,
            beat.echo.held_us,
        ] {
            writer.put(&number.to_be_bytes());
        }
        let seal = self.seal(&packet, ends).finalize().into_bytes();
        packet[SEALED..].copy_from_slice(&seal[..SEAL]);
        packet
    }

    /// The same beat, long.
    pub fn encode_long(&self, beat: &Beat, ends: &Ends) -> [u8; LONG_LEN] {
        let mut packet = [0; LONG_LEN];
        packet[..LEN].copy_from_slice(&self.encode(beat, ends));
        packet
    }

    /// The beat in `bytes`, long or not, if they are one of this cluster. `ends` tells the storages of source
    /// and destination, if both are members.
    pub fn decode(
        &self,
        bytes: &[u8],
        ends: impl FnOnce(NodeNumber, NodeNumber) -> Option<Ends>,
    ) -> Result<Beat, WireError> {
        let head = if bytes.len() == LONG_LEN { &bytes[..LEN] } else { bytes };
        let packet: &[u8; LEN] = head.try_into().map_err(|_| {
            if bytes.len() < LEN { WireError::Truncated } else { WireError::Oversized }
        })?;
        let mut reader = Reader { packet, at: 0 };
        if reader.take::<3>() != MAGIC {
            return Err(WireError::Foreign);
        }
        let [version] = reader.take();
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        if reader.number() != self.tag.0 {
            return Err(WireError::OtherCluster);
        }
        let [source, destination] = reader.ahead().map(NodeNumber);
        let ends = ends(source, destination).ok_or(WireError::Stranger)?;
        let seal = self.seal(packet, &ends);
        seal.verify_truncated_left(&packet[SEALED..]).map_err(|_| WireError::Seal)?;
        reader.fields().ok_or(WireError::Malformed)
    }
}

struct Writer<'a> {
    packet: &'a mut [u8; LEN],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.packet[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// Reads fixed fields one after the other; their sizes add up to less than [`LEN`].
struct Reader<'a> {
    packet: &'a [u8; LEN],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.packet[self.at..self.at + N]);
        self.at += N;
        bytes
    }

    /// Source and destination, which come next, without taking them.
    fn ahead(&self) -> [u16; 2] {
        let mut ahead = Reader { ..*self };
        [u16::from_be_bytes(ahead.take()), u16::from_be_bytes(ahead.take())]
    }

    fn number(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    /// Everything after the cluster tag.
    fn fields(&mut self) -> Option<Beat> {
        let source = NodeNumber::new(u16::from_be_bytes(self.take()))?;
        let destination = NodeNumber::new(u16::from_be_bytes(self.take()))?;
        let [network, agent, flags, zero] = self.take();
        Some(Beat {
            source,
            destination,
            network: NetworkNumber(network),
            agent: AgentStatus::ALL.iter().copied().find(|s| s.code() == u32::from(agent))?,
            flags: (zero == 0).then_some(Flags::from_bits(flags))?,
            session: Session(self.number()),
            seq: self.number(),
            sent_us: self.number(),
            director_term: self.number(),
            epoch: self.number(),
            wall_us: self.number(),
            position: self.number(),
            remains: Remains(self.number()),
            echo: Echo {
                session: Session(self.number()),
                seq: self.number(),
                sent_us: self.number(),
                held_us: self.number(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENDS: Ends = Ends { source: StorageId([5; 16]), destination: StorageId([6; 16]) };

    fn open(codec: &Codec, bytes: &[u8]) -> Result<Beat, WireError> {
        codec.decode(bytes, |_, _| Some(ENDS))
    }

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn codec() -> Codec {
        Codec::new(CLUSTER, &[1; 32])
    }

    fn beat() -> Beat {
        Beat {
            source: NodeNumber(1),
            destination: NodeNumber(2),
            network: NetworkNumber(1),
            agent: AgentStatus::Running,
            flags: Flags { hears_you: true, ..Flags::default() },
            session: Session(77),
            seq: 5,
            sent_us: 1_000_000,
            director_term: 3,
            epoch: 8,
            wall_us: 1_709_210_096_789_000,
            position: 4_711,
            remains: Remains::default().with(9),
            echo: Echo { session: Session(78), seq: 4, sent_us: 900_000, held_us: 50 },
        }
    }

    prop_compose! {
        fn any_beat()(
            (source, destination) in (1..=NodeNumber::MAX, 1..=NodeNumber::MAX),
            network in any::<u8>(),
            status in 0..AgentStatus::ALL.len(),
            bits in any::<u8>(),
            n in any::<[u64; 12]>(),
        ) -> Beat {
            Beat {
                source: NodeNumber(source),
                destination: NodeNumber(destination),
                network: NetworkNumber(network),
                agent: AgentStatus::ALL[status],
                flags: Flags::from_bits(bits),
                session: Session(n[0]), seq: n[1], sent_us: n[2], director_term: n[3], epoch: n[8],
                wall_us: n[9], position: n[10], remains: Remains(n[11]),
                echo: Echo { session: Session(n[4]), seq: n[5], sent_us: n[6], held_us: n[7] },
            }
        }
    }

    /// The seal of whatever the bytes are, so that a test gets past it.
    fn reseal(packet: &mut [u8; LEN]) {
        let seal = codec().seal(packet, &ENDS);
        packet[SEALED..].copy_from_slice(&seal.finalize().into_bytes()[..SEAL]);
    }

    /// F9: a long beat is the same beat, and fills a frame.
    #[test]
    fn f9_a_long_beat_is_a_beat() {
        let long = codec().encode_long(&beat(), &ENDS);
        assert_eq!(open(&codec(), &long), Ok(beat()));
        assert_eq!(long.len() + 28, FRAME);
        assert_eq!(open(&codec(), &long[..LONG_LEN - 1]), Err(WireError::Oversized));
    }

    #[test]
    fn each_way_of_being_wrong_has_its_name() {
        let good = codec().encode(&beat(), &ENDS);
        let mut long = good.to_vec();
        long.push(0);
        let mut version = good;
        version[3] = 9;
        assert_eq!(open(&codec(), &good[..LEN - 1]), Err(WireError::Truncated));
        assert_eq!(open(&codec(), &[]), Err(WireError::Truncated));
        assert_eq!(open(&codec(), &long), Err(WireError::Oversized));
        assert_eq!(open(&codec(), &[0; LEN]), Err(WireError::Foreign));
        assert_eq!(open(&codec(), &version), Err(WireError::Version(9)));
    }

    /// H8, V4: several clusters on one wire do not hear each other, even with the same key.
    #[test]
    fn other_cluster_and_other_key_are_refused() {
        let other_cluster = Codec::new(ClusterId([8; 16]), &[1; 32]);
        let other_key = Codec::new(CLUSTER, &[2; 32]);
        assert_eq!(
            open(&other_cluster, &codec().encode(&beat(), &ENDS)),
            Err(WireError::OtherCluster)
        );
        assert_eq!(open(&other_key, &codec().encode(&beat(), &ENDS)), Err(WireError::Seal));
    }

    /// The number of a deleted node was given to another machine: the old state directory still
    /// has the key, but neither speaks for the node nor believes the others.
    #[test]
    fn another_storage_at_either_end_is_refused() {
        let packet = codec().encode(&beat(), &ENDS);
        let other = StorageId([9; 16]);
        for ends in [Ends { source: other, ..ENDS }, Ends { destination: other, ..ENDS }] {
            assert_eq!(codec().decode(&packet, |_, _| Some(ends)), Err(WireError::Seal));
        }
        assert_eq!(codec().decode(&packet, |_, _| None), Err(WireError::Stranger));
        let asked = std::cell::Cell::new(None);
        let _ = codec().decode(&packet, |source, destination| {
            asked.set(Some((source.0, destination.0)));
            Some(ENDS)
        });
        assert_eq!(asked.get(), Some((1, 2)));
    }

    #[test]
    fn well_sealed_nonsense_is_malformed() {
        for (at, value) in [(15, 0), (17, 0), (17, 99), (19, 1)] {
            let mut packet = codec().encode(&beat(), &ENDS);
            packet[at] = value;
            if at == 15 {
                packet[14] = 0;
            }
            reseal(&mut packet);
            assert_eq!(open(&codec(), &packet), Err(WireError::Malformed), "byte {at} = {value}");
        }
    }

    /// The layout is a promise to other builds: each field stands where the picture says.
    #[test]
    fn wall_clock_position_and_flag_stand_where_the_picture_says() {
        let flags = Flags { log_stalled: true, ..Flags::default() };
        let packet = codec().encode(&Beat { flags, ..beat() }, &ENDS);
        let number = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().unwrap());
        assert_eq!((LEN, packet[3], packet[18]), (132, 6, 0x20));
        assert_eq!((number(52), number(60), number(68)), (8, 1_709_210_096_789_000, 4_711));
        assert_eq!((number(76), number(84), number(108)), (1 << 9, 78, 50));
    }

    #[test]
    fn the_seal_is_hmac_sha256_of_the_plain_key() {
        let mut plain = <Hmac<Sha256> as Mac>::new_from_slice(&[1; 32]).unwrap();
        let packet = codec().encode(&beat(), &ENDS);
        plain.update(&packet[..SEALED]);
        plain.update(&[5; 16]);
        plain.update(&[6; 16]);
        assert!(plain.verify_truncated_left(&packet[SEALED..]).is_ok());
    }

    #[test]
    fn the_key_is_never_printed() {
        assert!(!format!("{:?}", Codec::new(CLUSTER, &[0xab; 32])).contains("171"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(beat in any_beat()) {
            prop_assert_eq!(open(&codec(), &codec().encode(&beat, &ENDS)), Ok(beat));
        }

        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..3 * LEN)) {
            prop_assert!(open(&codec(), &bytes).is_err());
        }

        #[test]
        fn one_changed_bit_is_noticed(beat in any_beat(), bit in 0..LEN * 8) {
            let mut packet = codec().encode(&beat, &ENDS);
            packet[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&codec(), &packet).is_err());
        }

        /// Past the seal too, whatever the fields hold: no panic.
        #[test]
        fn sealed_random_fields_never_panic(bytes in any::<[u8; SEALED - 12]>()) {
            let mut packet = codec().encode(&beat(), &ENDS);
            packet[12..SEALED].copy_from_slice(&bytes);
            reseal(&mut packet);
            if let Ok(beat) = open(&codec(), &packet) {
                prop_assert_eq!(codec().encode(&beat, &ENDS), packet);
            }
        }
    }
}
