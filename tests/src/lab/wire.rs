//! Long cables: every frame between a node and its switch takes a time of its own.
//!
//! The kernel's own way (netem) is not in every kernel. So a node's port leaves its bridge, and a process carries
//! frames between the port and a device that takes the port's place, each frame when its time has come. Frames of one
//! direction of one cable never overtake each other. What a node would leave to its adapter, checksums among it, it
//! does itself meanwhile.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::namespaces::{ip_batch_in, port};
use super::prober::socket;
use super::{Lab, LabError, Result};

/// The process that carries frames, among the helpers of a lab.
const HELPER: &str = "wires";

/// What it says when it does.
const READY: &str = "carrying";

/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`: whether the adapter makes checksums.
const SET_CHECKSUMS: u32 = 0x17;
/// `SIOCETHTOOL` of `linux/sockios.h`.
const ETHTOOL: libc::Ioctl = 0x8946;
/// Of `linux/if_packet.h`: what this process sent itself is not received.
const IGNORE_OUTGOING: i32 = 23;

impl Lab {
    /// Gives every cable of the cluster's networks such a round trip from node to node, which differs by up to
    /// `jitter` to either side. None takes that back.
    ///
    /// # Errors
    /// If devices cannot be made, or the process that carries frames does not start.
    pub fn delay(&self, round_trip: Duration, jitter: Duration) -> Result<()> {
        if self.plan.end_helper(HELPER) {
            ip_batch_in(&self.switch(), &self.cable_lines(false))?;
        }
        if round_trip.is_zero() {
            return Ok(());
        }
        for (node, _) in self.plan.nodes() {
            for network in 0..self.plan.networks {
                no_checksums(&self.plan.namespace(&node), &self.plan.device(network))?;
            }
        }
        ip_batch_in(&self.switch(), &self.cable_lines(true))?;
        // A frame from node to node passes two cables, and its answer two more.
        let part = |whole: Duration| (whole / 4).as_micros().to_string();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.switch()]).arg(&self.plan.lab_program);
        command.arg("wires").args([part(round_trip), part(jitter)]);
        command.args(self.cables().map(|(port, place)| format!("{port}={place}")));
        self.plan.start_helper(HELPER, command)?;
        let log = self.dir().join(format!("{HELPER}.log"));
        self.wait_for("frames to be carried", Duration::from_secs(10), |_| {
            fs::read_to_string(&log).is_ok_and(|text| text.contains(READY)).then_some(())
        })
    }

    /// Each node's port on each network of the cluster, and the device that takes its place.
    fn cables(&self) -> impl Iterator<Item = (String, String)> {
        self.plan.nodes().flat_map(|(_, number)| {
            (0..self.plan.networks)
                .map(move |network| (port(number, network), format!("w{number}x{network}")))
        })
    }

    fn cable_lines(&self, long: bool) -> Vec<String> {
        let numbers = self.plan.nodes().map(|(_, number)| number);
        let all = numbers.flat_map(|number| (0..self.plan.networks).map(move |it| (number, it)));
        all.flat_map(|(number, network)| {
            let (port, place) = (port(number, network), format!("w{number}x{network}"));
            if !long {
                return vec![
                    format!("link del {place}"),
                    format!("link set {port} master br{network}"),
                ];
            }
            vec![
                format!("link set {port} nomaster"),
                format!("link add {place} type veth peer name {place}b"),
                format!("link set {place}b master br{network}"),
                format!("link set {place}b up"),
                format!("link set {place} up"),
            ]
        })
        .collect()
    }
}

/// Has a device in a namespace leave checksums, and with them the cutting of segments, to the kernel.
fn no_checksums(namespace: &str, device: &str) -> Result<()> {
    let place = File::open(format!("/run/netns/{namespace}"))?;
    let device = device.to_owned();
    let done = std::thread::spawn(move || -> io::Result<()> {
        setns(&place, CloneFlags::CLONE_NEWNET)?;
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        let mut value = [SET_CHECKSUMS, 0];
        // SAFETY: plain numbers and pointers, for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // SAFETY: request and value live as long as the call, which writes neither beyond its end.
        let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    });
    let done = done.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
    done.map_err(|error| {
        LabError(format!("An adapter in {namespace} keeps its checksums: {error}."))
    })
}

/// A frame under way: when it arrives, its number, at which end, what it is.
type Frame = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// Carries frames between the two devices of each pair until it is ended. Times are of one cable in one direction, in
/// microseconds.
///
/// # Errors
/// If a device is not there.
pub fn carry(time: Duration, jitter: Duration, pairs: &[String]) -> Result<()> {
    let mut ends = Vec::new();
    for pair in pairs {
        let (one, other) = pair.split_once('=').ok_or_else(|| {
            LabError(format!("{pair} is no pair of devices. Write it as p1x0=w1x0."))
        })?;
        // Nobody but the bridge's own device answers for an address of the switch.
        fs::write(format!("/proc/sys/net/ipv4/conf/{one}/arp_ignore"), "8")?;
        ends.extend([open(one)?, open(other)?]);
    }
    // The other end of the pair is the neighbour.
    let mut last = vec![Instant::now(); ends.len()];
    let mut under_way: BinaryHeap<Frame> = BinaryHeap::new();
    let (mut number, mut random) = (0, 0x2545_f491_4f6c_dd1d_u64);
    #[allow(clippy::print_stdout, reason = "read by who started it")]
    {
        println!("{READY}");
    }
    loop {
        let due = under_way.peek().map(|Reverse((at, ..))| *at);
        wait(&ends, due)?;
        for from in 0..ends.len() {
            while let Some(frame) = receive(&ends[from]) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let spread = jitter.as_micros() as u64 * 2;
                let more = Duration::from_micros(random.checked_rem(spread).unwrap_or(0));
                let at = (Instant::now() + time + more).checked_sub(jitter);
                last[from] = last[from].max(at.unwrap_or_else(Instant::now));
                number += 1;
                under_way.push(Reverse((last[from], number, from ^ 1, frame)));
            }
        }
        while under_way.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now()) {
            if let Some(Reverse((_, _, to, frame))) = under_way.pop() {
                // A port without a cable loses it.
                // SAFETY: the frame lives as long as the call and is as long as said.
                unsafe {
                    let (fd, length) = (ends[to].as_raw_fd(), frame.len());
                    libc::send(fd, frame.as_ptr().cast(), length, libc::MSG_DONTWAIT);
                }
            }
        }
    }
}

/// Waits until something can be received, or until then.
fn wait(ends: &[OwnedFd], until: Option<Instant>) -> Result<()> {
    let entry =
        |end: &OwnedFd| libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut waited: Vec<libc::pollfd> = ends.iter().map(entry).collect();
    let time = until.map(|at| at.saturating_duration_since(Instant::now()));
    let limit = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the list is as long as said, and list and limit live as long as the call.
    let ready = unsafe {
        libc::ppoll(waited.as_mut_ptr(), waited.len() as libc::nfds_t, limit, std::ptr::null())
    };
    let error = io::Error::last_os_error();
    if ready < 0 && error.kind() != io::ErrorKind::Interrupted {
        return Err(error.into());
    }
    Ok(())
}

fn receive(end: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    // SAFETY: the buffer is as long as said.
    let length = unsafe {
        let (fd, room) = (end.as_raw_fd(), buffer.len());
        libc::recv(fd, buffer.as_mut_ptr().cast(), room, libc::MSG_DONTWAIT)
    };
    buffer.truncate(usize::try_from(length).ok()?);
    Some(buffer)
}

/// A packet socket that receives everything that arrives at a device.
fn open(device: &str) -> Result<OwnedFd> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let end = socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all))?;
    let name = std::ffi::CString::new(device).map_err(io::Error::from)?;
    // SAFETY: the name is a string that ends with a zero byte.
    let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let interface = i32::try_from(interface).ok().filter(|index| *index > 0);
    let interface = interface.ok_or_else(|| LabError(format!("There is no device {device}.")))?;
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut place: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    place.sll_family = libc::AF_PACKET as u16;
    place.sll_protocol = all;
    place.sll_ifindex = interface;
    let everything = libc::packet_mreq {
        mr_ifindex: interface,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let (fd, length) = (end.as_raw_fd(), size_of::<libc::sockaddr_ll>() as libc::socklen_t);
    // SAFETY: the address is whole and lives as long as the call.
    let bound = unsafe { libc::bind(fd, (&raw const place).cast(), length) } == 0;
    let ready = bound
        && set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &everything)
        && set(fd, libc::SOL_PACKET, IGNORE_OUTGOING, &1_i32)
        && set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(8_i32 << 20));
    if ready { Ok(end) } else { Err(io::Error::last_os_error().into()) }
}

fn set<T>(fd: i32, level: i32, option: i32, value: &T) -> bool {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives as long as the call and is as long as said.
    unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), length) == 0 }
}
