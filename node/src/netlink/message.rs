//! The bytes of the kernel's routing messages: a header, a fixed part, attributes.
//!
//! Everything is aligned to four bytes and in the machine's byte order, addresses in the network's.
//! Nothing here trusts a length: what does not fit is left out, so that random bytes yield nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 16;
const ADDRESS_FIXED: usize = 8;
const LINK_FIXED: usize = 16;
const ROUTE_FIXED: usize = 12;
const NEIGHBOUR_FIXED: usize = 12;

/// `IFA_FLAGS`, which the `libc` crate does not name.
const IFA_FLAGS: u16 = 8;

/// `RTNH_F_ONLINK`: the gateway is taken to be a neighbour. The only flag that users set.
const ONLINK: u32 = 4;

/// One message of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// All is said, or a request was carried out; `error` is the system's number, 0 for success.
    Done {
        /// Of which request.
        sequence: u32,
        /// The system's error number.
        error: i32,
    },
    /// One of many.
    Item {
        /// Of which request.
        sequence: u32,
        /// `RTM_…`.
        kind: u16,
        /// What follows the header.
        body: &'a [u8],
    },
}

/// A request.
pub fn packet(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + body.len());
    packet.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    packet.extend(kind.to_ne_bytes());
    packet.extend(flags.to_ne_bytes());
    packet.extend(sequence.to_ne_bytes());
    packet.extend(0_u32.to_ne_bytes());
    packet.extend_from_slice(body);
    packet
}

/// Takes a datagram apart; what does not look like a message ends it.
pub fn split(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    while let (Some(len), Some(kind), Some(sequence)) =
        (u32_at(bytes, 0), u16_at(bytes, 4), u32_at(bytes, 8))
    {
        let len = len as usize;
        let Some(body) = bytes.get(HEADER..len) else { break };
        messages.push(message(kind, sequence, body));
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
    }
    messages
}

/// Whether the kernel says of any message in a datagram that its tables changed while it told them,
/// so that something may be missing, or be there twice.
pub fn is_interrupted(mut bytes: &[u8]) -> bool {
    while let (Some(len), Some(flags)) = (u32_at(bytes, 0), u16_at(bytes, 6)) {
        if flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
            return true;
        }
        bytes = bytes.get(aligned((len as usize).max(HEADER))..).unwrap_or_default();
    }
    false
}

fn message(kind: u16, sequence: u32, body: &[u8]) -> Message<'_> {
    match i32::from(kind) {
        libc::NLMSG_DONE | libc::NLMSG_ERROR => {
            let error = u32_at(body, 0).unwrap_or_default() as i32;
            Message::Done { sequence, error: error.saturating_neg().max(0) }
        }
        _ => Message::Item { sequence, kind, body },
    }
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its hardware address; of Ethernet, six bytes.
    pub hardware: Vec<u8>,
    /// `IFF_…`
    pub flags: u32,
    /// `ARPHRD_…`
    pub kind: u16,
}

impl Link {
    /// Reads what follows the header.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let index = u32_at(body, 4)?;
        let mut link = Self {
            index,
            name: String::new(),
            hardware: Vec::new(),
            flags: u32_at(body, 8)?,
            kind: u16_at(body, 2)?,
        };
        for (kind, value) in attributes(body.get(LINK_FIXED..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = text(value),
                libc::IFLA_ADDRESS => link.hardware = value.to_vec(),
                _ => {}
            }
        }
        Some(link)
    }

    /// Whether it is switched on.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Whether there is a carrier.
    pub fn runs(&self) -> bool {
        self.flags & libc::IFF_RUNNING as u32 != 0
    }

    /// Whether something can be reached through it: switched on, and with a carrier.
    pub fn carries(&self) -> bool {
        self.is_up() && self.runs()
    }

    /// The hardware address, if this speaks Ethernet.
    pub fn ethernet(&self) -> Option<[u8; 6]> {
        let is = self.kind == libc::ARPHRD_ETHER;
        self.hardware.as_slice().try_into().ok().filter(|_| is)
    }
}

/// An address on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Number of the device.
    pub device: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix.
    pub prefix: u8,
    /// `IFA_F_…`
    pub flags: u32,
}

