//! A master agent that is not one: what it sends is truncated, absurd or random. Nothing of it
//! makes the session panic or hang; the next sensible request is answered, on the same connection
//! or on the next.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use common::fixture::World;
use common::until;
use proptest::collection::vec;
use proptest::prelude::*;
use vedette_core::id::NodeNumber;
use vedette_core::model::HostStatus;
use vedette_core::time::{Instant, WallTime};
use vedette_mib::answer::Answers;
use vedette_mib::codec::decode;
use vedette_mib::oid::{Oid, ROOT};
use vedette_mib::pdu::{Body, Pdu, SearchRange, VarBind, error};
use vedette_mib::session::{Clock, Event, Session, SessionError};
use vedette_mib::value::Value;
use vedette_mib::{FileCursor, Master, Subagent, SubagentConfig};

/// A clock that stands where it was put.
struct Stopped(Instant);

impl Clock for Stopped {
    fn now(&self) -> Instant {
        self.0
    }

    fn wall(&self) -> WallTime {
        WallTime(1_709_300_000_000_000)
    }
}

const SESSION: u32 = 42;

/// What a master sends.
fn pdu(session: u32, packet: u32, network_order: bool, body: Body) -> Vec<u8> {
    let mut octets = Vec::new();
    Pdu { network_order, session, transaction: 5, packet, context: None, body }.encode(&mut octets);
    octets
}

fn fine() -> Body {
    Body::Response { uptime: 100, error: 0, index: 0, varbinds: Vec::new() }
}

