//! AgentX on the wire (RFC 2741, 5 and 6): twenty octets of header, then words of four octets.
//!
//! Every PDU says in its header in which byte order it is; both are read and written. Reading
//! trusts nothing: every length is compared with what is there, and no number from outside decides
//! how much memory is taken. A PDU that was read and is written again means the same; a test shows
//! it for arbitrary ones.

use crate::oid::Oid;
use crate::pdu::{Body, Pdu, Region, SearchRange, VarBind};
use crate::value::Value;

/// Octets of a header.
pub const HEADER: usize = 20;

/// The most octets a payload may have; net-snmp drops what is longer.
pub const LONGEST_PAYLOAD: usize = 65_536;

const VERSION: u8 = 1;
const INSTANCE_REGISTRATION: u8 = 1;
const NEW_INDEX: u8 = 1 << 1;
const ANY_INDEX: u8 = 1 << 2;
const NON_DEFAULT_CONTEXT: u8 = 1 << 3;
const NETWORK_BYTE_ORDER: u8 = 1 << 4;

const RESPONSE: u8 = 18;

/// The four numbers that most OIDs begin with, which the wire leaves out.
const INTERNET: [u32; 4] = [1, 3, 6, 1];

/// Why octets are no PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another version of the protocol, or no AgentX at all.
    #[error("it begins with version {0}, and this is version 1 of AgentX")]
    Version(u8),
    /// The payload is longer than any may be.
    #[error("its payload of {0} octets is longer than 65536 octets")]
    TooLong(u32),
    /// The payload is not made of words.
    #[error("its payload of {0} octets is no multiple of four")]
    Unaligned(u32),
    /// No PDU has that type.
    #[error("there is no PDU of type {0}")]
    Kind(u8),
    /// It ends too early.
    #[error("it ends within {0}")]
    Short(&'static str),
    /// Something is left at its end.
    #[error("{0} octets are left at its end")]
    Rest(usize),
    /// An OID has too many numbers.
    #[error("an object identifier has more than 128 numbers")]
    Oid,
    /// No value has that type.
    #[error("there is no value of type {0}")]
    Value(u16),
    /// An IP address that is none.
    #[error("an IP address has {0} octets")]
    IpAddress(usize),
}

/// The header of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type.
    pub kind: u8,
    flags: u8,
    /// The session.
    pub session: u32,
    /// The transaction.
    pub transaction: u32,
    /// The packet.
    pub packet: u32,
    /// Octets that follow.
    pub payload: usize,
}

impl Header {
    /// Reads a header; `None` if there are less than [`HEADER`] octets yet.
    ///
    /// # Errors
    /// Whatever follows cannot be trusted to begin where a PDU begins.
    pub fn decode(octets: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some(octets) = octets.get(..HEADER) else { return Ok(None) };
        if octets[0] != VERSION {
            return Err(DecodeError::Version(octets[0]));
        }
        let mut words = Reader { rest: &octets[4..], network: octets[2] & NETWORK_BYTE_ORDER != 0 };
        let [session, transaction, packet, payload] =
            [words.u32()?, words.u32()?, words.u32()?, words.u32()?];
        if payload as usize > LONGEST_PAYLOAD {
            return Err(DecodeError::TooLong(payload));
        }
        if payload % 4 != 0 {
            return Err(DecodeError::Unaligned(payload));
        }
        let (kind, flags) = (octets[1], octets[2]);
        Ok(Some(Self { kind, flags, session, transaction, packet, payload: payload as usize }))
    }

    /// Whether numbers are in network byte order.
    pub const fn network_order(&self) -> bool {
        self.flags & NETWORK_BYTE_ORDER != 0
    }

    /// Whether it is the header of a response.
    pub const fn is_response(&self) -> bool {
        self.kind == RESPONSE
    }

    /// Reads the PDU that has this header from its payload.
    ///
    /// # Errors
    /// The payload is not what the header announces.
    pub fn decode_payload(&self, payload: &[u8]) -> Result<Pdu, DecodeError> {
        let mut reader = Reader { rest: payload, network: self.network_order() };
        let contextual = matches!(self.kind, 3..=8 | 12..=17);
        let context = if contextual && self.flags & NON_DEFAULT_CONTEXT != 0 {
            Some(reader.octets()?.to_vec())
        } else {
            None
        };
        let body = reader.body(self.kind, self.flags)?;
        if !reader.rest.is_empty() {
            return Err(DecodeError::Rest(reader.rest.len()));
        }
        Ok(Pdu {
            network_order: self.network_order(),
            session: self.session,
            transaction: self.transaction,
            packet: self.packet,
            context,
            body,
        })
    }
}

