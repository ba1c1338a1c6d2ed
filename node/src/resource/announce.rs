//! Telling the neighbours who has an address now: gratuitous ARP and unsolicited neighbour
//! advertisements (spec H26).
//!
//! A switch learns from any frame, a host from ARP that it did not ask for; some listen to requests
//! only, some to replies only, so both are sent. One may be lost and a port may be slow to forward,
//! so it is repeated: at once, four times at 200 ms, then after 2 and after 10 seconds. Nobody waits
//! for that.
//!
//! Invariant: nothing is announced without the lease. What is sent here goes past the kernel's gate
//! ([`crate::guard`]), which stops only what the kernel itself answers; so the lease is looked at before
//! the device, and its end, as it was then, once more right before each frame is sent. A process that stood
//! still in between sends nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::sleep;

use super::wire::{
    ARP, ARP_OVER_ETHERNET, EVERYBODY, ICMPV6, IPV6, NEIGHBOUR_ADVERTISEMENT, TARGET_HARDWARE,
    ethernet, icmp, send,
};
use crate::guard::client::{Lasting, LeaseWatch};
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

/// Ethernet's form of `ff02::1`.
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// "Forget what you knew of this address."
const OVERRIDE: u8 = 0x20;

/// Announces an address once, if the device has it and the lease lasts. A device that is not Ethernet has
/// nobody to tell.
pub fn once(link: &Link, address: IpAddr, lease: Option<&LeaseWatch>) -> io::Result<()> {
    let now = lease.and_then(LeaseWatch::now);
    // Looked at after the lease: what is there then was there while it lasted.
    if lease.is_some() && now.is_none() || !still_there(link, address) {
        return Ok(());
    }
    let Some(hardware) = link.ethernet() else { return Ok(()) };
    for frame in frames(hardware, address) {
        if now.is_none_or(Lasting::lasts) {
            send(link.index, &frame)?;
        }
    }
    Ok(())
}

/// Announces an address again and again, as long as the device has it; while there is no lease, that is left
/// out. The first announcement is the caller's ([`once`]). Needs a tokio runtime.
pub fn repeatedly(link: Link, address: IpAddr, lease: Option<LeaseWatch>) {
    tokio::spawn(async move {
        for pause in PAUSES {
            sleep(pause).await;
            if !still_there(&link, address) {
                return;
            }
            if let Err(error) = once(&link, address, lease.as_ref()) {
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

/// Gratuitous: sender and target are the same address. 1 is the request's form, 2 the reply's.
fn arp(hardware: [u8; 6], address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = ethernet(EVERYBODY, hardware, ARP);
    frame.extend(ARP_OVER_ETHERNET);
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
    icmp((ALL_NODES, hardware), (address, ALL_NODES_ADDRESS), body)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::checksum;
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
