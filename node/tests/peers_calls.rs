//! Calls between nodes over two networks: answers, refusals, cut networks, large messages.

mod peers_support;

use std::time::Duration;

use peers_support::*;
use vedette_core::observation::LinkView;
use vedette_node::peers::{CallError, kinds};

/// The peer is told who asks from the certificate, and its answer comes back.
#[tokio::test]
async fn a_call_is_answered() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let answer = here.call(N2, kinds::RAFT, b"hello".to_vec(), LONG).await;
    assert_eq!(answer, Ok(b"\x01hello".to_vec()));
}

/// A refusal of the peer reaches the caller with its code, reason and advice.
#[tokio::test]
async fn a_refusal_is_passed_on() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let refused = here.call(N2, kinds::PROPOSE, Vec::new(), LONG).await;
    let Err(CallError::Refused(refusal)) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!((refusal.code.as_str(), refusal.what.as_str()), ("no", "it was refused"));
    assert_eq!(refusal.advice, "Ask another.");
}

/// Many requests share a connection; each gets its own answer.
#[tokio::test]
async fn answers_find_their_requests() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let calls = (0..200u32).map(|number| {
        let here = here.clone();
        async move {
            let answer = here.call(N2, kinds::RAFT, number.to_be_bytes().to_vec(), LONG).await;
            assert_eq!(answer.expect("an answer")[1..], number.to_be_bytes());
        }
    });
    futures_util::future::join_all(calls).await;
}

/// A snapshot of many megabytes goes through in both directions.
#[tokio::test]
async fn large_messages_go_through() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let body: Vec<u8> = (0..20_000_000u32).map(|i| i as u8).collect();
    let answer = here.call(N2, kinds::RAFT, body.clone(), LONG).await.expect("an answer");
    assert!(answer[1..] == body, "the body was changed on its way");
}

/// A cut of the preferred network costs a call the hedge, not its time limit, and topology
/// need not have noticed.
#[tokio::test]
async fn a_cut_network_does_not_lose_a_call() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let wire = Wire::to(there.addresses[&NETA]).await;
    let addresses = [(NETA, wire.address), (NETB, there.addresses[&NETB])].into();
    let here = caller(cluster.tls(N1), &addresses);
    here.set_links(&[link(NETA, true, 100), link(NETB, true, 900)]);
    lane(&here, NETA, None).await;
    lane(&here, NETB, None).await;
    wire.cut();
    for _ in 0..20 {
        let answer = here.call(N2, kinds::RAFT, vec![7], Duration::from_secs(2)).await;
        assert_eq!(answer, Ok(vec![1, 7]));
    }
    // When topology has noticed, the lane is let go, and taken again when the link is back.
    here.set_links(&[link(NETA, false, 100), link(NETB, true, 900)]);
    lane(&here, NETA, Some("")).await;
    wire.mend();
    here.set_links(&[link(NETA, true, 100), link(NETB, true, 900)]);
    lane(&here, NETA, None).await;
}

/// F4: what is answered without delay goes another way as soon as the round trip says so, and not after a part of its
/// time limit.
#[tokio::test]
async fn f4_a_prompt_call_does_not_wait_for_its_time_limit() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let wire = Wire::to(there.addresses[&NETA]).await;
    let addresses = [(NETA, wire.address), (NETB, there.addresses[&NETB])].into();
    let here = caller(cluster.tls(N1), &addresses);
    here.set_links(&[link(NETA, true, 100), link(NETB, true, 900)]);
    lane(&here, NETA, None).await;
    lane(&here, NETB, None).await;
    wire.cut();
    let limit = Duration::from_secs(3_600);
    assert_eq!(here.call_promptly(N2, kinds::RAFT, vec![7], limit).await, Ok(vec![1, 7]));
    assert_eq!(trouble(&here, NETA), None, "it did not wait for the end of the connection");
}

/// F9: a network on which long frames are lost is left for another one, though its round trips are shorter.
#[tokio::test]
async fn f9_a_narrow_network_is_left_for_another() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let wire = Wire::to(there.addresses[&NETA]).await;
    let addresses = [(NETA, wire.address), (NETB, there.addresses[&NETB])].into();
    let here = caller(cluster.tls(N1), &addresses);
    let narrow = LinkView { narrow: true, ..link(NETA, true, 100) };
    here.set_links(&[narrow, link(NETB, true, 900)]);
    lane(&here, NETA, None).await;
    lane(&here, NETB, None).await;
    wire.cut();
    let limit = Duration::from_secs(3_600);
    assert_eq!(here.call(N2, kinds::RAFT, vec![7], limit).await, Ok(vec![1, 7]));
    assert_eq!(trouble(&here, NETA), None, "it never went the narrow way");
}