/// Reads one PDU from the front of `octets`, with the number of octets it takes; `None` if it is
/// not complete yet.
///
/// # Errors
/// There is no PDU.
pub fn decode(octets: &[u8]) -> Result<Option<(Pdu, usize)>, DecodeError> {
    let Some(header) = Header::decode(octets)? else { return Ok(None) };
    let Some(payload) = octets.get(HEADER..HEADER + header.payload) else { return Ok(None) };
    Ok(Some((header.decode_payload(payload)?, HEADER + header.payload)))
}

/// Takes a payload apart.
struct Reader<'a> {
    rest: &'a [u8],
    network: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Short(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        let octets = self.take(2, "a number")?;
        let octets = [octets[0], octets[1]];
        Ok(if self.network { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) })
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        let octets = self.take(4, "a number")?;
        let octets = [octets[0], octets[1], octets[2], octets[3]];
        Ok(if self.network { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) })
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        let [first, second] = [u64::from(self.u32()?), u64::from(self.u32()?)];
        Ok(if self.network { first << 32 | second } else { second << 32 | first })
    }

    fn octets(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()? as usize;
        let octets = self.take(length, "an octet string")?;
        self.take(length.next_multiple_of(4) - length, "the padding of an octet string")?;
        Ok(octets)
    }

    /// An OID, with the `include` that stands in its first word.
    fn oid(&mut self) -> Result<(Oid, bool), DecodeError> {
        let word = self.take(4, "an object identifier")?;
        let (count, prefix, include) = (usize::from(word[0]), word[1], word[2] != 0);
        let mut numbers = Vec::with_capacity(count + 5);
        if prefix != 0 {
            numbers.extend_from_slice(&INTERNET);
            numbers.push(u32::from(prefix));
        }
        for _ in 0..count {
            numbers.push(self.u32()?);
        }
        Ok((Oid::new(numbers).ok_or(DecodeError::Oid)?, include))
    }

    fn name(&mut self) -> Result<Oid, DecodeError> {
        self.oid().map(|(oid, _)| oid)
    }

    fn body(&mut self, kind: u8, flags: u8) -> Result<Body, DecodeError> {
        Ok(match kind {
            1 => {
                let timeout = self.take(4, "a timeout")?[0];
                Body::Open { timeout, id: self.name()?, description: self.octets()?.to_vec() }
            }
            2 => Body::Close { reason: self.take(4, "a reason")?[0] },
            3 => Body::Register {
                region: self.region()?,
                instance: flags & INSTANCE_REGISTRATION != 0,
            },
            4 => Body::Unregister { region: self.region()? },
            5 => Body::Get(self.ranges()?),
            6 => Body::GetNext(self.ranges()?),
            7 => Body::GetBulk {
                non_repeaters: self.u16()?,
                max_repetitions: self.u16()?,
                ranges: self.ranges()?,
            },
            8 => Body::TestSet(self.varbinds()?),
            9 => Body::CommitSet,
            10 => Body::UndoSet,
            11 => Body::CleanupSet,
            12 => Body::Notify(self.varbinds()?),
            13 => Body::Ping,
            14 => Body::IndexAllocate {
                varbinds: self.varbinds()?,
                new_index: flags & NEW_INDEX != 0,
                any_index: flags & ANY_INDEX != 0,
            },
            15 => Body::IndexDeallocate(self.varbinds()?),
            16 => Body::AddAgentCaps { id: self.name()?, description: self.octets()?.to_vec() },
            17 => Body::RemoveAgentCaps { id: self.name()? },
            RESPONSE => Body::Response {
                uptime: self.u32()?,
                error: self.u16()?,
                index: self.u16()?,
                varbinds: self.varbinds()?,
            },
            _ => return Err(DecodeError::Kind(kind)),
        })
    }

    /// What stands in Register and in Unregister, where the first octet has no meaning.
    fn region(&mut self) -> Result<Region, DecodeError> {
        let word = self.take(4, "a region")?;
        let (timeout, priority, place) = (word[0], word[1], word[2]);
        let subtree = self.name()?;
        let range = if place == 0 { None } else { Some((place, self.u32()?)) };
        Ok(Region { timeout, priority, subtree, range })
    }

    fn ranges(&mut self) -> Result<Vec<SearchRange>, DecodeError> {
        let mut ranges = Vec::new();
        while !self.rest.is_empty() {
            let (start, include) = self.oid()?;
            ranges.push(SearchRange { start, include, end: self.name()? });
        }
        Ok(ranges)
    }

    fn varbinds(&mut self) -> Result<Vec<VarBind>, DecodeError> {
        let mut varbinds = Vec::new();
        while !self.rest.is_empty() {
            let kind = self.u16()?;
            self.take(2, "a variable")?;
            let name = self.name()?;
            varbinds.push(VarBind { name, value: self.value(kind)? });
        }
        Ok(varbinds)
    }

    fn value(&mut self, kind: u16) -> Result<Value, DecodeError> {
        Ok(match kind {
            2 => Value::Integer(self.u32()? as i32),
            4 => Value::Octets(self.octets()?.to_vec()),
            5 => Value::Null,
            6 => Value::ObjectId(self.name()?),
            64 => {
                let octets = self.octets()?;
                let wrong = |_| DecodeError::IpAddress(octets.len());
                Value::IpAddress(octets.try_into().map_err(wrong)?)
            }
            65 => Value::Counter32(self.u32()?),
            66 => Value::Gauge32(self.u32()?),
            67 => Value::TimeTicks(self.u32()?),
            68 => Value::Opaque(self.octets()?.to_vec()),
            70 => Value::Counter64(self.u64()?),
            128 => Value::NoSuchObject,
            129 => Value::NoSuchInstance,
            130 => Value::EndOfMibView,
            _ => return Err(DecodeError::Value(kind)),
        })
    }
}

