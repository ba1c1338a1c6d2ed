//! `swap_adapter` (spec H27): what the adapter in use has goes to the standby adapter of the same
//! node, and the standby's own address comes back in exchange.
//!
//! The node's own address moves along, so that heartbeats and everything that is found by it
//! ([`super`]) work over the good adapter; the failed one, with the standby's address, is the
//! standby from now on. Routes move too. Each call exchanges: a second one exchanges back.

use std::io;
use std::net::IpAddr;

use vedette_core::group::ResourceDef;
use vedette_core::id::NetworkNumber;

use super::{Here, ServiceAddress, apart, no_device, tell};
use crate::netlink::{Address, Link};
use crate::resource::{Context, Detail, Failure, Reach};

/// Exchanges the adapters of a network. `services` are the addresses that may be on it besides the
/// node's own; those that are move.
pub async fn swap(
    context: &Context,
    network: NetworkNumber,
    services: Vec<IpAddr>,
) -> Result<Detail, Failure> {
    let own = context.interfaces.get(&network).copied();
    let standby = context.standbys.get(&network).copied();
    let (Some(own), Some(standby)) = (own, standby) else {
        let why = format!("this node has no standby adapter on network {network}");
        let advice = "Give it one, and name its address in the configuration.";
        return Err(Failure::new(why, advice).reaching(Reach::Node));
    };
    let (moved, to) = apart(move || exchange(own, standby, services)).await?;
    moved.iter().for_each(|address| tell(&to, *address, context.lease.clone()));
    let words: Vec<_> = moved.iter().map(IpAddr::to_string).collect();
    Ok(format!("{} on {}", words.join(", "), to.name))
}

/// Which of these service addresses are on an adapter without a link although the other one of their network
/// on this node has one; and whether the node's own address is on that adapter too, so that the heartbeat fails
/// and a swap takes them along.
pub async fn adrift(
    context: &Context,
    defs: Vec<ResourceDef>,
) -> Result<Vec<(ResourceDef, bool)>, Failure> {
    let context = context.clone();
    apart(move || {
        let here = Here::look()?;
        let lost = |def: ResourceDef| {
            let service = ServiceAddress::of(&def)?;
            let (from, _) = service.better(&context, &here)?;
            let own = context.interfaces.get(&service.network);
            Some((def, own.is_some_and(|own| here.has(&from, *own))))
        };
        Ok(defs.into_iter().filter_map(lost).collect())
    })
    .await
}

/// Moves a service address that is [`adrift`] to the adapter that has a link, and tells neighbours. Says
/// what was done, if anything was.
pub async fn settle(context: &Context, def: &ResourceDef) -> Result<Option<Detail>, Failure> {
    let Some(service) = ServiceAddress::of(def) else { return Ok(None) };
    let (address, lease, within) = (service.address, context.lease.clone(), context.clone());
    let moved = apart(move || service.settle(&within, &mut Here::look()?)).await?;
    Ok(moved.map(|(from, to)| {
        tell(&to, address, lease);
        format!("on {}, because {} has no link", to.name, from.name)
    }))
}

/// Sees to it that the kernel passes over routes of a standby adapter that has no link: otherwise it goes on sending
/// into the dead one of two adapters of a network, whenever that one's route happens to be the first. Not those of the
/// adapter with the node's own address: that it is dead has to show. Each pair is own and standby address of a network.
///
/// # Errors
/// If the kernel does not say what devices there are.
pub async fn route_past_standbys(pairs: Vec<(IpAddr, IpAddr)>) -> Result<(), Failure> {
    apart(move || {
        let here = Here::look()?;
        for (own, standby) in pairs {
            for (address, pass_over) in [(own, false), (standby, true)] {
                if let Some(link) = here.holder(address) {
                    pass_over_dead_routes(&link.name, pass_over);
                }
            }
        }
        Ok(())
    })
    .await
}