/// With all links known down a call does not wait, though a connection may still be open.
#[tokio::test]
async fn without_a_link_a_call_fails_at_once() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    lane(&here, NETA, None).await;
    here.set_links(&[link(NETA, false, 100), link(NETB, false, 100)]);
    let failed = here.call(N2, kinds::RAFT, Vec::new(), LONG).await.expect_err("no link");
    assert_eq!(
        failed.to_string(),
        "node 2 cannot be reached: all its links are down. See the links: vedette link list."
    );
    let stranger = here.call(vedette_core::id::NodeNumber(9), kinds::RAFT, Vec::new(), LONG).await;
    assert!(stranger.expect_err("no member").to_string().contains("it is no member"));
}

/// A peer that does not answer costs its caller the time limit and no more.
#[tokio::test]
async fn no_answer_is_a_timeout() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let ttl = Duration::from_millis(200);
    let failed = here.call(N2, kinds::STATE, Vec::new(), ttl).await;
    assert_eq!(failed, Err(CallError::Timeout { node: N2, ttl }));
}

/// A peer that was restarted is connected again by itself.
#[tokio::test]
async fn a_restarted_peer_is_found_again() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let addresses = there.addresses.clone();
    let here = caller(cluster.tls(N1), &addresses);
    lane(&here, NETA, None).await;
    drop(there);
    lane(&here, NETA, Some("")).await;
    lane(&here, NETB, Some("")).await;
    let failed = here.call(N2, kinds::RAFT, Vec::new(), LONG).await.expect_err("nobody there");
    assert!(matches!(failed, CallError::Unreachable { node: N2, .. }), "{failed}");
    let again = listen_at(&cluster, &addresses);
    lane(&here, NETA, None).await;
    assert_eq!(here.call(N2, kinds::RAFT, vec![7], LONG).await, Ok(vec![1, 7]));
    drop(again);
}

fn listen_at(
    cluster: &Cluster,
    addresses: &std::collections::BTreeMap<vedette_core::id::NetworkNumber, std::net::SocketAddr>,
) -> vedette_node::peers::Server {
    let roster = vedette_node::peers::Roster::default();
    roster.update(members(addresses));
    let addresses: Vec<_> = addresses.values().copied().collect();
    let service = std::sync::Arc::new(Echo);
    let limits = vedette_node::peers::Limits::default();
    vedette_node::peers::Server::start(&addresses, cluster.tls(N2), roster, service, limits)
        .expect("the ports are free again")
}

/// H34: an address that changes while everything runs. The old one is closed, the new one is opened
/// and called from the new own address; the other network is not disturbed.
#[tokio::test]
async fn addresses_change_while_running() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    lane(&here, NETA, None).await;
    lane(&here, NETB, None).await;
    let (old, kept) = (there.addresses[&NETA], there.addresses[&NETB]);
    let moved = std::net::SocketAddr::new("127.77.3.2".parse().expect("an address"), old.port());
    let errors = there.server.listen_on(&[moved, kept]);
    assert!(errors.is_empty(), "{errors:?}");
    lane(&here, NETA, Some("")).await;
    lane(&here, NETB, None).await;
    let mut all = members(&[(NETA, moved), (NETB, kept)].into());
    let own = all.get_mut(&N1).expect("a member").addresses.get_mut(&NETA).expect("an address");
    own.set_ip("127.77.3.1".parse().expect("an address"));
    there.peers.roster().update(all.clone());
    here.update(all);
    lane(&here, NETA, None).await;
    lane(&here, NETB, None).await;
    let opened = there.server.counters().connections.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(opened, 3, "one on each network, and one on the new address");
    here.set_links(&[link(NETA, true, 100), link(NETB, false, 100)]);
    assert_eq!(here.call(N2, kinds::RAFT, vec![7], LONG).await, Ok(vec![1, 7]));
}

/// A port that is taken is reported with the address and what to do.
#[tokio::test]
async fn a_taken_port_is_explained() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let taken = [there.addresses[&NETA]];
    let (roster, service) = (there.peers.roster(), std::sync::Arc::new(Echo));
    let limits = vedette_node::peers::Limits::default();
    let refused =
        vedette_node::peers::Server::start(&taken, cluster.tls(N2), roster, service, limits)
            .expect_err("it is taken")
            .to_string();
    assert!(refused.contains(&taken[0].to_string()) && refused.contains("ss -ltnp"), "{refused}");
}
