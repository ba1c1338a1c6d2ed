//! Service addresses (spec H26, H27): brought to a device of this node and taken off it.
//!
//! The device is found, not configured: it is the one that has the node's own address on the
//! network, or, for [`AddressMode::Swap`], the standby adapter's. So a node answers on its own address all
//! the time, and a returning node cannot clash with whoever has the service now. An adapter without a link
//! is passed over for the other one of the network, and left for it when its link goes ([`settle`]).
//!
//! Invariants:
//!
//! - An address that some other device has, or that is a node's own, is never touched.
//! - What the kernel takes along when an address goes (the other addresses of its subnet, routes)
//!   is put back.
//! - An address that comes here is asked for before ([`super::duplicate`]): while it is waited for, so that
//!   a start finds the answer ready.
//! - Starting waits for nobody else: neighbours are told at once and again in the background
//!   ([`super::announce`]).

use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use vedette_core::document::Finding;
use vedette_core::group::{AddressMode, OnConflict, ResourceDef, ResourceKind};
use vedette_core::id::NetworkNumber;

use super::duplicate::Conflict;
use super::{Context, Detail, Failure, Health, Reach, Resource, announce, error, warning};
use crate::guard::client::LeaseWatch;
use crate::netlink::{Link, Netlink, Route};

mod swap;

pub use swap::{adrift, own_without_link, route_past_standbys, settle, standby_fault, swap};

/// A service address.
#[derive(Clone, Debug)]
pub struct ServiceAddress {
    name: String,
    address: IpAddr,
    prefix: u8,
    network: NetworkNumber,
    mode: AddressMode,
    on_conflict: OnConflict,
}

impl ServiceAddress {
    /// The resource of that name.
    pub fn new(
        name: String,
        (address, prefix, network): (IpAddr, u8, NetworkNumber),
        mode: AddressMode,
        on_conflict: OnConflict,
    ) -> Self {
        Self { name, address, prefix, network, mode, on_conflict }
    }

    /// The resource of a definition, if that is of an address.
    fn of(def: &ResourceDef) -> Option<Self> {
        match def.kind {
            ResourceKind::Address { address, prefix, network, mode, on_conflict } => {
                let place = (address, prefix, network);
                Some(Self::new(def.name.clone(), place, mode, on_conflict))
            }
            _ => None,
        }
    }

    /// The device to which it will be brought; none if it is here already, or cannot be.
    fn awaited(&self, context: &Context) -> Option<Link> {
        let here = Here::look().ok()?;
        let free = here.holder(self.address).is_none() && self.refuse_own(context).is_ok();
        free.then(|| self.target(context, &here).ok())?
    }

    /// Waits for the answer whether another machine has it, and does what is configured for that.
    async fn ask(&self, context: &Context) -> Result<Option<Conflict>, Failure> {
        let (job, within) = (self.clone(), context.clone());
        let Some(link) = apart(move || Ok(job.awaited(&within))).await? else { return Ok(None) };
        let conflict = context.probes.answer(&link, self.address, &context.others).await;
        match conflict {
            Some(conflict) if self.on_conflict == OnConflict::Fail => {
                Err(self.taken(&context.group, &conflict))
            }
            conflict => Ok(conflict),
        }
    }

    fn taken(&self, group: &str, conflict: &Conflict) -> Failure {
        let Conflict { hardware, device } = conflict;
        let why =
            format!("{hardware} on {device}, which is no member, answers for {}", self.address);
        let advice = format!(
            "Take the address off that machine or give {} another one, then: vedette group clear {group}; \
             on_conflict = \"take\" takes it all the same.",
            self.name
        );
        Failure::new(why, advice)
    }

    /// Brings it here. Returns the device.
    fn bring(&self, context: &Context) -> Result<Link, Failure> {
        self.refuse_own(context)?;
        let mut here = Here::look()?;
        let target = self.target(context, &here)?;
        match here.holder(self.address) {
            Some(link) if self.belongs(context, &here, link) => {
                let link = link.clone();
                Ok(self.settle(context, &mut here)?.map_or(link, |(_, to)| to))
            }
            Some(link) => Err(self.elsewhere(link)),
            None => {
                here.netlink
                    .add_address(target.index, self.address, self.prefix)
                    .map_err(|why| self.refused("could not be added to", &target, &why))?;
                Ok(target)
            }
        }
    }