fn pass_over_dead_routes(device: &str, pass_over: bool) {
    let wanted = if pass_over { "1" } else { "0" };
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{device}/ignore_routes_with_linkdown");
        let differs = std::fs::read_to_string(&path).is_ok_and(|value| value.trim() != wanted);
        if differs && let Err(error) = std::fs::write(&path, wanted) {
            tracing::debug!(%error, path, "routes over a dead adapter are as they were");
        }
    }
}

/// The adapter with the node's own address if that has no link, though the one with the standby address has one. The
/// kernel may answer for the address over the other one, so that beats come through and the interface counts as UP.
///
/// # Errors
/// If the kernel does not say what devices there are.
pub async fn own_without_link(own: IpAddr, standby: IpAddr) -> Result<Option<String>, Failure> {
    apart(move || {
        let here = Here::look()?;
        let runs = |address| here.holder(address).map(|link| (link.name.clone(), link.runs()));
        Ok(match (runs(own), runs(standby)) {
            (Some((name, false)), Some((_, true))) => Some(name),
            _ => None,
        })
    })
    .await
}

/// Why the adapter that has this address could not take over, if it could not.
pub async fn standby_fault(address: IpAddr) -> Result<Option<String>, Failure> {
    apart(move || {
        let here = Here::look()?;
        Ok(match here.holder(address) {
            None => Some(format!("no device has {address}")),
            Some(link) if !link.is_up() => Some(format!("{} is switched off", link.name)),
            Some(link) if !link.runs() => Some(format!("{} has no link", link.name)),
            Some(_) => None,
        })
    })
    .await
}

fn exchange(
    own: IpAddr,
    standby: IpAddr,
    services: Vec<IpAddr>,
) -> Result<(Vec<IpAddr>, Link), Failure> {
    let mut here = Here::look()?;
    let from = here.holder(own).cloned().ok_or_else(|| no_device(own))?;
    let to = here.holder(standby).cloned().ok_or_else(|| no_device(standby))?;
    refuse_useless(&from, &to)?;
    let moves = |a: &&Address| {
        a.device == from.index && (a.address == own || services.contains(&a.address))
    };
    let moving: Vec<Address> = here.addresses.iter().filter(moves).copied().collect();
    here.exchange(&from, &to, &moving, standby).map_err(|error| {
        let why = format!("{} could not be exchanged for {}: {error}", from.name, to.name);
        Failure::new(why, "Look at both with ip address show.")
    })?;
    Ok((moving.iter().map(|address| address.address).collect(), to))
}

fn refuse_useless(from: &Link, to: &Link) -> Result<(), Failure> {
    let refused = |why, advice: &str| Err(Failure::new(why, advice).reaching(Reach::Node));
    if from.index == to.index {
        let why = format!("the standby's address is on {} as well, so there is no other", to.name);
        return refused(why, "Put it on the standby adapter.");
    }
    if !to.carries() {
        let why = format!("the standby adapter {} has no link either", to.name);
        return refused(why, "Look after its cable and switch.");
    }
    Ok(())
}

impl Here {
    /// First everything is on the new device, then it goes off the old one, so that nothing is
    /// nowhere in between.
    pub(super) fn bring(
        &mut self,
        moving: &[Address],
        (from, to): (&Link, &Link),
    ) -> io::Result<()> {
        for address in moving {
            self.netlink.add_address(to.index, address.address, address.prefix)?;
            self.addresses.push(Address { device: to.index, ..*address });
        }
        moving.iter().try_for_each(|address| self.remove(from, address.address))
    }

    fn exchange(
        &mut self,
        from: &Link,
        to: &Link,
        moving: &[Address],
        standby: IpAddr,
    ) -> io::Result<()> {
        let routes = self.netlink.routes()?;
        self.bring(moving, (from, to))?;
        let prefix = self.prefix(to, standby).unwrap_or_default();
        self.remove(to, standby)?;
        self.netlink.add_address(from.index, standby, prefix)?;
        let through = routes.iter().filter(|route| route.device() == Some(from.index));
        let through: Vec<_> = through.cloned().collect();
        for route in &through {
            // The kernel may have removed it already.
            let _ = self.netlink.remove_route(route);
        }
        self.restore(through.iter().map(|route| route.through(to.index)).collect());
        Ok(())
    }
}
