//! Who may talk: certificates, the roster, hello, and what strangers may do.

mod peers_support;

use std::sync::Arc;
use std::time::Duration;

use peers_support::*;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vedette_core::id::StorageId;
use vedette_core::refusal::Refusal;
use vedette_core::time::WallTime;
use vedette_node::peers::frame::{Assembly, LARGEST, Message, Outgoing, PIECE, send};
use vedette_node::peers::hello::Hello;
use vedette_node::peers::{Limits, kinds};
use vedette_node::pki::{self, Tls};

const HELLO: u16 = 0x1000;
const REFUSED: u16 = 0x1003;

/// Both sides of two clusters on one wire say what is wrong, and neither lets the other in.
#[tokio::test]
async fn a_foreign_authority_is_refused() {
    let (ours, theirs) = (Cluster::new(1), Cluster::new(1));
    let there = echo(&ours);
    let here = caller(theirs.tls(N1), &there.addresses);
    lane(&here, NETA, Some("its certificate is not from this cluster's authority")).await;
}

/// A client of a foreign authority that trusts ours is refused by the server, also if the foreign
/// authority has taken our authority's name.
#[tokio::test]
async fn a_client_of_a_foreign_authority_is_refused() {
    let ours = Cluster::named(1, "test");
    let there = echo(&ours);
    for theirs in [Cluster::named(1, "test"), Cluster::named(1, "other")] {
        // Keys of the other cluster, but our authority as the one to trust.
        let mut spy = theirs.member(N1);
        spy.ca_cert = ours.authority.cert_pem().into();
        let here = caller(Tls::new(&spy).expect("keys"), &there.addresses);
        lane(&here, NETA, Some("the peer does not know our authority")).await;
    }
}

/// A certificate that has run out is refused, and a renewed one is accepted.
#[tokio::test]
async fn an_expired_certificate_is_refused_until_renewed() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let three_years = Duration::from_secs(3 * 365 * 86_400).as_micros() as i64;
    let mut member = cluster.member_made(N1, WallTime(now().0 - three_years));
    assert!(pki::renewal_due(&member.node_cert, now()).expect("a certificate"));
    let tls = Tls::new(&member).expect("keys");
    let here = caller(tls.clone(), &there.addresses);
    lane(&here, NETA, Some("our certificate has expired or is not valid yet")).await;
    let own = tls.own();
    member.node_cert =
        cluster.authority.renew(own, "n1", &member.node_key, now()).expect("a certificate");
    assert!(!pki::renewal_due(&member.node_cert, now()).expect("a certificate"));
    tls.replace(&member).expect("keys");
    lane(&here, NETA, None).await;
}

/// A server with a certificate that has run out is not trusted either.
#[tokio::test]
async fn an_expired_server_is_refused() {
    let cluster = Cluster::new(1);
    let three_years = Duration::from_secs(3 * 365 * 86_400).as_micros() as i64;
    let expired = cluster.member_made(N2, WallTime(now().0 - three_years));
    let tls = Tls::new(&expired).expect("keys");
    let there = listen(tls, Arc::new(Echo), Limits::default());
    let here = caller(cluster.tls(N1), &there.addresses);
    lane(&here, NETA, Some("its certificate has expired")).await;
}

/// A certificate for another cluster is refused even if our own authority had signed it.
#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let other =
        Cluster { id: Cluster::new(2).id, authority: cluster.authority, key: cluster.key.clone() };
    let mut stream = connect(&other.tls(N1), &there, other_name(N2)).await;
    // It says that it is of our cluster; what counts is its certificate.
    let refused = greet(&mut stream, &Hello::ours(Cluster::new(1).id)).await;
    assert_eq!(refusal(&refused).code, "not_a_member");
    let mut stream = connect(&other.tls(N1), &there, other_name(N2)).await;
    let refused = refusal(&greet(&mut stream, &Hello::ours(other.id)).await);
    assert_eq!(refused.code, "other_cluster");
}

/// A6: a deleted node is refused although its certificate is valid; a connection that is open ends.
#[tokio::test]
async fn a_deleted_node_is_refused() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    assert_eq!(here.call(N2, kinds::RAFT, vec![7], LONG).await, Ok(vec![1, 7]));
    let mut members = members(&there.addresses);
    members.remove(&N1);
    there.peers.roster().update(members);
    lane(&here, NETA, Some("is not a member of this cluster (any more)")).await;
    lane(&here, NETB, Some("is not a member of this cluster (any more)")).await;
    assert!(here.call(N2, kinds::RAFT, vec![7], LONG).await.is_err());
}

/// F15: a deleted node learns from the members' refusal that it was, and that it was not once they
/// take it in again. A member that does not know what is now says nothing of the kind.
#[tokio::test]
async fn a_deleted_node_learns_of_it() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let mut deleted = here.deleted();
    lane(&here, NETA, None).await;
    let all = members(&there.addresses);
    let mut others = all.clone();
    others.remove(&N1);

    there.peers.roster().set_outdated(true);
    there.peers.roster().update(others);
    lane(&here, NETA, Some("may not know all members yet")).await;
    lane(&here, NETB, Some("may not know all members yet")).await;
    assert_eq!(*deleted.borrow(), None);

    there.peers.roster().set_outdated(false);
    let told = tokio::time::timeout(LONG, deleted.wait_for(Option::is_some)).await;
    let told = told.expect("in time").expect("the peers are there").expect("just seen");
    assert_eq!(told.by, N2);

    there.peers.roster().update(all);
    let taken_in = tokio::time::timeout(LONG, deleted.wait_for(Option::is_none)).await;
    taken_in.expect("in time").expect("the peers are there");
}