/// The PDUs that wait to be sent.
fn sent(session: &mut Session) -> Vec<Pdu> {
    let octets = session.unsent().to_vec();
    session.wrote(octets.len());
    let mut rest = octets.as_slice();
    let mut pdus = Vec::new();
    while let Some((pdu, length)) = decode(rest).expect("what we send can be read") {
        pdus.push(pdu);
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    pdus
}

/// A registered session and what answers in it.
fn registered(world: World) -> (Session, Answers) {
    let clock = Stopped(Instant::from_millis(0));
    let mut answers = Answers::new(Arc::new(world));
    let mut session = Session::open(clock.now(), "test");
    for _ in 0..2 {
        let asked = sent(&mut session).remove(0);
        let answer = pdu(SESSION, asked.packet, true, fine());
        session.receive(&answer, &clock, &mut answers).expect("a good answer");
    }
    assert!(session.is_up(clock.now()));
    (session, answers)
}

/// Sends one request and reads the response.
fn ask(session: &mut Session, answers: &mut Answers, body: Body) -> Body {
    let request = pdu(SESSION, 77, false, body);
    let clock = Stopped(Instant::from_millis(10));
    session.receive(&request, &clock, answers).expect("the session goes on");
    let response = sent(session).remove(0);
    assert_eq!((response.packet, response.transaction, response.session), (77, 5, SESSION));
    assert!(!response.network_order, "the byte order of the request");
    response.body
}

fn range(suffix: &[u32], include: bool) -> SearchRange {
    SearchRange { start: Oid::in_module(suffix), include, end: Oid::null() }
}

fn varbinds(body: Body) -> Vec<VarBind> {
    match body {
        Body::Response { error: 0, varbinds, .. } => varbinds,
        other => panic!("no good response: {other:?}"),
    }
}

/// RFC 2741, 7.2.3.1: no such object, no such instance.
#[test]
fn get_tells_a_missing_object_from_a_missing_instance() {
    let (mut session, mut answers) = registered(World::three_nodes());
    let names: [&[u32]; 6] =
        [&[1, 10, 1, 3, 3], &[1, 10, 1, 3, 9], &[1, 10, 1, 3], &[1, 10, 1, 1, 1], &[7], &[]];
    let ranges = names.iter().map(|name| range(name, false)).collect();
    let found = varbinds(ask(&mut session, &mut answers, Body::Get(ranges)));
    let values: Vec<Value> = found.iter().map(|varbind| varbind.value.clone()).collect();
    use Value::{Integer, NoSuchInstance, NoSuchObject};
    let expected =
        [Integer(3), NoSuchInstance, NoSuchInstance, NoSuchObject, NoSuchObject, NoSuchObject];
    assert_eq!(values, expected);
}

/// RFC 2741, 7.2.3.2: include, end, and the name that comes back at the end.
#[test]
fn get_next_keeps_to_its_range() {
    let (mut session, mut answers) = registered(World::three_nodes());
    let name = |suffix: &[u32]| Oid::in_module(suffix);
    let mut bounded = range(&[1, 10, 1, 2, 3], false);
    bounded.end = name(&[1, 10, 1, 3]);
    let before = SearchRange {
        start: Oid::new([1, 3, 6]).expect("short"),
        include: false,
        end: Oid::null(),
    };
    let behind = SearchRange { start: Oid::new([1, 4]).expect("short"), ..before.clone() };
    let ranges = vec![
        range(&[1, 10, 1, 2, 2], true),
        range(&[1, 10, 1, 2, 2], false),
        bounded,
        before,
        behind.clone(),
    ];
    let found = varbinds(ask(&mut session, &mut answers, Body::GetNext(ranges)));
    assert_eq!(found[0].name, name(&[1, 10, 1, 2, 2]));
    assert_eq!(found[1].name, name(&[1, 10, 1, 2, 3]));
    assert_eq!(found[2], VarBind::new(name(&[1, 10, 1, 2, 3]), Value::EndOfMibView));
    assert_eq!(found[3].name, name(&[1, 1, 1, 0]));
    assert_eq!(found[4], VarBind::new(behind.start, Value::EndOfMibView));
}

/// RFC 2741, 7.2.3.3: GetBulk, with an absurd number of repetitions too.
#[test]
fn get_bulk_is_answered() {
    let (mut session, mut answers) = registered(World::three_nodes());
    let bulk = |max_repetitions| Body::GetBulk {
        non_repeaters: 1,
        max_repetitions,
        ranges: vec![
            range(&[1, 1], false),
            range(&[1, 10, 1, 2], false),
            range(&[1, 10, 1, 3], false),
        ],
    };
    let found = varbinds(ask(&mut session, &mut answers, bulk(2)));
    let names: Vec<String> = found.iter().map(|varbind| varbind.name.to_string()).collect();
    let root = Oid::new(ROOT).expect("short");
    let expected = ["1.1.1.0", "1.10.1.2.1", "1.10.1.3.1", "1.10.1.2.2", "1.10.1.3.2"];
    assert_eq!(names, expected.map(|suffix| format!("{root}.{suffix}")));
    assert!(varbinds(ask(&mut session, &mut answers, bulk(u16::MAX))).len() > 100);
    assert_eq!(varbinds(ask(&mut session, &mut answers, bulk(0))).len(), 1);
}

/// More than fits into one PDU is refused, and not sent: net-snmp would close the connection.
#[test]
fn a_response_is_never_too_long() {
    let (mut session, mut answers) = registered(World::three_nodes());
    let ranges = vec![range(&[1, 10, 1, 6, 3], true); 1_000];
    let answer = ask(&mut session, &mut answers, Body::Get(ranges));
    let Body::Response { error: 5, index, varbinds, .. } = answer else { panic!("{answer:?}") };
    assert!(index > 1 && varbinds.is_empty());
}

#[test]
fn what_a_subagent_cannot_do_is_refused() {
    let (mut session, mut answers) = registered(World::three_nodes());
    let mut error_of = |body| match ask(&mut session, &mut answers, body) {
        Body::Response { error, index, .. } => (error, index),
        other => panic!("{other:?}"),
    };
    let set = VarBind::new(Oid::in_module(&[1, 1, 3, 0]), Value::Null);
    assert_eq!(error_of(Body::TestSet(vec![set])), (error::NOT_WRITABLE, 1));
    assert_eq!(error_of(Body::CommitSet), (error::COMMIT_FAILED, 0));
    assert_eq!(error_of(Body::UndoSet), (error::UNDO_FAILED, 0));
    assert_eq!(error_of(Body::Ping), (0, 0));
    assert_eq!(error_of(Body::IndexDeallocate(Vec::new())), (error::PROCESSING_ERROR, 0));
}

/// A walk goes on in the snapshot it began with: a node that is deleted in its midst does not
/// vanish from it; a single Get knows at once.
#[test]
fn rows_do_not_vanish_within_a_walk() {
    let world = Arc::new(World::three_nodes());
    let source: Arc<World> = Arc::clone(&world);
    let mut answers = Answers::new(source);
    let at = Instant::from_millis;
    let mut step = |now, start: &Oid| {
        let range = SearchRange { start: start.clone(), include: false, end: Oid::null() };
        let latest = answers.latest(now, || now);
        answers.next(&latest, now, &range).expect("something follows")
    };
    let (first, _) = step(at(0), &Oid::in_module(&[1, 10, 1, 2]));
    world.tamper(|state| {
        state.nodes.remove(&NodeNumber(2));
    });
    let (second, value) = step(at(100), &first);
    assert_eq!(
        (second.to_string(), value),
        (Oid::in_module(&[1, 10, 1, 2, 2]).to_string(), Value::Octets(b"n2".to_vec()))
    );
    let (fresh, _) = step(at(100), &Oid::in_module(&[1, 10, 1, 2, 1]));
    assert_eq!(fresh, Oid::in_module(&[1, 10, 1, 2, 3]), "another walk sees the present");
    let (late, _) = step(at(20_000), &Oid::in_module(&[1, 10, 1, 2, 1]));
    assert_eq!(late, Oid::in_module(&[1, 10, 1, 2, 3]), "a walk is not remembered for ever");
}

/// A master that is silent is asked, then given up; one that says good-bye is believed.
#[test]
fn a_silent_master_is_given_up() {
    let (mut session, mut answers) = registered(World::three_nodes());
    let asked_at = session.deadline();
    session.on_timeout(asked_at).expect("first a ping");
    assert_eq!(sent(&mut session).remove(0).body, Body::Ping);
    assert!(!session.is_up(asked_at + Duration::from_secs(6)), "in doubt");
    assert_eq!(session.on_timeout(session.deadline()), Err(SessionError::Silent));
    let good_bye = pdu(SESSION, 1, true, Body::Close { reason: 5 });
    let clock = Stopped(asked_at);
    assert_eq!(session.receive(&good_bye, &clock, &mut answers), Err(SessionError::Closed(5)));
}

/// A region that a colleague still has is asked for again.
#[test]
fn a_taken_region_is_asked_for_again() {
    let clock = Stopped(Instant::from_millis(0));
    let mut answers = Answers::new(Arc::new(World::three_nodes()));
    let mut session = Session::open(clock.now(), "test");
    let open = sent(&mut session).remove(0);
    session.receive(&pdu(SESSION, open.packet, true, fine()), &clock, &mut answers).expect("open");
    let register = sent(&mut session).remove(0);
    let error = error::DUPLICATE_REGISTRATION;
    let taken = Body::Response { uptime: 1, error, index: 0, varbinds: Vec::new() };
    session
        .receive(&pdu(SESSION, register.packet, true, taken), &clock, &mut answers)
        .map(|events| assert_eq!(events, [Event::Taken]))
        .expect("wait");
    session.on_timeout(session.deadline()).expect("again");
    let register = sent(&mut session).remove(0);
    assert!(matches!(register.body, Body::Register { .. }));
    let events =
        session.receive(&pdu(SESSION, register.packet, true, fine()), &clock, &mut answers);
    assert_eq!(events, Ok(vec![Event::Up]));
}

proptest! {
    /// Whatever comes in whatever pieces: no panic, and what goes out can be read.
    #[test]
    fn random_octets_never_harm_a_session(
        start in prop::sample::select(vec![0_u8, 1]),
        pieces in vec((0_u8..20, any::<u8>(), vec(any::<u8>(), 0..60)), 1..12),
    ) {
        let (mut session, mut answers) = registered(World::three_nodes());
        let clock = Stopped(Instant::from_millis(20));
        for (kind, flags, mut payload) in pieces {
            payload.truncate(payload.len() / 4 * 4);
            let mut octets = vec![start, kind, flags, 0];
            let big = flags & 16 != 0;
            for word in [SESSION, 1, 2, payload.len() as u32] {
                octets.extend(if big { word.to_be_bytes() } else { word.to_le_bytes() });
            }
            octets.extend(&payload);
            let (first, second) = octets.split_at(octets.len() / 2);
            let alive = session.receive(first, &clock, &mut answers).is_ok()
                && session.receive(second, &clock, &mut answers).is_ok();
            sent(&mut session);
            if !alive {
                break;
            }
        }
    }
}

/// Reads one PDU.
fn read(stream: &mut UnixStream) -> Pdu {
    let mut octets = Vec::new();
    loop {
        if let Some((pdu, length)) = decode(&octets).expect("a PDU") {
            assert_eq!(length, octets.len(), "one at a time");
            return pdu;
        }
        let mut octet = [0];
        stream.read_exact(&mut octet).expect("an octet");
        octets.push(octet[0]);
    }
}

/// Takes the subagent's connection and registers it.
fn accept(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().expect("a connection");
    for _ in 0..2 {
        let asked = read(&mut stream);
        stream.write_all(&pdu(SESSION, asked.packet, true, fine())).expect("write");
    }
    let Body::Notify(_) = read(&mut stream).body else { panic!("it says that it is there") };
    stream
}

/// Over a real socket: after each absurdity the subagent answers a Get, on this connection or, where
/// the stream makes no sense any more, on a new one.
#[test]
fn absurd_pdus_never_wedge_the_subagent() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("agentx");
    let listener = UnixListener::bind(&path).expect("bind");
    let world = Arc::new(World::three_nodes());
    let source: Arc<World> = Arc::clone(&world);
    let cursor = Box::new(FileCursor::new(dir.path().join("notified")));
    let config = SubagentConfig::new(Master::Unix(path));
    let handle = Subagent::start(config, source, cursor).expect("start");
    let get = || pdu(SESSION, 9, true, Body::Get(vec![range(&[1, 10, 1, 3, 3], false)]));
    let header = |version: u8, kind: u8, length: u32| {
        let mut octets = vec![version, kind, 16, 0];
        [SESSION, 1, 2, length].iter().for_each(|word| octets.extend(word.to_be_bytes()));
        octets
    };
    let long_oid = [header(1, 5, 524).as_slice(), &[129, 0, 0, 0], &[0; 520]].concat();
    let absurd: [(&str, Vec<u8>, bool); 7] = [
        ("129 numbers", long_oid, true),
        ("a type that is none", header(1, 99, 0), true),
        (
            "a string beyond its end",
            [header(1, 8, 12).as_slice(), &[0, 4, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]].concat(),
            true,
        ),
        ("another version", header(9, 5, 0), false),
        ("a huge length", header(1, 5, 4_000_000_000), false),
        ("a crooked length", header(1, 5, 3), false),
        ("no AgentX at all", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), false),
    ];
    let mut stream = accept(&listener);
    for (what, octets, goes_on) in absurd {
        stream.write_all(&octets).expect("write");
        if goes_on {
            let answer = read(&mut stream).body;
            let refused = matches!(answer, Body::Response { error: error::PARSE_ERROR, .. });
            assert!(refused, "{what}: {answer:?}");
        } else {
            stream = accept(&listener);
        }
        stream.write_all(&get()).expect("write");
        let found = varbinds(read(&mut stream).body);
        assert_eq!(found[0].value, Value::Integer(3), "after {what}");
    }
    // Half a PDU and then nothing more: the connection ends, the next one is there at once.
    stream.write_all(&get()[..30]).expect("write");
    drop(stream);
    let mut stream = accept(&listener);
    // A master that goes away without having answered a notification is told again.
    world.host(2, HostStatus::Down);
    handle.poke();
    let Body::Notify(first) = read(&mut stream).body else { panic!("a notification") };
    drop(stream);
    let mut stream = accept(&listener);
    let Body::Notify(again) = read(&mut stream).body else { panic!("a notification") };
    assert_eq!(first, again);
    until("the refusals are counted", || (handle.counters().malformed >= 3).then_some(()));
    handle.stop();
}