impl Address {
    /// One that can be used at once.
    pub fn new(device: u32, address: IpAddr, prefix: u8) -> Self {
        let flags = if address.is_ipv6() { libc::IFA_F_NODAD } else { 0 };
        Self { device, address, prefix, flags }
    }

    /// Whether it can be used: neither being checked for duplicates nor found to be one.
    pub fn is_usable(&self) -> bool {
        self.flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) == 0
    }

    /// What follows the header in a request.
    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![family(self.address), self.prefix, self.flags as u8, 0];
        body.extend(self.device.to_ne_bytes());
        let bytes = bytes_of(self.address);
        push(&mut body, libc::IFA_LOCAL, &bytes);
        push(&mut body, libc::IFA_ADDRESS, &bytes);
        push(&mut body, IFA_FLAGS, &self.flags.to_ne_bytes());
        body
    }

    /// Reads what follows the header.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (mut local, mut address, mut flags) = (None, None, u32::from(*body.get(2)?));
        for (kind, value) in attributes(body.get(ADDRESS_FIXED..)?) {
            match kind {
                libc::IFA_LOCAL => local = ip(value),
                libc::IFA_ADDRESS => address = ip(value),
                IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
                _ => {}
            }
        }
        // On a point-to-point device the attribute `IFA_ADDRESS` is the other end's.
        Some(Self { device: u32_at(body, 4)?, address: local.or(address)?, prefix: body[1], flags })
    }
}

/// A neighbour on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the device behind which it is.
    pub device: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub hardware: [u8; 6],
}

impl Neighbour {
    /// Reads what follows the header; `None` if its hardware address is not known.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (mut address, mut hardware) = (None, None);
        for (kind, value) in attributes(body.get(NEIGHBOUR_FIXED..)?) {
            match kind {
                libc::NDA_DST => address = ip(value),
                libc::NDA_LLADDR => hardware = value.try_into().ok(),
                _ => {}
            }
        }
        Some(Self { device: u32_at(body, 4)?, address: address?, hardware: hardware? })
    }
}

/// A route, as the kernel describes it: kept as it came, so that it can be put back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    body: Vec<u8>,
}

impl Route {
    /// Reads what follows the header; `None` for a route that nobody made.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let kernel = *body.get(5)? == libc::RTPROT_KERNEL;
        let flags = u32_at(body, 8)?;
        let cached = flags & libc::RTM_F_CLONED != 0;
        let mut kept = body[..8].to_vec();
        // Most flags are the kernel's remarks, such as that the link is down, and not ours to say.
        kept.extend((flags & ONLINK).to_ne_bytes());
        for (kind, value) in attributes(body.get(ROUTE_FIXED..)?) {
            if kind != libc::RTA_CACHEINFO {
                push(&mut kept, kind, value);
            }
        }
        (!kernel && !cached).then_some(Self { body: kept })
    }

    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The device that it leads through; none for one that leads nowhere or several ways.
    pub fn device(&self) -> Option<u32> {
        self.attribute(libc::RTA_OIF).and_then(|value| u32_at(value, 0))
    }

    /// The address that packets get which are sent this way.
    pub fn source(&self) -> Option<IpAddr> {
        self.attribute(libc::RTA_PREFSRC).and_then(ip)
    }

    /// Whether it leads to another router, so that the way to that one has to be there first.
    pub fn has_gateway(&self) -> bool {
        [libc::RTA_GATEWAY, libc::RTA_VIA, libc::RTA_MULTIPATH]
            .into_iter()
            .any(|kind| self.attribute(kind).is_some())
    }

    /// The same through another device.
    pub fn through(&self, device: u32) -> Self {
        self.changed(libc::RTA_OIF, Some(&device.to_ne_bytes()))
    }

    /// The same without a source address.
    pub fn without_source(&self) -> Self {
        self.changed(libc::RTA_PREFSRC, None)
    }

    fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        let all = attributes(self.body.get(ROUTE_FIXED..)?);
        all.into_iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    fn changed(&self, which: u16, to: Option<&[u8]>) -> Self {
        let mut body = self.body[..ROUTE_FIXED].to_vec();
        for (kind, value) in attributes(&self.body[ROUTE_FIXED..]) {
            match to {
                _ if kind != which => push(&mut body, kind, value),
                Some(value) => push(&mut body, kind, value),
                None => {}
            }
        }
        Self { body }
    }
}

