//! The prober: asks a service address who has it, hundreds of times a second, and writes down every
//! answer.
//!
//! Each round sends two echo requests from the switch. One is addressed to the *broadcast* hardware
//! address, so that it reaches every node whatever anybody's neighbour table says: whoever holds the
//! address answers, and if two do, two answers to one question are there to be counted. The other
//! goes the ordinary way, through the kernel's neighbour table, as a client's would: it measures how
//! long clients are without the service, gratuitous ARP included. Hardware addresses of the lab say
//! which node answered.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CloneFlags, setns};

use super::{Lab, LabError, Result, namespaces};

/// Between two rounds.
const EVERY: Duration = Duration::from_millis(5);
/// Identifiers of the two kinds of echo requests.
const TO_ALL: u16 = 0x5641;
const ORDINARY: u16 = 0x5642;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The round whose question it answers.
    pub round: u32,
    /// When it came, since the prober started.
    pub at: Duration,
    /// Which node gave it.
    pub node: u16,
    /// It answers the question that went to everybody.
    pub to_all: bool,
}

/// The time between the last ordinary answer of one node and the first of another, as a client sees
/// it: when a service moved, and how long it was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The last answer before, since the prober started.
    pub from: Duration,
    /// The first answer after.
    pub until: Duration,
    /// Who gave the last one.
    pub before: u16,
    /// Who gave the first one.
    pub after: u16,
}

/// Everything that was answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// In the order in which they came.
    pub answers: Vec<Answer>,
    /// Rounds asked.
    pub rounds: u32,
}

impl Answers {
    /// Rounds in which two nodes answered the same question: must be none.
    pub fn doubly_owned(&self) -> Vec<(u32, u16, u16)> {
        let mut first: std::collections::BTreeMap<u32, u16> = std::collections::BTreeMap::new();
        let mut doubles = Vec::new();
        for answer in self.answers.iter().filter(|answer| answer.to_all) {
            let known = *first.entry(answer.round).or_insert(answer.node);
            if known != answer.node {
                doubles.push((answer.round, known, answer.node));
            }
        }
        doubles
    }

    /// The owners in the order in which they had the address.
    pub fn owners(&self) -> Vec<u16> {
        let mut owners: Vec<u16> =
            self.answers.iter().filter(|answer| answer.to_all).map(|answer| answer.node).collect();
        owners.dedup();
        owners
    }

    /// The first answer of a node to an ordinary question after `since`.
    pub fn answered_by(&self, node: u16, since: Duration) -> Option<Duration> {
        let of_node = self.ordinary().filter(|answer| answer.node == node);
        of_node.map(|answer| answer.at).find(|at| *at >= since)
    }

    /// The last time that ordinary answers came from another node than before.
    pub fn latest_handover(&self) -> Option<Handover> {
        let ordinary: Vec<&Answer> = self.ordinary().collect();
        let pair = ordinary.windows(2).rfind(|pair| pair[0].node != pair[1].node)?;
        let [last, first] = [pair[0], pair[1]];
        Some(Handover { from: last.at, until: first.at, before: last.node, after: first.node })
    }

    /// For how long at a time questions stayed without any answer. A question that nobody asked, as the prober itself was
    /// held up, is none.
    pub fn longest_silence(&self) -> Duration {
        let mut rounds: Vec<u32> = self.answers.iter().map(|answer| answer.round).collect();
        rounds.push(self.rounds);
        rounds.sort_unstable();
        let longest = rounds.windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(1)).max();
        EVERY * longest.unwrap_or(0)
    }

    fn ordinary(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(|answer| !answer.to_all)
    }
}