/// A7: the certificate of a deleted node is no good for its successor with the same number.
#[tokio::test]
async fn a_former_node_of_the_same_number_is_refused() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let mut members = members(&there.addresses);
    members.get_mut(&N1).expect("node 1").storage = StorageId([99; 16]);
    there.peers.roster().update(members);
    let here = caller(cluster.tls(N1), &there.addresses);
    lane(&here, NETA, Some("with storage 01010101010101010101010101010101 is not a member")).await;
}

/// A caller does not talk to a node that has the right number and the wrong storage.
#[tokio::test]
async fn a_server_with_other_storage_is_refused() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let here = caller(cluster.tls(N1), &there.addresses);
    let mut members = members(&there.addresses);
    members.get_mut(&N2).expect("node 2").storage = StorageId([99; 16]);
    here.update(members);
    lane(&here, NETA, Some("node 2 has storage 0202")).await;
}

/// A4: another release or protocol is refused, with both versions.
#[tokio::test]
async fn another_version_is_refused() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let ours = Hello::ours(cluster.id);
    for theirs in
        [Hello { version: "99.1.0".into(), ..ours.clone() }, Hello { protocol: 99, ..ours.clone() }]
    {
        let mut stream = connect(&cluster.tls(N1), &there, own_name(&cluster, N2)).await;
        let refused = refusal(&greet(&mut stream, &theirs).await);
        assert_eq!(refused.code, "version_mismatch");
        assert!(refused.what.contains("99") && refused.what.contains(&ours.version), "{refused}");
    }
}

/// Somebody without a certificate may only ask to join, and only in a few words.
#[tokio::test]
async fn a_stranger_may_only_ask_to_join() {
    let cluster = Cluster::new(1);
    let there = echo(&cluster);
    let mut stream = visit(&cluster, &there).await;
    assert_eq!(greet(&mut stream, &Hello::ours(cluster.id)).await.kind, HELLO);
    let mut answers = Assembly::new(LARGEST);
    send(&mut stream, &Outgoing::new(1, kinds::RAFT, vec![7])).await.expect("sent");
    let refused = refusal(&answers.read(&mut stream).await.expect("an answer"));
    assert_eq!(refused.code, "certificate_required");
    send(&mut stream, &Outgoing::new(2, kinds::JOIN, vec![7])).await.expect("sent");
    assert_eq!(answers.read(&mut stream).await.expect("an answer").body, [0, 7]);
    // Too long: the connection ends, whether or not all of it could be sent.
    let _ = send(&mut stream, &Outgoing::new(3, kinds::JOIN, vec![7; 4 * PIECE])).await;
    assert!(answers.read(&mut stream).await.is_err());
}

/// Who connects and says nothing is put out; who comes when all places are taken is, too.
#[tokio::test]
async fn silent_and_surplus_connections_are_closed() {
    let cluster = Cluster::new(1);
    let limits =
        Limits { handshake: Duration::from_millis(300), strangers: 1, ..Limits::default() };
    let there = listen(cluster.tls(N2), Arc::new(Echo), limits);
    let mut silent = TcpStream::connect(there.addresses[&NETA]).await.expect("a connection");
    let mut surplus = TcpStream::connect(there.addresses[&NETA]).await.expect("a connection");
    for stream in [&mut surplus, &mut silent] {
        let read = tokio::time::timeout(LONG, stream.read(&mut [0; 1])).await.expect("closed");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    let counters = there.server.counters();
    let count =
        |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    until("one turned away", || count(&counters.turned_away), |seen| *seen == 1).await;
    assert_eq!((count(&counters.connections), count(&counters.too_many)), (2, 1));
}

/// V14: keys that belong to another identity are refused at the start, not at the first call.
#[tokio::test]
async fn keys_of_another_node_are_refused() {
    let cluster = Cluster::new(1);
    let mut mixed = cluster.member(N1);
    mixed.node_cert = cluster.member(N2).node_cert;
    let refused = Tls::new(&mixed).expect_err("not its certificate").to_string();
    assert!(refused.contains("it is for node 2"), "{refused}");
    let mut mixed = cluster.member(N1);
    mixed.node_key = cluster.member(N1).node_key;
    assert!(Tls::new(&mixed).expect_err("not its key").to_string().contains("key of this node"));
}

fn own_name(
    cluster: &Cluster,
    number: vedette_core::id::NodeNumber,
) -> rustls_pki_types::ServerName<'static> {
    pki::server_name(cluster.id, number).expect("a name")
}

fn other_name(number: vedette_core::id::NodeNumber) -> rustls_pki_types::ServerName<'static> {
    own_name(&Cluster::new(1), number)
}

async fn connect(
    tls: &Tls,
    there: &Listening,
    name: rustls_pki_types::ServerName<'static>,
) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(there.addresses[&NETA]).await.expect("a connection");
    TlsConnector::from(tls.client()).connect(name, tcp).await.expect("TLS")
}

/// A connection without a certificate.
async fn visit(cluster: &Cluster, there: &Listening) -> TlsStream<TcpStream> {
    let config = pki::joining_client(cluster.authority.fingerprint()).expect("a client");
    let tcp = TcpStream::connect(there.addresses[&NETA]).await.expect("a connection");
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(own_name(cluster, N2), tcp).await.expect("TLS")
}

async fn greet(stream: &mut TlsStream<TcpStream>, hello: &Hello) -> Message {
    let body = serde_json::to_vec(hello).expect("JSON");
    send(stream, &Outgoing::new(0, HELLO, body)).await.expect("sent");
    Assembly::new(LARGEST).read(stream).await.expect("an answer")
}

fn refusal(message: &Message) -> Refusal {
    assert_eq!(message.kind, REFUSED, "not refused: {message:?}");
    serde_json::from_slice(&message.body).expect("a refusal")
}