/// Asks for all devices.
pub fn link_request() -> Vec<u8> {
    vec![0; LINK_FIXED]
}

/// Asks for all addresses.
pub fn address_request() -> Vec<u8> {
    vec![0; ADDRESS_FIXED]
}

/// Asks for all neighbours.
pub fn neighbour_request() -> Vec<u8> {
    vec![0; NEIGHBOUR_FIXED]
}

/// Asks for all routes.
pub fn route_request() -> Vec<u8> {
    vec![0; ROUTE_FIXED]
}

/// Attributes: length, kind, value, padding.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(len), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let len = usize::from(len);
        let Some(value) = bytes.get(4..len) else { break };
        found.push((kind & libc::NLA_TYPE_MASK as u16, value));
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
    }
    found
}

/// Adds an attribute.
pub fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(aligned(body.len()), 0);
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).into());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).into())).ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|bytes| Ipv4Addr::from(bytes).into()),
            any::<[u8; 16]>().prop_map(|bytes| Ipv6Addr::from(bytes).into()),
        ]
    }

    proptest! {
        #[test]
        fn an_address_reads_as_it_was_written(device: u32, ip in any_ip(), prefix: u8) {
            let address = Address::new(device, ip, prefix);
            prop_assert_eq!(Address::parse(&address.body()), Some(address));
        }

        #[test]
        fn a_packet_reads_as_it_was_written(
            kind in 16_u16..100,
            sequence: u32,
            interrupted: Option<prop::sample::Index>,
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                bytes.extend(packet(kind, 0, sequence, body));
                bytes.resize(aligned(bytes.len()), 0);
            }
            let marked = interrupted.filter(|_| !bodies.is_empty()).map(|at| at.index(bodies.len()));
            if let Some(at) = marked {
                let before = bodies[..at].iter().map(|body| aligned(HEADER + body.len()));
                let flags = before.sum::<usize>() + 6;
                bytes[flags..flags + 2].copy_from_slice(&(libc::NLM_F_DUMP_INTR as u16).to_ne_bytes());
            }
            prop_assert_eq!(is_interrupted(&bytes), marked.is_some());
            let read = split(&bytes);
            let written: Vec<_> =
                bodies.iter().map(|body| Message::Item { sequence, kind, body }).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn a_route_keeps_all_but_what_is_changed(
            table: u8, old: u32, new: u32, gateway in any_ip(), source in any_ip(), metric: u32,
        ) {
            let mut body = vec![2, 0, 0, 0, table, libc::RTPROT_STATIC, 0, 1, 0, 0, 0, 0];
            push(&mut body, libc::RTA_OIF, &old.to_ne_bytes());
            push(&mut body, libc::RTA_GATEWAY, &bytes_of(gateway));
            push(&mut body, libc::RTA_PREFSRC, &bytes_of(source));
            push(&mut body, libc::RTA_PRIORITY, &metric.to_ne_bytes());
            let route = Route::parse(&body).unwrap();
            prop_assert_eq!(route.body(), body.as_slice());
            let moved = route.through(new).without_source();
            prop_assert_eq!((moved.device(), moved.source()), (Some(new), None));
            prop_assert_eq!(moved.attribute(libc::RTA_GATEWAY), Some(&*bytes_of(gateway)));
            prop_assert_eq!(moved.attribute(libc::RTA_PRIORITY), Some(&metric.to_ne_bytes()[..]));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in split(&bytes) {
                if let Message::Item { body, .. } = message {
                    let _ = (Link::parse(body), Address::parse(body), Route::parse(body));
                }
            }
            let _ = (Link::parse(&bytes), Address::parse(&bytes), is_interrupted(&bytes));
            if let Some(route) = Route::parse(&bytes) {
                let _ = (route.device(), route.source(), route.through(1).without_source());
            }
        }
    }
}
