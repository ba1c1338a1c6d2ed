//! Telling the neighbours who has an address now: gratuitous ARP and unsolicited neighbour
//! advertisements (spec H26).
//!
//! A switch learns from any frame, a host from ARP that it did not ask for; some listen to requests
//! only, some to replies only, so both are sent. One may be lost and a port may be slow to forward,
//! so it is repeated: at once, four times at 200 ms, then after 2 and after 10 seconds. Nobody waits
//! for that.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::time::sleep;

use crate::netlink::{Link, Netlink};

/// Pauses between announcements.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(1_200),
    Duration::from_secs(8),
];

const EVERYBODY: [u8; 6] = [0xff; 6];
/// Ethernet's form of `ff02::1`.
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// "Forget what you knew of this address."
const OVERRIDE: u8 = 0x20;
/// Option: the sender's hardware address.
const TARGET_HARDWARE: u8 = 2;

/// Announces an address once. A device that is not Ethernet has nobody to tell.
pub fn once(link: &Link, address: IpAddr) -> io::Result<()> {
    let Some(hardware) = link.ethernet() else { return Ok(()) };
    frames(hardware, address).iter().try_for_each(|frame| send(link.index, frame))
}

/// Announces an address again and again, as long as the device has it. The first announcement is
/// the caller's ([`once`]). Needs a tokio runtime.
pub fn repeatedly(link: Link, address: IpAddr) {
    tokio::spawn(async move {
        for pause in PAUSES {
            sleep(pause).await;
            if !still_there(&link, address) {
                return;
            }
            if let Err(error) = once(&link, address) {
                tracing::debug!(%address, device = link.name, %error, "announcement not sent");
            }
        }
    });
}

fn still_there(link: &Link, address: IpAddr) -> bool {
    let all = Netlink::open().and_then(|mut netlink| netlink.addresses()).unwrap_or_default();
    all.iter().any(|there| (there.device, there.address) == (link.index, address))
}

/// The frames that announce an address.
pub fn frames(hardware: [u8; 6], address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(four) => [1, 2].map(|operation| arp(hardware, four, operation)).to_vec(),
        IpAddr::V6(six) => vec![advertisement(hardware, six)],
    }
}

fn ethernet(to: [u8; 6], from: [u8; 6], protocol: u16) -> Vec<u8> {
    [&to[..], &from, &protocol.to_be_bytes()].concat()
}

/// Gratuitous: sender and target are the same address. 1 is the request's form, 2 the reply's.
fn arp(hardware: [u8; 6], address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = ethernet(EVERYBODY, hardware, ARP);
    // Ethernet, IPv4, six and four bytes long.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(hardware);
    frame.extend(address.octets());
    frame.extend(if operation == 1 { [0; 6] } else { EVERYBODY });
    frame.extend(address.octets());
    frame
}

fn advertisement(hardware: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend(address.octets());
    body.extend([TARGET_HARDWARE, 1]);
    body.extend(hardware);
    let sum = checksum(address, ALL_NODES_ADDRESS, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES, hardware, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    // The hop limit proves that no router passed it on.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES_ADDRESS.octets());
    frame.extend(body);
    frame
}

/// The Internet checksum over the message and what stands for the IPv6 header.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
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

/// What a frame announces: the hardware address and the address that it has. `None` if the frame is
/// no announcement.
pub fn announced(frame: &[u8]) -> Option<([u8; 6], IpAddr)> {
    let protocol = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    match protocol {
        ARP => {
            let (hardware, sender) = (frame.get(22..28)?, frame.get(28..32)?);
            let address = Ipv4Addr::from(<[u8; 4]>::try_from(sender).ok()?);
            (sender == frame.get(38..42)?).then_some((hardware.try_into().ok()?, address.into()))
        }
        IPV6 if *frame.get(20)? == ICMPV6 && *frame.get(54)? == NEIGHBOUR_ADVERTISEMENT => {
            let address = <[u8; 16]>::try_from(frame.get(62..78)?).ok()?;
            let option = frame.get(78..80)? == [TARGET_HARDWARE, 1];
            let hardware = frame.get(80..86)?.try_into().ok()?;
            option.then_some((hardware, Ipv6Addr::from(address).into()))
        }
        _ => None,
    }
}

fn send(device: u32, frame: &[u8]) -> io::Result<()> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: this socket receives nothing.
    // SAFETY: takes no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all zero is a valid value of this plain structure.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = device as i32;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// H26: what is announced is what neighbours read, of either family.
        #[test]
        fn an_announcement_reads_as_it_was_written(hardware: [u8; 6], four: [u8; 4], six: [u8; 16]) {
            for address in [IpAddr::from(four), IpAddr::from(six)] {
                for frame in frames(hardware, address) {
                    prop_assert_eq!(announced(&frame), Some((hardware, address)));
                }
            }
        }

        /// The receiver's check: the sum over everything, the checksum included, is zero.
        #[test]
        fn the_checksum_is_right(hardware: [u8; 6], six: [u8; 16]) {
            let frame = advertisement(hardware, six.into());
            prop_assert_eq!(checksum(six.into(), ALL_NODES_ADDRESS, &frame[54..]), 0);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = announced(&bytes);
        }
    }

    /// H26: both forms of gratuitous ARP, byte for byte.
    #[test]
    fn the_forms_of_arp() {
        let (hardware, address) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(192, 0, 2, 1));
        let request = arp(hardware, address, 1);
        assert_eq!(request.len(), 42);
        assert_eq!(&request[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 6]);
        assert_eq!(&request[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(&request[28..], [192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        assert_eq!(arp(hardware, address, 2)[20..22], [0, 2]);
    }
}
