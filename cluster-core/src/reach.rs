//! Which addresses others can reach: of nodes by the other nodes, of services by their clients.
//!
//! An address is written once and carried far: into tokens, certificates' peers, documents. One that means
//! something else on every machine (`127.0.0.1`, for which a host's own name often stands) or nothing at all
//! is found where it is written, not where a node waits in vain.

use std::net::{IpAddr, Ipv4Addr};

/// Why no other machine reaches this address, as the end of a sentence that begins with it.
pub fn unreachable(ip: IpAddr) -> Option<&'static str> {
    Some(match ip {
        _ if ip.is_unspecified() => "means every address of a machine and is none",
        _ if ip.is_loopback() => "is loopback: on each machine it is that machine itself",
        _ if ip.is_multicast() => "is a multicast address, which belongs to no machine",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address, which belongs to no machine",
        IpAddr::V4(four) if four.octets()[0] == 0 || four.octets()[0] >= 240 => {
            "is reserved, and no machine can have it"
        }
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            "is an IPv4 address in the guise of an IPv6 one"
        }
        IpAddr::V6(six) if six.is_unicast_link_local() => {
            "is link-local: which of a machine's networks it is on is not said"
        }
        _ => return None,
    })
}

/// What to write instead of such an address.
pub fn instead(ip: IpAddr) -> String {
    let mapped = match ip {
        IpAddr::V6(six) => six.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    match mapped {
        Some(four) => format!("Write it as \"{four}\"."),
        None => {
            "Write the address by which other machines reach it; ip address show lists them.".into()
        }
    }
}

/// What an address is in its subnet, if it is none that a machine can have there.
pub fn not_a_host(ip: IpAddr, prefix: u8) -> Option<&'static str> {
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let host = bits - u32::from(prefix).min(bits);
    // In a subnet of two or one there is neither.
    if host < 2 {
        return None;
    }
    let (number, all) = match ip {
        IpAddr::V4(four) => (u128::from(u32::from(four)), (1 << host) - 1),
        IpAddr::V6(six) => {
            (u128::from(six), 1_u128.checked_shl(host).map_or(u128::MAX, |bit| bit - 1))
        }
    };
    match number & all {
        0 => Some("is the address of the subnet itself"),
        rest if rest == all && ip.is_ipv4() => Some("is the broadcast address of its subnet"),
        _ => None,
    }
}

/// Whether an address that says nothing of its subnet is likely to be in that of another one.
pub fn is_near(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_nobody_reaches_is_known() {
        for (text, word) in [
            ("0.0.0.0", "every address"),
            ("::", "every address"),
            ("127.0.1.1", "loopback"),
            ("::1", "loopback"),
            ("224.0.0.18", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("0.1.2.3", "reserved"),
            ("250.1.2.3", "reserved"),
            ("::ffff:10.0.0.1", "guise"),
            ("fe80::1", "link-local"),
        ] {
            let why = unreachable(ip(text)).unwrap_or_default();
            assert!(why.contains(word), "{text}: {why}");
        }
        for text in ["10.0.0.1", "192.168.1.255", "169.254.1.1", "fd00::1", "2001:db8::1"] {
            assert_eq!(unreachable(ip(text)), None, "{text}");
        }
        assert_eq!(instead(ip("::ffff:10.0.0.1")), "Write it as \"10.0.0.1\".");
    }

    #[test]
    fn ends_of_a_subnet_are_no_hosts() {
        for (text, prefix, word) in [
            ("10.0.0.255", 24, Some("broadcast")),
            ("10.0.255.255", 16, Some("broadcast")),
            ("10.0.0.0", 24, Some("subnet itself")),
            ("10.0.0.255", 16, None),
            ("10.0.0.255", 32, None),
            ("10.0.0.1", 31, None),
            ("10.0.0.0", 0, None),
            ("fd00::", 64, Some("subnet itself")),
            ("fd00::ffff:ffff:ffff:ffff", 64, None),
            ("fd00::50", 128, None),
        ] {
            let found = not_a_host(ip(text), prefix);
            assert_eq!(found.is_some(), word.is_some(), "{text}/{prefix}: {found:?}");
            assert!(found.unwrap_or_default().contains(word.unwrap_or_default()), "{found:?}");
        }
    }

    #[test]
    fn what_is_near_is_in_the_usual_subnet() {
        assert!(is_near(ip("10.0.0.200"), ip("10.0.0.1")) && is_near(ip("fd00::5"), ip("fd00::6")));
        assert!(
            !is_near(ip("10.0.1.200"), ip("10.0.0.1")) && !is_near(ip("fd00::1"), ip("10.0.0.1"))
        );
    }
}
