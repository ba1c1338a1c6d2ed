//! Clients that cost little: HTTP on a kept connection, server-sent events, one SNMP GET. A process
//! for every question would measure the starting of processes.
//!
//! Every moment is on the machine's monotonic clock, which all namespaces share.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{LabError, Result};

/// How long an answer may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest piece of an answer that is taken.
const LONGEST: u64 = 64 << 20;

/// Milliseconds on the monotonic clock.
pub(super) fn now_ms() -> f64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0.0, |now| now.tv_sec() as f64 * 1e3 + now.tv_nsec() as f64 / 1e6)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A byte stream to a daemon.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a daemon answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status code.
    pub(super) status: u16,
    /// The revision it is of, if it says so.
    pub(super) revision: u64,
    /// The answering node's viewpoint, if it says so.
    pub(super) viewpoint: u64,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// HTTP/1.1 on one connection that stays open.
pub(super) struct Http(BufReader<Box<dyn Stream + Send>>);

impl Http {
    /// Connects to a listener.
    ///
    /// # Errors
    /// If nobody listens.
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Connects to a control socket.
    ///
    /// # Errors
    /// If nobody listens.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Asks and takes the whole answer.
    ///
    /// # Errors
    /// If the connection breaks or the answer is no HTTP.
    pub(super) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"), b"")
    }

    /// Posts JSON and takes the whole answer.
    ///
    /// # Errors
    /// If the connection breaks or the answer is no HTTP.
    pub(super) fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.ask(&head, body.as_bytes())
    }

    fn ask(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        let mut request = head.as_bytes().to_vec();
        request.extend_from_slice(body);
        self.0.get_mut().write_all(&request)?;
        let head = Head::read(&mut self.0)?;
        let body = head.body(&mut self.0)?;
        let Head { status, revision, viewpoint, .. } = head;
        Ok(Answer { status, revision, viewpoint, body })
    }
}

/// The part of a response before its body.
struct Head {
    status: u16,
    revision: u64,
    viewpoint: u64,
    length: Option<u64>,
}

