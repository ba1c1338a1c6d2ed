//! Frames about addresses: who has one, and is anybody there who does. What comes from outside is read by
//! [`claims`] alone, which trusts no length.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub(super) const EVERYBODY: [u8; 6] = [0xff; 6];
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Option: the hardware address of whoever has the address.
pub(super) const TARGET_HARDWARE: u8 = 2;
/// Ethernet, IPv4, addresses of six and four bytes.
pub(super) const ARP_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Proves that no router passed a packet on.
const HOP_LIMIT: u8 = 255;

pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], protocol: u16) -> Vec<u8> {
    [&to[..], &from, &protocol.to_be_bytes()].concat()
}

/// An ICMPv6 message in a frame, with its checksum.
pub(super) fn icmp(
    (to, from): ([u8; 6], [u8; 6]),
    (source, target): (Ipv6Addr, Ipv6Addr),
    mut body: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(source, target, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(to, from, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(target.octets());
    frame.extend(body);
    frame
}

/// The Internet checksum over the message and what stands for the IPv6 header.
pub(super) fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let mut all = [from.octets(), to.octets()].concat();
    all.extend((body.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, ICMPV6]);
    all.extend_from_slice(body);
    let words = all
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Asks whether anybody has an address, without a word of who asks: an ARP probe, or a neighbour
/// solicitation of duplicate address detection.
pub(super) fn probe(hardware: [u8; 6], address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => {
            let mut frame = ethernet(EVERYBODY, hardware, ARP);
            frame.extend(ARP_OVER_ETHERNET);
            frame.extend([0, 1]);
            frame.extend(hardware);
            frame.extend([0; 10]);
            frame.extend(four.octets());
            frame
        }
        IpAddr::V6(six) => {
            let [.., a, b, c] = six.octets();
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            let mut body = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend(six.octets());
            icmp(([0x33, 0x33, 0xff, a, b, c], hardware), (Ipv6Addr::UNSPECIFIED, group), body)
        }
    }
}

/// Hardware address of another machine that has an address; `own` is the one by which this node asks. Who only asks
/// for it as if to take it, as other members do at the same time, has it not: it hears of this node's having taken it.
pub(super) fn claims(frame: &[u8], address: IpAddr, own: [u8; 6]) -> Option<[u8; 6]> {
    let who = match address {
        IpAddr::V4(four) => claims_by_arp(frame, four),
        IpAddr::V6(six) => claims_by_icmp(frame, six),
    };
    who.filter(|who| *who != own)
}

fn claims_by_arp(frame: &[u8], address: Ipv4Addr) -> Option<[u8; 6]> {
    let bytes = |from: usize| -> Option<Ipv4Addr> {
        Some(<[u8; 4]>::try_from(frame.get(from..from + 4)?).ok()?.into())
    };
    let is_arp = protocol(frame)? == ARP && frame.get(14..20)? == ARP_OVER_ETHERNET;
    // A frame that is cut off claims nothing, whatever is in it so far.
    let (sender, _target) = (bytes(28)?, bytes(38)?);
    (is_arp && sender == address).then(|| six(frame, 22))?
}

fn claims_by_icmp(frame: &[u8], address: Ipv6Addr) -> Option<[u8; 6]> {
    let is_icmp = protocol(frame)? == IPV6 && frame.get(20..22)? == [ICMPV6, HOP_LIMIT];
    if !is_icmp || frame.get(62..78)? != address.octets() {
        return None;
    }
    match *frame.get(54)? {
        NEIGHBOUR_ADVERTISEMENT if frame.get(78..80) == Some(&[TARGET_HARDWARE, 1]) => {
            six(frame, 80)
        }
        NEIGHBOUR_ADVERTISEMENT => six(frame, 6),
        _ => None,
    }
}

fn protocol(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

fn six(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// Sends a frame.
pub(super) fn send(device: u32, frame: &[u8]) -> io::Result<()> {
    // Protocol 0: this socket receives nothing.
    let socket = socket(0)?;
    let mut to = place(device, 0);
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&frame[..6]);
    // SAFETY: frame and address are as long as is said.
    let sent = unsafe {
        let at = std::ptr::from_ref(&to).cast();
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, at, size)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket that hears what arrives at a device of the kind that speaks of such an address: ARP, or ICMPv6
/// about neighbours. What this node sends itself it does not hear.
pub(super) fn ear(device: u32, address: IpAddr) -> io::Result<OwnedFd> {
    let protocol = if address.is_ipv4() { ARP } else { IPV6 };
    // Receives nothing before it is bound, and then only what the filter lets through.
    let socket = socket(0)?;
    if address.is_ipv6() {
        neighbours_only(&socket)?;
    }
    let at = place(device, protocol);
    // SAFETY: the address is as long as is said.
    let bound = unsafe {
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&at).cast(), size)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Lets only neighbour solicitations and advertisements through, so that a busy network is no load.
fn neighbours_only(socket: &OwnedFd) -> io::Result<()> {
    // Load a byte from a place (BPF_LD | BPF_B | BPF_ABS), jump if equal (BPF_JMP | BPF_JEQ | BPF_K), return
    // that many bytes (BPF_RET | BPF_K).
    let (load, jump, give) = (0x30, 0x15, 0x06);
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(load, 0, 0, 20),
        step(jump, 0, 4, u32::from(ICMPV6)),
        step(load, 0, 0, 54),
        step(jump, 1, 0, u32::from(NEIGHBOUR_SOLICITATION)),
        step(jump, 0, 1, u32::from(NEIGHBOUR_ADVERTISEMENT)),
        step(give, 0, 0, 0xffff),
        step(give, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program lives as long as the call, and its length is right.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(protocol: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, protocol) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn place(device: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all zero is a valid value of this plain structure.
    let mut place: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    place.sll_family = libc::AF_PACKET as u16;
    place.sll_protocol = protocol.to_be();
    place.sll_ifindex = device as i32;
    place
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::announce::frames;
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

    /// RFC 5227, 1.1: an ARP probe, byte for byte.
    #[test]
    fn an_arp_probe_names_no_sender() {
        let frame = probe(OWN, IpAddr::from([192, 0, 2, 10]));
        assert_eq!(frame.len(), 42);
        assert_eq!(&frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(&frame[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(&frame[22..], [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10]);
    }

    /// RFC 4862, 5.4.2: from the unspecified address to the solicited-node group, without options.
    #[test]
    fn a_solicitation_goes_to_those_who_may_have_the_address() {
        let frame = probe(OWN, "2001:db8::12:3456".parse().expect("an address"));
        assert_eq!(frame.len(), 78);
        assert_eq!(&frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(&frame[20..22], [58, 255]);
        assert_eq!(&frame[22..38], [0; 16]);
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().expect("an address");
        assert_eq!(&frame[38..54], group.octets());
        assert_eq!(checksum(Ipv6Addr::UNSPECIFIED, group, &frame[54..]), 0);
    }

    /// A reply to a probe, as the kernel sends it: to the prober's hardware address, and to 0.0.0.0.
    #[test]
    fn a_reply_is_a_claim() {
        let address = Ipv4Addr::new(192, 0, 2, 10);
        let mut reply = ethernet(OWN, OTHER, ARP);
        reply.extend(ARP_OVER_ETHERNET);
        reply.extend([0, 2]);
        reply.extend(OTHER);
        reply.extend(address.octets());
        reply.extend(OWN);
        reply.extend([0; 4]);
        assert_eq!(claims(&reply, address.into(), OWN), Some(OTHER));
        assert_eq!(claims(&reply, IpAddr::from([192, 0, 2, 11]), OWN), None);
        let mut asks = reply.clone();
        asks[21] = 1;
        asks[28..32].copy_from_slice(&[192, 0, 2, 7]);
        asks[38..42].copy_from_slice(&address.octets());
        assert_eq!(claims(&asks, address.into(), OWN), None, "a client that looks for it");
    }

    proptest! {
        /// Announcements of others are claims of that address alone, and their probes are none, nor is what is this
        /// node's own.
        #[test]
        fn others_claim_what_they_have(hardware: [u8; 6], four: [u8; 4], six: [u8; 16]) {
            prop_assume!(hardware != OWN && four != [0; 4]);
            for (address, another) in [
                (IpAddr::from(four), IpAddr::from([198, 51, 100, 1])),
                (IpAddr::from(six), IpAddr::from(Ipv6Addr::LOCALHOST)),
            ] {
                prop_assume!(address != another);
                prop_assert_eq!(claims(&probe(hardware, address), address, OWN), None);
                for frame in frames(hardware, address) {
                    prop_assert_eq!(claims(&frame, address, OWN), Some(hardware));
                    prop_assert_eq!(claims(&frame, address, hardware), None);
                    prop_assert_eq!(claims(&frame, another, OWN), None);
                }
            }
        }

        /// Whatever is cut off or changed, nothing panics, and a frame that is too short claims nothing.
        #[test]
        fn what_comes_from_outside_is_not_trusted(
            six: [u8; 16],
            four: [u8; 4],
            changes in prop::collection::vec((0_usize..90, any::<u8>()), 0..6),
            length in 0_usize..90,
            noise in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            for address in [IpAddr::from(four), IpAddr::from(six)] {
                let _ = claims(&noise, address, OWN);
                let mut all = frames(OTHER, address);
                all.push(probe(OTHER, address));
                for mut frame in all {
                    for (at, byte) in &changes {
                        if let Some(there) = frame.get_mut(*at) {
                            *there = *byte;
                        }
                    }
                    frame.truncate(length);
                    let claim = claims(&frame, address, OWN);
                    prop_assert!(claim.is_none() || length >= 42);
                }
            }
        }
    }
}
