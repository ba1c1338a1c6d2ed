//! Service addresses in networks of the tests' own: `a0`–`a1` is the cable of the adapter in use,
//! `b0`–`b1` that of the standby adapter.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use vedette_core::group::{AddressMode, OnConflict, ResourceDef, ResourceKind};
use vedette_node::guard::client::LeaseWatch;
use vedette_node::netlink::Netlink;
use vedette_node::resource::address::{adrift, settle, swap};
use vedette_node::resource::announce::announced;
use vedette_node::resource::{Context, Health, Reach, Resource, resource};

use crate::support::{self, NETWORK, in_network, run, wait_for};

const OWN: &str = "192.0.2.1";
const STANDBY: &str = "198.51.100.1";
const SERVICE: &str = "192.0.2.10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cables() {
    for name in ["a", "b"] {
        run(&format!("ip link add {name}0 type veth peer name {name}1"));
        run(&format!("ip link set {name}0 up"));
        run(&format!("ip link set {name}1 up"));
    }
    run(&format!("ip address add {OWN}/24 dev a0"));
    run(&format!("ip address add {STANDBY}/24 dev b0"));
}

fn context() -> Context {
    let mut context = support::context(std::path::Path::new("/nonexistent"));
    context.interfaces.insert(NETWORK, ip(OWN));
    context.standbys.insert(NETWORK, ip(STANDBY));
    context
}

fn service(address: &str, prefix: u8, mode: AddressMode) -> Box<dyn Resource> {
    with_policy(address, prefix, mode, OnConflict::Fail)
}

fn with_policy(
    address: &str,
    prefix: u8,
    mode: AddressMode,
    on_conflict: OnConflict,
) -> Box<dyn Resource> {
    resource(&def(address, prefix, mode, on_conflict))
}

fn def(address: &str, prefix: u8, mode: AddressMode, on_conflict: OnConflict) -> ResourceDef {
    let kind =
        ResourceKind::Address { address: ip(address), prefix, network: NETWORK, mode, on_conflict };
    ResourceDef::new("address", kind)
}

fn alias(address: &str, prefix: u8) -> Box<dyn Resource> {
    service(address, prefix, AddressMode::Alias)
}

/// Devices that have an address.
fn devices(address: &str) -> Vec<String> {
    let mut netlink = Netlink::open().unwrap();
    let links = netlink.links().unwrap();
    let having = netlink.addresses().unwrap().into_iter().filter(|a| a.address == ip(address));
    let name = |index| links.iter().find(|link| link.index == index).unwrap().name.clone();
    having.map(|address| name(address.device)).collect()
}