impl Head {
    fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let first = line(input)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| malformed("the answer is no HTTP"))?;
        let mut head = Self { status, revision: 0, viewpoint: 0, length: None };
        loop {
            let text = line(input)?;
            let Some((name, value)) = text.split_once(':') else { return Ok(head) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().ok(),
                "x-vedette-revision" => head.revision = value.trim().parse().unwrap_or(0),
                "x-vedette-viewpoint" => head.viewpoint = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    fn body(&self, input: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = self.length {
            input.take(length.min(LONGEST)).read_to_end(&mut body)?;
            return Ok(body);
        }
        while let Some(piece) = chunk(input)? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// A line without its end; an error if the connection ended.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if input.take(1 << 16).read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

/// The next chunk of a chunked body; `None` after the last.
fn chunk(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let size = line(input)?;
    let size = u64::from_str_radix(size.split(';').next().unwrap_or(""), 16)
        .map_err(|_| malformed("a chunk without a size"))?;
    let mut piece = Vec::new();
    input.take(size.min(LONGEST)).read_to_end(&mut piece)?;
    line(input)?;
    Ok((size > 0).then_some(piece))
}

/// One server-sent event and when it was here.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Number that the one who watches gave to the stream.
    pub(super) stream: usize,
    /// When it was read.
    pub(super) at_ms: f64,
    /// `snapshot`, `record`, `state`, `local` or `resync`.
    pub(super) kind: String,
    /// What it says.
    pub(super) data: Value,
}

/// Streams of events, each read by a thread that ends with its daemon or when nobody listens.
#[derive(Debug)]
pub(super) struct Watch {
    /// What was received and not taken yet.
    pub(super) events: Receiver<Event>,
    streams: Vec<TcpStream>,
}

impl Watch {
    /// Watches every address, and waits until each stream has begun.
    ///
    /// # Errors
    /// If a daemon does not answer.
    pub(super) fn start(addresses: &[SocketAddr]) -> Result<Self> {
        let (sender, events) = channel();
        let mut streams = Vec::new();
        for (stream, address) in addresses.iter().enumerate() {
            let socket = TcpStream::connect_timeout(address, PATIENCE)?;
            streams.push(socket.try_clone()?);
            let sender = sender.clone();
            std::thread::spawn(move || follow(stream, socket, &sender));
        }
        for _ in addresses {
            events.recv_timeout(PATIENCE).map_err(|_| {
                LabError("a stream of /api/v1/watch did not begin within 10 s".into())
            })?;
        }
        Ok(Self { events, streams })
    }

    /// The next event before `deadline_ms`.
    pub(super) fn next(&self, deadline_ms: f64) -> Option<Event> {
        let left = Duration::from_secs_f64((deadline_ms - now_ms()).max(0.0) / 1e3);
        self.events.recv_timeout(left).ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for stream in &self.streams {
            // A stream that its daemon closed already needs nothing.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Reads a stream to its end.
fn follow(stream: usize, mut socket: TcpStream, sender: &Sender<Event>) -> Option<()> {
    socket.write_all(b"GET /api/v1/watch HTTP/1.1\r\nHost: bench\r\n\r\n").ok()?;
    let mut input = BufReader::new(socket);
    Head::read(&mut input).ok()?;
    while let Some(piece) = chunk(&mut input).ok()? {
        let at_ms = now_ms();
        for (kind, data) in events_in(&String::from_utf8_lossy(&piece)) {
            sender.send(Event { stream, at_ms, kind, data }).ok()?;
        }
    }
    Some(())
}

/// The events of a piece of the stream; the daemon writes each event as a whole.
fn events_in(piece: &str) -> Vec<(String, Value)> {
    let event = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ")?;
        Some((field("event: ")?.to_owned(), serde_json::from_str(data).ok()?))
    };
    piece.split("\n\n").filter_map(event).collect()
}

/// The name of an object of the MIB.
pub(super) type Oid = [u32; 14];

/// `vedetteClusterRevision.0`.
pub(super) const REVISION: Oid = [1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7770, 1, 1, 8, 0];

/// `vedetteClusterState.0`.
pub(super) const CLUSTER_STATE: Oid = [1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7770, 1, 1, 4, 0];

/// An SNMP v2c client that asks for one number at a time.
pub(super) struct Snmp {
    socket: UdpSocket,
    community: String,
}

impl Snmp {
    /// A client of that agent.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub(super) fn new(agent: SocketAddr, community: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(agent)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(Self { socket, community: community.to_owned() })
    }

    /// The number that the agent shows.
    ///
    /// # Errors
    /// If it does not answer, or has no such object.
    pub(super) fn number(&self, object: &Oid) -> io::Result<u64> {
        self.socket.send(&get_request(&self.community, object))?;
        let mut buffer = [0; 1500];
        let length = self.socket.recv(&mut buffer)?;
        last_number(&buffer[..length], object).ok_or_else(|| malformed("SNMP: no such object"))
    }
}

/// A GET request in BER; every length here is below 128.
fn get_request(community: &str, oid: &[u32]) -> Vec<u8> {
    let name = tlv(6, &oid_bytes(oid));
    let bindings = tlv(0x30, &tlv(0x30, &[name, tlv(5, &[])].concat()));
    let zero = tlv(2, &[0]);
    let pdu = tlv(0xa0, &[tlv(2, &[1]), zero.clone(), zero, bindings].concat());
    tlv(0x30, &[tlv(2, &[1]), tlv(4, community.as_bytes()), pdu].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(127);
    [&[tag, length], content].concat()
}

fn oid_bytes(oid: &[u32]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(oid[0] * 40 + oid[1]).unwrap_or(43)];
    for part in &oid[2..] {
        let groups = (0..5).rev().map(|group| (part >> (7 * group)) & 0x7f);
        let mut digits: Vec<u8> =
            groups.skip_while(|digit| *digit == 0).map(|digit| digit as u8 | 0x80).collect();
        if digits.is_empty() {
            digits.push(0x80);
        }
        if let Some(last) = digits.last_mut() {
            *last &= 0x7f;
        }
        bytes.extend(digits);
    }
    bytes
}

/// The value at the end of a response, if it is a number. Lengths are below 128 here too.
fn last_number(response: &[u8], object: &Oid) -> Option<u64> {
    let oid = tlv(6, &oid_bytes(object));
    let at = response.windows(oid.len()).position(|window| window == oid)? + oid.len();
    let (tag, length) = (*response.get(at)?, usize::from(*response.get(at + 1)?));
    // Integer, Counter32, Gauge32, TimeTicks, Counter64.
    if !matches!(tag, 0x02 | 0x41 | 0x42 | 0x43 | 0x46) {
        return None;
    }
    let content = response.get(at + 2..at + 2 + length)?;
    Some(content.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_stream_are_events() {
        let text =
            "event: state\ndata: {\"a\":1}\n\n: keep-alive\n\nevent: record\nid: 4\ndata: {}\n\n";
        let events = events_in(text);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0], ("state".into(), serde_json::json!({"a": 1})));
        assert_eq!(events[1].0, "record");
    }

    #[test]
    fn answers_are_read_with_a_length_and_in_chunks() {
        let mut plain = &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nX-Vedette-Revision: 9\r\n\
              x-vedette-viewpoint: 4\r\n\r\nabcD"[..];
        let head = Head::read(&mut plain).expect("a head");
        assert_eq!((head.status, head.revision, head.viewpoint), (200, 9, 4));
        assert_eq!(head.body(&mut plain).expect("a body"), b"abc");
        let mut chunked = &b"HTTP/1.1 503 No\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"[..];
        let head = Head::read(&mut chunked).expect("a head");
        assert_eq!(head.body(&mut chunked).expect("a body"), b"abcd");
        assert!(Head::read(&mut &b"nonsense\r\n\r\n"[..]).is_err());
    }

    #[test]
    fn a_get_request_is_the_one_snmpget_sends() {
        // As `snmpget -v2c -c public -d` dumps it, but for the length of the request number.
        let expected = concat!(
            "302f02010104067075626c6963a022020101020100020100",
            "3017301506112b06010401bf08ce0fce0fbc5a010108000500"
        );
        let bytes = get_request("public", &REVISION);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn the_number_of_a_response_is_found() {
        let name = tlv(6, &oid_bytes(&REVISION));
        let answer = |tag, content: &[u8]| tlv(0x30, &[name.clone(), tlv(tag, content)].concat());
        assert_eq!(last_number(&answer(0x46, &[1, 0]), &REVISION), Some(256));
        assert_eq!(last_number(&answer(0x80, &[]), &REVISION), None, "noSuchObject");
        assert_eq!(last_number(&name, &REVISION), None);
        assert_eq!(last_number(&answer(0x46, &[1]), &CLUSTER_STATE), None, "another object");
    }
}