    /// Takes it off whichever device has it. Returns the device's name if one had.
    fn take_off(&self, context: &Context) -> Result<Option<String>, Failure> {
        self.refuse_own(context)?;
        let mut here = Here::look()?;
        let mut from = None;
        while let Some(link) = here.holder(self.address).cloned() {
            here.remove(&link, self.address)
                .map_err(|why| self.refused("could not be removed from", &link, &why))?;
            from = Some(link.name);
        }
        Ok(from)
    }

    fn look(&self, context: &Context) -> Result<Health, Failure> {
        let here = Here::look()?;
        let Some(link) = here.holder(self.address) else { return Ok(Health::NotRunning) };
        let at = (link.index, self.address);
        let usable = here.addresses.iter().any(|a| (a.device, a.address) == at && a.is_usable());
        let advice = |what: &str| format!("{what}; the network's state says more.");
        if !self.belongs(context, &here, link) {
            Err(self.elsewhere(link))
        } else if !link.is_up() {
            let why = format!("{} has {}, but is switched off", link.name, self.address);
            Err(Failure::new(why, advice(&format!("Switch it on (ip link set {} up)", link.name))))
        } else if !usable {
            let why = format!("{} on {} may not be used", self.address, link.name);
            Err(Failure::new(why, advice("Somebody else on the network has it")))
        } else {
            Ok(Health::Running)
        }
    }

    /// Where it goes: an adapter without a link is no place for it as long as the network's other one here has
    /// a link. If none has, it is kept ready on the one in use: no place is better.
    fn target(&self, context: &Context, here: &Here) -> Result<Link, Failure> {
        let Some(own) = context.interfaces.get(&self.network) else {
            let why = format!("this node has no address on network {}", self.network);
            let advice = "Give it one, or take the node off the group's list.";
            return Err(Failure::new(why, advice).reaching(Reach::Node));
        };
        let (in_use, standby) = (here.holder(*own), self.standby(context, here));
        let preferred = match self.mode {
            AddressMode::Swap => [standby, in_use],
            AddressMode::Alias => [in_use, standby],
        };
        if let Some(link) = preferred.into_iter().flatten().find(|link| link.carries()) {
            return Ok(link.clone());
        }
        let link = in_use.ok_or_else(|| no_device(*own))?;
        if !link.is_up() {
            let why = format!("{} is switched off", link.name);
            let advice = format!("Switch it on (ip link set {} up).", link.name);
            return Err(Failure::new(why, advice).reaching(Reach::Node));
        }
        Ok(link.clone())
    }