fn routes() -> Vec<String> {
    run("ip route show").lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn h26_an_alias_comes_and_goes_and_may_be_asked_again() {
    in_network(|| async {
        cables();
        for (address, prefix) in [(SERVICE, 32), ("192.0.2.11", 24), ("2001:db8::10", 64)] {
            let (service, context) = (alias(address, prefix), context());
            assert_eq!(service.monitor(&context).await, Ok(Health::NotRunning));
            for _ in 0..2 {
                assert_eq!(service.start(&context).await, Ok("on a0".into()));
                assert_eq!(devices(address), ["a0"]);
                // At once, as nobody waits for the duplicate address detection of IPv6.
                assert_eq!(service.monitor(&context).await, Ok(Health::Running));
            }
            assert_eq!(service.stop(&context).await, Ok("removed from a0".into()));
            assert_eq!(service.stop(&context).await, Ok("was not here".into()));
            assert_eq!(devices(address), [""; 0]);
        }
        assert_eq!(devices(OWN), ["a0"]);
    });
}

#[test]
fn h26_swap_mode_uses_the_standby_adapter_where_there_is_one() {
    in_network(|| async {
        cables();
        let (service, mut context) = (service(SERVICE, 24, AddressMode::Swap), context());
        assert_eq!(service.start(&context).await, Ok("on b0".into()));
        assert_eq!(service.monitor(&context).await, Ok(Health::Running));
        assert!(service.verify(&context).await.is_empty());
        service.stop(&context).await.unwrap();
        context.standbys.clear();
        assert_eq!(service.start(&context).await, Ok("on a0".into()));
        let found = service.verify(&context).await;
        assert!(found[0].what.contains("no standby adapter") && !found[0].error, "{found:?}");
    });
}

/// Waits until a device has a link, or none.
async fn has_link(device: &str, wanted: bool) {
    wait_for(&format!("{device} with a link: {wanted}"), || {
        let links = Netlink::open().unwrap().links().unwrap();
        links.iter().any(|link| link.name == device && link.runs() == wanted).then_some(())
    })
    .await;
}

/// Findings R4: a standby adapter without a link is never chosen, nor the one that failed and is the standby
/// after a swap.
#[test]
fn r4_an_adapter_without_a_link_is_not_chosen() {
    in_network(|| async {
        cables();
        let (service, context) = (service(SERVICE, 24, AddressMode::Swap), context());
        run("ip link set b1 down");
        has_link("b0", false).await;
        assert_eq!(service.start(&context).await, Ok("on a0".into()));
        service.stop(&context).await.unwrap();
        let found = service.verify(&context).await;
        assert!(found[0].what.contains("b0 has no link") && !found[0].error, "{found:?}");
        run("ip link set b1 up");
        has_link("b0", true).await;
        swap(&context, NETWORK, Vec::new()).await.unwrap();
        run("ip link set a1 down");
        has_link("a0", false).await;
        assert_eq!(service.start(&context).await, Ok("on b0".into()), "the one in use now");
    });
}

/// Findings R4: an address leaves the adapter that has no link for the other one, in either mode and
/// whichever of the two has the node's own address; where no adapter has a link it stays.
#[test]
fn r4_an_address_leaves_an_adapter_without_a_link() {
    in_network(|| async {
        cables();
        let context = context();
        for mode in [AddressMode::Alias, AddressMode::Swap] {
            let service = service(SERVICE, 24, mode);
            let def = def(SERVICE, 24, mode, OnConflict::Fail);
            let lost = async || adrift(&context, vec![def.clone()]).await.unwrap();
            let placed = service.start(&context).await.unwrap();
            let (first, other) = if placed == "on a0" { ("a", "b") } else { ("b", "a") };
            assert!(lost().await.is_empty());
            run(&format!("ip link set {first}1 down"));
            has_link(&format!("{first}0"), false).await;
            assert_eq!(lost().await, [(def.clone(), first == "a")], "the own address is on a0");
            let said = settle(&context, &def).await.unwrap();
            assert_eq!(said, Some(format!("on {other}0, because {first}0 has no link")));
            assert_eq!(devices(SERVICE), [format!("{other}0")]);
            assert_eq!((devices(OWN), devices(STANDBY)), (vec!["a0".into()], vec!["b0".into()]));
            assert_eq!(settle(&context, &def).await.unwrap(), None, "it is where it should be");

            run(&format!("ip link set {other}1 down"));
            has_link(&format!("{other}0"), false).await;
            assert!(lost().await.is_empty(), "no place is better");
            run(&format!("ip link set {first}1 up"));
            has_link(&format!("{first}0"), true).await;
            assert_eq!(service.start(&context).await, Ok(format!("on {first}0")), "asked again");
            assert_eq!(devices(SERVICE), [format!("{first}0")]);
            service.stop(&context).await.unwrap();
            assert_eq!(settle(&context, &def).await.unwrap(), None, "what is off stays off");
            run(&format!("ip link set {other}1 up"));
            has_link(&format!("{other}0"), true).await;
        }
    });
}

/// Findings R4: after a restart of the machine, which finds the adapter of its own address without a link, an
/// address goes to the standby adapter; to that of its own only if neither has one, and says so.
#[test]
fn r4_a_dead_adapter_in_use_is_not_chosen() {
    in_network(|| async {
        cables();
        let (service, context) = (alias(SERVICE, 24), context());
        run("ip link set a1 down");
        has_link("a0", false).await;
        assert_eq!(service.start(&context).await, Ok("on b0".into()));
        service.stop(&context).await.unwrap();
        run("ip link set b1 down");
        has_link("b0", false).await;
        assert_eq!(service.start(&context).await, Ok("on a0, which has no link".into()));
    });
}

#[test]
fn h26_what_is_not_ours_is_refused() {
    in_network(|| async {
        cables();
        let mut context = context();
        run("ip link add c0 type veth peer name c1");
        run(&format!("ip address add {SERVICE}/32 dev c0"));
        let elsewhere = alias(SERVICE, 32).start(&context).await.unwrap_err();
        assert!(elsewhere.why.contains("on c0 already"), "{elsewhere}");
        assert_eq!(alias(SERVICE, 32).verify(&context).await.len(), 1);
        for own in [OWN, STANDBY] {
            let own = alias(own, 24);
            assert_eq!(own.start(&context).await.unwrap_err().reach, Reach::Cluster);
            assert!(own.stop(&context).await.is_err(), "it would take the node's own address");
        }
        context.others.push(ip("192.0.2.2"));
        assert!(alias("192.0.2.2", 24).start(&context).await.is_err());
        context.interfaces.insert(NETWORK, ip("192.0.2.99"));
        context.standbys.clear();
        let none = alias("192.0.2.12", 24).start(&context).await.unwrap_err();
        assert!(none.why.contains("192.0.2.99 is on none of its devices"), "{none}");
        assert_eq!(devices("192.0.2.12"), [""; 0]);
        assert_eq!(devices(OWN), ["a0"]);
    });
}

/// H26: the kernel takes the younger addresses of a subnet along with the oldest, and routes with
/// the address that they were made with.
#[test]
fn h26_addresses_and_routes_survive_a_removal() {
    in_network(|| async {
        run("ip link add a0 type veth peer name a1");
        run("ip link set a0 up");
        run("ip link set a1 up");
        let context = context();
        run(&format!("ip address add {SERVICE}/24 dev a0"));
        run(&format!("ip address add {OWN}/24 dev a0"));
        run("ip address add 192.0.2.20/24 dev a0");
        run("ip route add 203.0.113.0/24 via 192.0.2.254");
        run(&format!("ip route add default via 192.0.2.254 src {SERVICE}"));
        alias(SERVICE, 24).stop(&context).await.unwrap();
        assert_eq!(devices(SERVICE), [""; 0]);
        assert_eq!((devices(OWN), devices("192.0.2.20")), (vec!["a0".into()], vec!["a0".into()]));
        let routes = routes();
        assert!(routes.contains(&"203.0.113.0/24 via 192.0.2.254 dev a0".into()), "{routes:?}");
        assert!(routes.contains(&"default via 192.0.2.254 dev a0".into()), "{routes:?}");
    });
}

#[test]
fn h27_a_swap_moves_addresses_and_routes_and_back() {
    in_network(|| async {
        cables();
        let (context, service) = (context(), alias(SERVICE, 32));
        let six = alias("2001:db8::10", 64);
        service.start(&context).await.unwrap();
        six.start(&context).await.unwrap();
        run("ip route add 203.0.113.0/24 via 192.0.2.254");
        let services = vec![ip(SERVICE), ip("2001:db8::10"), ip("192.0.2.77")];
        for (new, old) in [("b", "a"), ("a", "b")] {
            let (new, old) = (format!("{new}0"), format!("{old}0"));
            let said = swap(&context, NETWORK, services.clone()).await.unwrap();
            assert!(said.ends_with(&format!(" on {new}")), "{said}");
            for address in [OWN, SERVICE, "2001:db8::10"] {
                assert_eq!(devices(address), [new.as_str()], "{address}");
            }
            assert_eq!(devices(STANDBY), [old]);
            let route = format!("203.0.113.0/24 via 192.0.2.254 dev {new}");
            assert!(routes().contains(&route), "{:?}", routes());
            assert_eq!(service.monitor(&context).await, Ok(Health::Running));
        }
        run("ip link set b1 down");
        has_link("b0", false).await;
        let useless = swap(&context, NETWORK, services).await.unwrap_err();
        assert!(useless.why.contains("b0 has no link either"), "{useless}");
        assert_eq!(devices(OWN), ["a0"]);
    });
}

/// Everything that arrives at the far end of a cable.
struct Ear(OwnedFd);

impl Ear {
    fn at(device: &str) -> Self {
        let index = nix::net::if_::if_nametoindex(device).unwrap();
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain system calls; the address is as long as is said.
        unsafe {
            let raw = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK,
                protocol.into(),
            );
            assert!(raw >= 0);
            let socket = OwnedFd::from_raw_fd(raw);
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            (at.sll_family, at.sll_protocol) = (libc::AF_PACKET as u16, protocol);
            at.sll_ifindex = index as i32;
            let size = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(raw, std::ptr::from_ref(&at).cast(), size), 0);
            Self(socket)
        }
    }

    /// The next frame that announces an address; whether it is ARP's request or reply, or neither.
    fn hear(&self, address: &str) -> Option<u8> {
        let mut buffer = [0_u8; 2_048];
        loop {
            let raw = self.0.as_raw_fd();
            // SAFETY: the buffer is as long as is said.
            let read = unsafe { libc::recv(raw, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let frame = &buffer[..usize::try_from(read).ok()?];
            if announced(frame).is_some_and(|(_, of)| of == ip(address)) {
                return Some(frame[21]);
            }
        }
    }
}

impl Ear {
    /// The next frame that fits.
    fn next<T>(&self, fits: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let mut buffer = [0_u8; 2_048];
        loop {
            let raw = self.0.as_raw_fd();
            // SAFETY: the buffer is as long as is said.
            let read = unsafe { libc::recv(raw, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if let Some(found) = fits(&buffer[..usize::try_from(read).ok()?]) {
                return Some(found);
            }
        }
    }

    /// An announcement of any address.
    fn hear_any(&self) -> Option<IpAddr> {
        self.next(|frame| announced(frame).map(|(_, address)| address))
    }

    /// An ARP probe for an address.
    fn hear_probe(&self, address: &str) -> Option<()> {
        let IpAddr::V4(wanted) = ip(address) else { panic!("ARP is for IPv4") };
        self.next(|frame| {
            let arp = frame.get(12..14)? == [8, 6] && frame.get(28..32)? == [0; 4];
            (arp && frame.get(38..42)? == wanted.octets()).then_some(())
        })
    }

    /// An ARP reply of that hardware address.
    fn hear_claim(&self, hardware: &str) -> Option<()> {
        let bytes = hardware.split(':').map(|part| u8::from_str_radix(part, 16).unwrap());
        let bytes: Vec<u8> = bytes.collect();
        self.next(|frame| {
            let reply = frame.get(12..14)? == [8, 6] && frame.get(20..22)? == [0, 2];
            (reply && frame.get(22..28)? == bytes).then_some(())
        })
    }
}

#[test]
fn h26_neighbours_are_told_at_once_again_and_when_asked() {
    in_network(|| async {
        cables();
        let (ear, context) = (Ear::at("a1"), context());
        let service = alias(SERVICE, 32);
        service.start(&context).await.unwrap();
        let first = [ear.hear(SERVICE), ear.hear(SERVICE)];
        assert_eq!(first, [Some(1), Some(2)], "request and reply, before start is over");
        for form in [1, 2, 1, 2, 1, 2, 1, 2] {
            assert_eq!(wait_for("a repetition", || ear.hear(SERVICE)).await, form);
        }
        let six = alias("2001:db8::10", 64);
        six.start(&context).await.unwrap();
        assert!(ear.hear("2001:db8::10").is_some());
        six.announce(&context).await;
        assert!(ear.hear("2001:db8::10").is_some());
    });
}

/// A foreign machine at the far end of the cable, in a network of its own that lives as long as this.
struct Foreign(std::process::Child);

const FOREIGN: &str = "02:00:00:00:00:09";

impl Foreign {
    fn moved_in() -> Self {
        let mut command = std::process::Command::new("unshare");
        let child =
            command.args(["--net", "sleep", "1000"]).spawn().expect("util-linux is installed");
        let foreign = Self(child);
        foreign.wait_for_its_network();
        run(&format!("ip link set a1 address {FOREIGN}"));
        run(&format!("ip link set a1 netns {}", foreign.0.id()));
        foreign.run("ip link set a1 up");
        foreign
    }

    fn wait_for_its_network(&self) {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let own = of("thread-self");
        let until = std::time::Instant::now() + support::LONG;
        while of(&self.0.id().to_string()) == own {
            assert!(std::time::Instant::now() < until, "it has no network of its own");
            std::thread::yield_now();
        }
    }

    fn run(&self, line: &str) -> String {
        run(&format!("nsenter --net=/proc/{}/ns/net {line}", self.0.id()))
    }

    fn has(&self, address: &str) {
        self.run(&format!("ip address add {address} dev a1 nodad"));
    }

    fn has_no_more(&self, address: &str) {
        self.run(&format!("ip address del {address} dev a1"));
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Findings R3, F11: RFC 5227 and RFC 4862 in short. Who answers is named; nothing is added.
#[test]
fn f11_an_address_that_another_machine_has_is_not_taken() {
    in_network(|| async {
        cables();
        let (foreign, context) = (Foreign::moved_in(), context());
        for address in [SERVICE, "2001:db8::10"] {
            let prefix = if address == SERVICE { 32 } else { 128 };
            foreign.has(&format!("{address}/{prefix}"));
            let refused = alias(address, prefix).start(&context).await.unwrap_err();
            let what = format!("{FOREIGN} on a0, which is no member, answers for {address}");
            assert_eq!((refused.why, refused.reach), (what, Reach::Attempt));
            assert_eq!(devices(address), [""; 0]);
            let found = context.probes.take_found(ip(address)).expect("who it was");
            assert_eq!((found.hardware.to_string().as_str(), &*found.device), (FOREIGN, "a0"));

            let take = with_policy(address, prefix, AddressMode::Alias, OnConflict::Take);
            let said = take.start(&context).await;
            assert_eq!(said, Ok(format!("on a0, taken from {FOREIGN}")));
            assert!(context.probes.take_found(ip(address)).is_some());
            take.stop(&context).await.unwrap();

            foreign.has_no_more(&format!("{address}/{prefix}"));
            assert_eq!(alias(address, prefix).start(&context).await, Ok("on a0".into()));
            assert_eq!(context.probes.take_found(ip(address)), None);
        }
    });
}

/// The old owner may answer while it is waited for, and what a member answers is no conflict at all.
#[test]
fn f11_who_answered_before_the_leave_or_is_a_member_is_no_conflict() {
    in_network(|| async {
        cables();
        let (foreign, mut context) = (Foreign::moved_in(), context());
        foreign.has(&format!("{SERVICE}/32"));
        let service = alias(SERVICE, 32);
        let ear = Ear::at("a0");
        service.prepare(&context).await;
        wait_for("an answer to a probe", || ear.hear_claim(FOREIGN)).await;
        foreign.has_no_more(&format!("{SERVICE}/32"));
        assert_eq!(service.start(&context).await, Ok("on a0".into()));
        service.stop(&context).await.unwrap();

        // A member whose own address the kernel knows, and which is frozen with everything that it had.
        foreign.has("192.0.2.2/24");
        foreign.has(&format!("{SERVICE}/32"));
        let member = ip("192.0.2.2");
        let beats = std::net::UdpSocket::bind((OWN, 0)).unwrap();
        beats.send_to(b"a beat", (member, 7771)).unwrap();
        wait_for("the member's hardware address", || {
            let known = Netlink::open().unwrap().neighbours().unwrap();
            known.iter().any(|it| it.address == member).then_some(())
        })
        .await;
        context.others.push(member);
        assert_eq!(service.start(&context).await, Ok("on a0".into()));
    });
}

/// A start that was prepared finds the answer ready: no probe is sent after it.
#[test]
fn f11_a_prepared_start_waits_for_nothing() {
    in_network(|| async {
        cables();
        let (ear, context, service) = (Ear::at("a1"), context(), alias(SERVICE, 32));
        service.prepare(&context).await;
        for _ in 0..4 {
            wait_for("a probe", || ear.hear_probe(SERVICE)).await;
        }
        service.prepare(&context).await;
        assert_eq!(service.start(&context).await, Ok("on a0".into()));
        assert_eq!(ear.hear_probe(SERVICE), None, "three rounds were over and silent");
    });
}

/// Findings F7: who has no lease announces nothing, whatever its devices have.
#[test]
fn f7_nothing_is_announced_without_a_lease() {
    in_network(|| async {
        cables();
        let (ear, mut context) = (Ear::at("a1"), context());
        context.lease = Some(LeaseWatch::default());
        for address in [SERVICE, "2001:db8::10"] {
            let service = alias(address, if address == SERVICE { 32 } else { 128 });
            service.start(&context).await.unwrap();
            service.announce(&context).await;
            assert_eq!(devices(address), ["a0"]);
        }
        context.lease = None;
        alias("192.0.2.11", 32).start(&context).await.unwrap();
        let first = wait_for("an announcement", || ear.hear_any()).await;
        assert_eq!(first, ip("192.0.2.11"), "none came before");
    });
}