/// A prober that runs.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    began: Instant,
    began_at: SystemTime,
    latest: Arc<std::sync::Mutex<Answers>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Prober {
    /// Starts to ask `address`, which belongs to the network of that place (0, 1, …).
    ///
    /// # Errors
    /// If the switch cannot be entered or the sockets cannot be made.
    pub fn start(lab: &Lab, network: usize, address: Ipv4Addr) -> Result<Self> {
        let own = lab.switch_address(network)?;
        Self::start_at(&lab.switch(), &format!("br{network}"), own, address)
    }

    /// Starts to ask from a device in a namespace, which has the address `own` there.
    ///
    /// # Errors
    /// If the namespace cannot be entered or the sockets cannot be made.
    pub(crate) fn start_at(
        namespace: &str,
        device: &str,
        own: Ipv4Addr,
        address: Ipv4Addr,
    ) -> Result<Self> {
        let switch = File::open(format!("/run/netns/{namespace}"))?;
        let device = device.to_owned();
        let (stop, latest) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (began, began_at) = (Instant::now(), SystemTime::now());
        let (halt, book): (_, Arc<std::sync::Mutex<Answers>>) =
            (Arc::clone(&stop), Arc::clone(&latest));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let sockets = setns(&switch, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| Sockets::open(&device, own, address));
            let sockets = match sockets {
                Ok(sockets) => sockets,
                Err(error) => {
                    let _ = ready.send(Err(error.to_string()));
                    return Err(error);
                }
            };
            let _ = ready.send(Ok(()));
            ask(&sockets, began, &halt, &book)
        });
        let started = is_ready.recv().unwrap_or_else(|_| Err("its thread ended".into()));
        started.map_err(|error| LabError(format!("The prober did not start: {error}.")))?;
        Ok(Self { stop, began, began_at, latest, thread: Some(thread) })
    }

    /// How long it has run: the clock of its answers.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A moment of its clock as everybody's clock has it: milliseconds since 1970.
    pub fn unix_ms(&self, at: Duration) -> i64 {
        let since = (self.began_at + at).duration_since(SystemTime::UNIX_EPOCH);
        since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default()
    }

    /// What was answered so far.
    pub fn so_far(&self) -> Answers {
        self.latest.lock().map(|answers| answers.clone()).unwrap_or_default()
    }

    /// Looks at what was answered so far, without a copy of it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Answers) -> T) -> T {
        let book = self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        look(&book)
    }

    /// Ends it; answers what was answered.
    ///
    /// # Errors
    /// If it ended by itself, with the reason.
    pub fn stop(mut self) -> Result<Answers> {
        self.halt()?;
        Ok(self.so_far())
    }

    fn halt(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        ended.map_err(|error| LabError(format!("The prober failed: {error}.")))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let _ = self.halt();
    }
}

fn ask(
    sockets: &Sockets,
    began: Instant,
    stop: &AtomicBool,
    book: &std::sync::Mutex<Answers>,
) -> io::Result<()> {
    let (mut next, mut round) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            round += 1;
            sockets.question(round);
            next += EVERY;
        }
        let mut taken = sockets.answers(next.saturating_duration_since(Instant::now()), began)?;
        if let Ok(mut book) = book.lock() {
            book.rounds = round;
            book.answers.append(&mut taken);
        }
    }
    Ok(())
}

/// A packet socket on the bridge, and an ordinary one for echo requests.
struct Sockets {
    packets: OwnedFd,
    ordinary: OwnedFd,
    interface: i32,
    hardware: [u8; 6],
    own: Ipv4Addr,
    address: Ipv4Addr,
}

