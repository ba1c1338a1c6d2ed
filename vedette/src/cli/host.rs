//! What only this host can tell of a configuration: whether its names resolve and its addresses
//! are here (spec H7). The original died of either without a word.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use vedette_core::config::{Address, Config};
use vedette_core::id::NetworkNumber;
use vedette_core::reach;

use super::fail::{Failure, Result};

/// This node's address on each of its networks.
///
/// # Errors
/// Every name that does not resolve and every address that is not on this host.
pub(crate) fn addresses(config: &Config) -> Result<BTreeMap<NetworkNumber, IpAddr>> {
    let mut addresses = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, network) in &config.networks {
        match resolve(&network.address, config.one_machine).and_then(is_here) {
            Ok(ip) => {
                addresses.insert(*number, ip);
            }
            Err(why) => wrong.push(format!("network {}: {why}", network.name)),
        }
    }
    if wrong.is_empty() {
        return Ok(addresses);
    }
    Err(Failure::failed(
        format!("this host does not have what its configuration says: {}", wrong.join("; ")),
        "Correct the addresses in vedette.toml; ip address show lists those of this host.",
    ))
}

/// The address of a name; where it has several, the first that is on this host and that others can reach: a
/// host's own name often stands for loopback as well.
fn resolve(address: &Address, one_machine: bool) -> std::result::Result<IpAddr, String> {
    let name = match address {
        Address::Ip(ip) => return Ok(*ip),
        Address::Name(name) => name,
    };
    let found: Vec<IpAddr> = (name.as_str(), 0)
        .to_socket_addrs()
        .map_err(|error| format!("the name {name} does not resolve: {error}"))?
        .map(|found| found.ip())
        .collect();
    let why = |ip: IpAddr| reach::unreachable(ip).filter(|_| !(one_machine && ip.is_loopback()));
    let (usable, wrong): (Vec<IpAddr>, Vec<IpAddr>) =
        found.into_iter().partition(|ip| why(*ip).is_none());
    let here = usable.iter().copied().find(|ip| is_here(*ip).is_ok());
    here.or_else(|| usable.first().copied()).ok_or_else(|| match wrong.first() {
        Some(ip) => format!(
            "the name {name} stands for {ip} here, which {}; write the address itself",
            why(*ip).unwrap_or_default()
        ),
        None => format!("the name {name} has no address"),
    })
}

/// An address is on this host if a socket can be bound to it.
fn is_here(ip: IpAddr) -> std::result::Result<IpAddr, String> {
    match UdpSocket::bind(SocketAddr::new(ip, 0)) {
        Ok(_) => Ok(ip),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            Err(format!("the address {ip} is not on this host"))
        }
        Err(error) => Err(format!("the address {ip} cannot be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H7: a name that does not resolve and an address that is elsewhere are named with the reason.
    #[test]
    fn what_is_not_here_is_named() {
        assert!(is_here(IpAddr::from([127, 0, 0, 1])).is_ok());
        // TEST-NET-1 belongs to nobody.
        let elsewhere = is_here(IpAddr::from([192, 0, 2, 1])).unwrap_err();
        assert!(elsewhere.contains("192.0.2.1 is not on this host"), "{elsewhere}");
        let unknown = resolve(&Address::Name("no-such-host.invalid".into()), false).unwrap_err();
        assert!(unknown.contains("no-such-host.invalid does not resolve"), "{unknown}");
    }

    /// A host's own name often stands for loopback: no other node reaches it by that.
    #[test]
    fn a_name_that_stands_for_loopback_is_refused() {
        let name = Address::Name("localhost".into());
        let refused = resolve(&name, false).unwrap_err();
        assert!(
            refused.contains("localhost stands for") && refused.contains("loopback"),
            "{refused}"
        );
        assert!(resolve(&name, true).is_ok_and(|ip| ip.is_loopback()), "on one machine it will do");
    }
}