    fn standby<'a>(&self, context: &Context, here: &'a Here) -> Option<&'a Link> {
        here.holder(*context.standbys.get(&self.network)?)
    }

    /// The device to which it is to go from the one that has it, because that one has no link.
    fn better(&self, context: &Context, here: &Here) -> Option<(Link, Link)> {
        let from = here.holder(self.address).filter(|link| !link.carries())?;
        let to = self.target(context, here).ok().filter(Link::carries)?;
        (self.belongs(context, here, from) && from.index != to.index).then(|| (from.clone(), to))
    }

    /// Moves it off an adapter without a link, if the other one has one.
    fn settle(&self, context: &Context, here: &mut Here) -> Result<Option<(Link, Link)>, Failure> {
        let Some((from, to)) = self.better(context, here) else { return Ok(None) };
        let moving = [crate::netlink::Address::new(from.index, self.address, self.prefix)];
        here.bring(&moving, (&from, &to)).map_err(|why| {
            self.refused(&format!("could not be moved from {} to", from.name), &to, &why)
        })?;
        Ok(Some((from, to)))
    }

    /// Whether a device is one of those on which it may be.
    fn belongs(&self, context: &Context, here: &Here, link: &Link) -> bool {
        let of = |addresses: &std::collections::BTreeMap<NetworkNumber, IpAddr>| {
            addresses.get(&self.network).is_some_and(|address| here.has(link, *address))
        };
        of(&context.interfaces) || of(&context.standbys)
    }

    fn refuse_own(&self, context: &Context) -> Result<(), Failure> {
        let mut own = context.interfaces.values().chain(context.standbys.values());
        if own.any(|address| *address == self.address) || context.others.contains(&self.address) {
            let why = format!("{} is a node's own address", self.address);
            let advice = "Choose another service address: a node keeps its own at all times.";
            return Err(Failure::new(why, advice).reaching(Reach::Cluster));
        }
        Ok(())
    }

    fn elsewhere(&self, link: &Link) -> Failure {
        let why = format!(
            "{} is on {} already, which is not this node's device on network {}",
            self.address, link.name, self.network
        );
        let advice = format!(
            "Find out who put it there, and remove it (ip address del {}/{} dev {}).",
            self.address, self.prefix, link.name
        );
        Failure::new(why, advice).reaching(Reach::Node)
    }

    fn refused(&self, what: &str, link: &Link, why: &io::Error) -> Failure {
        let (address, prefix) = (self.address, self.prefix);
        let advice = match why.raw_os_error() {
            Some(libc::EPERM) => "The agent needs the capability CAP_NET_ADMIN.",
            Some(libc::EACCES) => {
                "IPv6 may be switched off (sysctl net.ipv6.conf.all.disable_ipv6)."
            }
            _ => "Look at the device with ip address show.",
        };
        Failure::new(format!("{address}/{prefix} {what} {}: {why}", link.name), advice)
    }

    fn findings(&self, context: &Context) -> Vec<Finding> {
        let here = match Here::look() {
            Ok(here) => here,
            Err(failure) => return vec![error(&self.name, failure.why, failure.advice)],
        };
        let own = match context.interfaces.get(&self.network) {
            Some(own) if here.holder(*own).is_none() => Err(no_device(*own)),
            _ => self.target(context, &here).map(drop),
        };
        let mut found: Vec<_> = [self.refuse_own(context), own]
            .into_iter()
            .filter_map(Result::err)
            .map(|failure| error(&self.name, failure.why, failure.advice))
            .collect();
        if let Some(link) = here.holder(self.address)
            && !self.belongs(context, &here, link)
        {
            let failure = self.elsewhere(link);
            found.push(error(&self.name, failure.why, failure.advice));
        }
        found.extend(self.family_differs(context));
        found.extend(self.standby_missing(context, &here));
        found
    }

    fn family_differs(&self, context: &Context) -> Option<Finding> {
        let own = context.interfaces.get(&self.network)?;
        (own.is_ipv4() != self.address.is_ipv4()).then(|| {
            let what =
                format!("{} and this node's own {own} are of different families", self.address);
            warning(&self.name, what, "Clients reach only the one that they speak.")
        })
    }

    fn standby_missing(&self, context: &Context, here: &Here) -> Option<Finding> {
        let standby = context.standbys.get(&self.network);
        if self.mode != AddressMode::Swap {
            return None;
        }
        let what = match standby.and_then(|address| here.holder(*address)) {
            None => format!("there is no standby adapter here on network {}", self.network),
            Some(link) if !link.carries() => {
                format!("the standby adapter {} has no link", link.name)
            }
            Some(_) => return None,
        };
        Some(warning(&self.name, what, "The address will be an alias of the adapter in use."))
    }
}

impl Resource for ServiceAddress {
    fn prepare<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, ()> {
        let (job, within) = (self.clone(), context.clone());
        Box::pin(async move {
            if context.probes.is_asked(job.address) {
                return;
            }
            if let Ok(Some(link)) = apart(move || Ok(job.awaited(&within))).await {
                context.probes.begin(&link, self.address, &context.others);
            }
        })
    }

    fn start<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        let (job, context) = (self.clone(), context.clone());
        Box::pin(async move {
            let (address, lease) = (job.address, context.lease.clone());
            let conflict = job.ask(&context).await?;
            let link = apart(move || job.bring(&context)).await?;
            tell(&link, address, lease);
            let place = if link.carries() { "" } else { ", which has no link" };
            Ok(match conflict {
                None => format!("on {}{place}", link.name),
                Some(it) => format!("on {}{place}, taken from {}", link.name, it.hardware),
            })
        })
    }

    fn stop<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        let (job, context) = (self.clone(), context.clone());
        Box::pin(async move {
            let from = apart(move || job.take_off(&context)).await?;
            Ok(from.map_or_else(|| "was not here".into(), |name| format!("removed from {name}")))
        })
    }

    fn monitor<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Health, Failure>> {
        let (job, context) = (self.clone(), context.clone());
        Box::pin(apart(move || job.look(&context)))
    }

    fn verify<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Vec<Finding>> {
        let (job, context) = (self.clone(), context.clone());
        Box::pin(async move { apart(move || Ok(job.findings(&context))).await.unwrap_or_default() })
    }

    fn announce<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, ()> {
        let (address, lease) = (self.address, context.lease.clone());
        Box::pin(async move {
            let holder = apart(move || Ok(Here::look()?.holder(address).cloned())).await;
            if let Ok(Some(link)) = holder {
                tell(&link, address, lease);
            }
        })
    }
}