impl Sockets {
    fn open(device: &str, own: Ipv4Addr, address: Ipv4Addr) -> io::Result<Self> {
        let ip = (libc::ETH_P_IP as u16).to_be();
        let packets = socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ip))?;
        let ordinary = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
        let name = std::ffi::CString::new(device)?;
        // SAFETY: the name is a string that ends with a zero byte.
        let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let interface = i32::try_from(interface).unwrap_or(0);
        if interface == 0 {
            return Err(io::Error::last_os_error());
        }
        let text = std::fs::read_to_string(format!("/sys/class/net/{device}/address"));
        let hardware = text.ok().and_then(|text| hardware(text.trim()));
        let sockets = Self {
            packets,
            ordinary,
            interface,
            hardware: hardware.unwrap_or([2, 0, 0, 0, 0, 1]),
            own,
            address,
        };
        sockets.bind()?;
        Ok(sockets)
    }

    fn bind(&self) -> io::Result<()> {
        let place = self.link_address([0; 6]);
        // SAFETY: the address is a whole sockaddr_ll that lives as long as the call.
        let bound = unsafe {
            libc::bind(
                self.packets.as_raw_fd(),
                (&raw const place).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn link_address(&self, hardware: [u8; 6]) -> libc::sockaddr_ll {
        let mut place = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_IP as u16).to_be(),
            sll_ifindex: self.interface,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        place.sll_addr[..6].copy_from_slice(&hardware);
        place
    }

    /// Both questions of a round; one that cannot be sent is one that is not answered.
    fn question(&self, round: u32) {
        let mut frame = [0; 14 + 20 + 12];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&self.hardware);
        frame[12] = 8;
        frame[14..34].copy_from_slice(&ip_header(self.own, self.address, 12));
        frame[34..].copy_from_slice(&echo(TO_ALL, round));
        let place = self.link_address([0xff; 6]);
        // SAFETY: frame and address live as long as the call and their lengths are right.
        unsafe {
            libc::sendto(
                self.packets.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const place).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            );
        }
        self.ordinary_question(round);
    }

    fn ordinary_question(&self, round: u32) {
        let packet = echo(ORDINARY, round);
        let to = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(self.address).to_be() },
            sin_zero: [0; 8],
        };
        // SAFETY: packet and address live as long as the call and their lengths are right.
        unsafe {
            libc::sendto(
                self.ordinary.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_in>() as libc::socklen_t,
            );
        }
    }

    /// What is answered until the time is over.
    fn answers(&self, time: Duration, began: Instant) -> io::Result<Vec<Answer>> {
        let mut wait =
            libc::pollfd { fd: self.packets.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = libc::timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        // SAFETY: one descriptor, and a limit that lives as long as the call.
        let ready = unsafe { libc::ppoll(&raw mut wait, 1, &raw const limit, std::ptr::null()) };
        let mut answers = Vec::new();
        if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Err(io::Error::last_os_error());
        }
        if ready > 0 {
            while let Some(frame) = self.receive() {
                answers.extend(self.answer(&frame, began.elapsed()));
            }
        }
        Ok(answers)
    }

    /// A frame that waits, or its beginning.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 256];
        // SAFETY: the buffer is as long as said.
        let length = unsafe {
            libc::recv(
                self.packets.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        let length = usize::try_from(length).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// The answer in a frame, if it is one.
    fn answer(&self, frame: &[u8], at: Duration) -> Option<Answer> {
        let from: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
        let icmp = frame.get(34..46)?;
        let id = u16::from_be_bytes([icmp[4], icmp[5]]);
        let is_reply = icmp[0] == 0 && frame[23] == 1 && Ipv4Addr::from(from) == self.address;
        if !is_reply || !matches!(id, TO_ALL | ORDINARY) {
            return None;
        }
        let round = u32::from_be_bytes([icmp[8], icmp[9], icmp[10], icmp[11]]);
        Some(Answer { round, at, node: node_of(frame.get(6..12)?)?, to_all: id == TO_ALL })
    }
}

pub(super) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn hardware(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<std::result::Result<_, _>>()
        .ok()?;
    bytes.try_into().ok()
}

/// The node whose device has that hardware address (see [`namespaces::hardware_address`]).
fn node_of(hardware: &[u8]) -> Option<u16> {
    let [2, 0x76, high, low, ..] = *hardware else { return None };
    Some(u16::from_be_bytes([high, low]))
}

fn ip_header(from: Ipv4Addr, to: Ipv4Addr, payload: u8) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[3] = 20 + payload;
    header[8] = 64;
    header[9] = 1;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn echo(id: u16, round: u32) -> [u8; 12] {
    let mut packet = [0; 12];
    packet[0] = 8;
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&(round as u16).to_be_bytes());
    packet[8..].copy_from_slice(&round.to_be_bytes());
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Lab {
    /// The namespace of the switch.
    pub(super) fn switch(&self) -> String {
        self.plan.switch()
    }

    /// Gives the switch an address on a network, from which can be asked; once.
    fn switch_address(&self, network: usize) -> Result<Ipv4Addr> {
        let std::net::IpAddr::V4(own) = self.plan.address(network, 253) else {
            return Err(LabError("The lab's networks are IPv4.".into()));
        };
        let line = format!("addr replace {own}/24 dev br{network}");
        namespaces::ip_batch_in(&self.switch(), &[line])?;
        Ok(own)
    }

    /// An address of a network that no node has: service addresses for tests, by number.
    pub fn service_address(&self, network: usize, number: u8) -> Ipv4Addr {
        match self.plan.address(network, 200 + u16::from(number)) {
            std::net::IpAddr::V4(address) => address,
            std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(round: u32, ms: u64, node: u16, to_all: bool) -> Answer {
        Answer { round, at: Duration::from_millis(ms), node, to_all }
    }

    #[test]
    fn two_answers_to_one_question_are_two_owners() {
        let mut answers = Answers { answers: Vec::new(), rounds: 3 };
        answers.answers.push(answer(1, 1, 1, true));
        answers.answers.push(answer(1, 2, 1, false));
        answers.answers.push(answer(2, 900, 2, true));
        answers.answers.push(answer(2, 901, 2, false));
        assert_eq!(answers.doubly_owned(), Vec::new());
        assert_eq!(answers.owners(), vec![1, 2]);
        // A longer silence of one and the same node is no handover.
        answers.answers.push(answer(3, 5000, 2, false));
        let handover = answers.latest_handover().expect("two nodes answered");
        assert_eq!((handover.before, handover.after), (1, 2));
        assert_eq!(handover.until, Duration::from_millis(901));
        assert_eq!(answers.longest_silence(), Duration::ZERO);
        answers.answers.push(answer(2, 902, 1, true));
        assert_eq!(answers.doubly_owned(), vec![(2, 2, 1)]);
        answers.answers.push(answer(7, 9000, 1, true));
        answers.rounds = 12;
        assert_eq!(answers.longest_silence(), EVERY * 4, "8 to 11; 4 to 6 are fewer");
    }

    #[test]
    fn a_checksum_makes_the_sum_zero() {
        let header = ip_header(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), 12);
        assert_eq!(checksum(&header), 0);
        assert_eq!(checksum(&echo(TO_ALL, 77)), 0);
    }

    #[test]
    fn hardware_addresses_name_nodes() {
        let text = namespaces::hardware_address(1, 7);
        assert_eq!(node_of(&hardware(&text).expect("six bytes")), Some(7));
        assert_eq!(node_of(&[0; 6]), None);
    }
}