/// Octets that a variable takes at most.
pub(crate) fn longest_varbind(name: &Oid, value: &Value) -> usize {
    let value = match value {
        Value::Octets(octets) | Value::Opaque(octets) => octets.len() + 8,
        Value::ObjectId(oid) => oid.numbers().len() * 4 + 4,
        _ => 8,
    };
    name.numbers().len() * 4 + 8 + value
}

impl Pdu {
    /// Writes the PDU at the end of `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::begin(out, self.network_order, self.kind(), self.flags());
        writer.ids(self.session, self.transaction, self.packet);
        if let Some(context) = &self.context {
            writer.octets(context);
        }
        writer.body(&self.body);
        writer.end();
    }

    const fn kind(&self) -> u8 {
        match &self.body {
            Body::Open { .. } => 1,
            Body::Close { .. } => 2,
            Body::Register { .. } => 3,
            Body::Unregister { .. } => 4,
            Body::Get(_) => 5,
            Body::GetNext(_) => 6,
            Body::GetBulk { .. } => 7,
            Body::TestSet(_) => 8,
            Body::CommitSet => 9,
            Body::UndoSet => 10,
            Body::CleanupSet => 11,
            Body::Notify(_) => 12,
            Body::Ping => 13,
            Body::IndexAllocate { .. } => 14,
            Body::IndexDeallocate(_) => 15,
            Body::AddAgentCaps { .. } => 16,
            Body::RemoveAgentCaps { .. } => 17,
            Body::Response { .. } => RESPONSE,
        }
    }

    const fn flags(&self) -> u8 {
        let own = match &self.body {
            Body::Register { instance: true, .. } => INSTANCE_REGISTRATION,
            Body::IndexAllocate { new_index, any_index, .. } => {
                (if *new_index { NEW_INDEX } else { 0 }) | (if *any_index { ANY_INDEX } else { 0 })
            }
            _ => 0,
        };
        own | if self.context.is_some() { NON_DEFAULT_CONTEXT } else { 0 }
    }
}

/// Writes one PDU at the end of a buffer; the length of its payload is filled in at the end.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    network: bool,
}

impl<'a> Writer<'a> {
    fn begin(out: &'a mut Vec<u8>, network: bool, kind: u8, flags: u8) -> Self {
        let start = out.len();
        let order = if network { NETWORK_BYTE_ORDER } else { 0 };
        out.extend_from_slice(&[VERSION, kind, flags | order, 0]);
        Self { out, start, network }
    }

    /// Begins the response to a request. Of its flags only the byte order is taken over: net-snmp
    /// would look for a context in a response that carries that flag.
    pub(crate) fn response(
        out: &'a mut Vec<u8>,
        request: &Header,
        uptime: u32,
        error: u16,
        index: u16,
    ) -> Self {
        let mut writer = Self::begin(out, request.network_order(), RESPONSE, 0);
        writer.ids(request.session, request.transaction, request.packet);
        writer.u32(uptime);
        writer.u16(error);
        writer.u16(index);
        writer
    }

    fn ids(&mut self, session: u32, transaction: u32, packet: u32) {
        for word in [session, transaction, packet, 0] {
            self.u32(word);
        }
    }

    /// Octets of payload so far.
    pub(crate) fn payload(&self) -> usize {
        self.out.len() - self.start - HEADER
    }