/// Whether a device of this node has an address, be it one on which nobody would bring it.
pub(super) fn is_here(address: IpAddr) -> bool {
    let all = Netlink::open().and_then(|mut kernel| kernel.addresses());
    all.is_ok_and(|all| all.iter().any(|there| there.address == address && there.is_usable()))
}

/// Another machine that answers for an address which this node has.
pub async fn answered_besides(context: &Context, address: IpAddr) -> Option<Conflict> {
    let link = apart(move || Ok(Here::look()?.holder(address).cloned())).await.ok()??;
    let conflict = context.probes.answer(&link, address, &context.others).await;
    context.probes.take_found(address);
    conflict
}

/// At once, and again in the background.
fn tell(link: &Link, address: IpAddr, lease: Option<LeaseWatch>) {
    if let Err(error) = announce::once(link, address, lease.as_ref()) {
        tracing::warn!(%address, device = link.name, %error, "neighbours could not be told");
    }
    announce::repeatedly(link.clone(), address, lease);
}

/// The kernel may take its time while others change the same tables.
async fn apart<T, F>(job: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    let ended = tokio::task::spawn_blocking(job).await;
    ended.unwrap_or_else(|error| Err(Failure::new(error.to_string(), "Try again.")))
}

fn no_device(own: IpAddr) -> Failure {
    let why = format!("this node's own address {own} is on none of its devices");
    let advice = format!("Give it to an interface (ip address add {own}/… dev …).");
    Failure::new(why, advice).reaching(Reach::Node)
}

/// One change at a time: what is put back of what the kernel took along is only right as long as nobody else
/// takes it off meanwhile.
static TURN: Mutex<()> = Mutex::new(());

/// Devices and addresses as they are, and stay as far as this process is concerned.
struct Here {
    _turn: MutexGuard<'static, ()>,
    netlink: Netlink,
    links: Vec<Link>,
    addresses: Vec<crate::netlink::Address>,
}

impl Here {
    fn look() -> Result<Self, Failure> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let look = move || {
            let mut netlink = Netlink::open()?;
            let links = netlink.links()?;
            let addresses = netlink.addresses()?;
            Ok(Self { _turn: turn, netlink, links, addresses })
        };
        look().map_err(|error: io::Error| {
            let why = format!("the kernel does not tell addresses and devices: {error}");
            Failure::new(why, "Try again.")
        })
    }

    /// The device that has an address.
    fn holder(&self, address: IpAddr) -> Option<&Link> {
        let found = self.addresses.iter().find(|there| there.address == address)?;
        self.links.iter().find(|link| link.index == found.device)
    }

    fn has(&self, link: &Link, address: IpAddr) -> bool {
        self.addresses.iter().any(|a| (a.device, a.address) == (link.index, address))
    }

    fn prefix(&self, link: &Link, address: IpAddr) -> Option<u8> {
        let at = (link.index, address);
        self.addresses.iter().find(|a| (a.device, a.address) == at).map(|a| a.prefix)
    }

    /// Removes an address from a device and puts back what else went with it.
    fn remove(&mut self, link: &Link, address: IpAddr) -> io::Result<()> {
        let routes = self.netlink.routes()?;
        let prefix = self.prefix(link, address).unwrap_or_default();
        self.netlink.remove_address(link.index, address, prefix)?;
        let at = (link.index, address, prefix);
        self.addresses.retain(|a| (a.device, a.address, a.prefix) != at);
        self.put_back(&routes)
    }

    /// Puts back the addresses that should be there, and those of the routes that are gone.
    fn put_back(&mut self, routes: &[Route]) -> io::Result<()> {
        let there = self.netlink.addresses()?;
        let same = |a: &crate::netlink::Address| (a.device, a.address);
        for address in &self.addresses {
            if !there.iter().any(|now| same(now) == same(address)) {
                self.netlink.add_address(address.device, address.address, address.prefix)?;
            }
        }
        let now = self.netlink.routes()?;
        let gone = routes.iter().filter(|route| !now.contains(route)).cloned().collect();
        self.restore(gone);
        Ok(())
    }

    /// Puts routes back, those to neighbours first. One that cannot be is not worth giving up for.
    fn restore(&mut self, mut routes: Vec<Route>) {
        routes.sort_by_key(Route::has_gateway);
        for route in routes {
            let source = route.source().filter(|source| self.holder(*source).is_none());
            let route = if source.is_some() { route.without_source() } else { route };
            if let Err(error) = self.netlink.add_route(&route) {
                tracing::warn!(?route, %error, "a route was lost with an address");
            }
        }
    }
}