    /// Fills in the length.
    pub(crate) fn end(self) {
        let payload = self.payload() as u32;
        let octets = if self.network { payload.to_be_bytes() } else { payload.to_le_bytes() };
        self.out[self.start + 16..self.start + HEADER].copy_from_slice(&octets);
    }

    /// Takes everything back.
    pub(crate) fn abandon(self) {
        self.out.truncate(self.start);
    }

    fn u16(&mut self, number: u16) {
        let octets = if self.network { number.to_be_bytes() } else { number.to_le_bytes() };
        self.out.extend_from_slice(&octets);
    }

    fn u32(&mut self, number: u32) {
        let octets = if self.network { number.to_be_bytes() } else { number.to_le_bytes() };
        self.out.extend_from_slice(&octets);
    }

    fn u64(&mut self, number: u64) {
        let octets = if self.network { number.to_be_bytes() } else { number.to_le_bytes() };
        self.out.extend_from_slice(&octets);
    }

    fn octets(&mut self, octets: &[u8]) {
        self.u32(octets.len() as u32);
        self.out.extend_from_slice(octets);
        let padding = octets.len().next_multiple_of(4) - octets.len();
        self.out.extend_from_slice(&[0; 4][..padding]);
    }

    fn oid(&mut self, numbers: &[u32], include: bool) {
        let (prefix, numbers) = match numbers {
            [a, b, c, d, prefix @ 1..=255, rest @ ..] if [*a, *b, *c, *d] == INTERNET => {
                (*prefix as u8, rest)
            }
            _ => (0, numbers),
        };
        self.out.extend_from_slice(&[numbers.len() as u8, prefix, u8::from(include), 0]);
        for number in numbers {
            self.u32(*number);
        }
    }

    fn body(&mut self, body: &Body) {
        match body {
            Body::Open { timeout, id, description } => {
                self.out.extend_from_slice(&[*timeout, 0, 0, 0]);
                self.oid(id.numbers(), false);
                self.octets(description);
            }
            Body::Close { reason } => self.out.extend_from_slice(&[*reason, 0, 0, 0]),
            Body::Register { region, .. } | Body::Unregister { region } => self.region(region),
            Body::Get(ranges) | Body::GetNext(ranges) => self.ranges(ranges),
            Body::GetBulk { non_repeaters, max_repetitions, ranges } => {
                self.u16(*non_repeaters);
                self.u16(*max_repetitions);
                self.ranges(ranges);
            }
            Body::TestSet(varbinds)
            | Body::Notify(varbinds)
            | Body::IndexAllocate { varbinds, .. }
            | Body::IndexDeallocate(varbinds) => self.varbinds(varbinds),
            Body::CommitSet | Body::UndoSet | Body::CleanupSet | Body::Ping => {}
            Body::AddAgentCaps { id, description } => {
                self.oid(id.numbers(), false);
                self.octets(description);
            }
            Body::RemoveAgentCaps { id } => self.oid(id.numbers(), false),
            Body::Response { uptime, error, index, varbinds } => {
                self.u32(*uptime);
                self.u16(*error);
                self.u16(*index);
                self.varbinds(varbinds);
            }
        }
    }

    fn region(&mut self, region: &Region) {
        let (place, bound) = region.range.unwrap_or_default();
        self.out.extend_from_slice(&[region.timeout, region.priority, place, 0]);
        self.oid(region.subtree.numbers(), false);
        if place != 0 {
            self.u32(bound);
        }
    }

    fn ranges(&mut self, ranges: &[SearchRange]) {
        for range in ranges {
            self.oid(range.start.numbers(), range.include);
            self.oid(range.end.numbers(), false);
        }
    }

    fn varbinds(&mut self, varbinds: &[VarBind]) {
        for VarBind { name, value } in varbinds {
            self.varbind(name, value);
        }
    }

    pub(crate) fn varbind(&mut self, name: &Oid, value: &Value) {
        self.u16(value.kind());
        self.u16(0);
        self.oid(name.numbers(), false);
        match value {
            Value::Integer(number) => self.u32(*number as u32),
            Value::Octets(octets) | Value::Opaque(octets) => self.octets(octets),
            Value::ObjectId(oid) => self.oid(oid.numbers(), false),
            Value::IpAddress(octets) => self.octets(octets),
            Value::Counter32(number) | Value::Gauge32(number) | Value::TimeTicks(number) => {
                self.u32(*number);
            }
            Value::Counter64(number) => self.u64(*number),
            Value::Null | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView => {}
        }
    }
}
