//! The codec against RFC 2741: the octets of its examples, round trips of arbitrary PDUs in both
//! byte orders, and arbitrary octets, which never do harm.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use vedette_mib::codec::{DecodeError, HEADER, decode};
use vedette_mib::oid::Oid;
use vedette_mib::pdu::{Body, Pdu, Region, SearchRange, VarBind};
use vedette_mib::value::Value;

fn oid() -> impl Strategy<Value = Oid> {
    let internet = (any::<u8>(), vec(any::<u32>(), 0..=20))
        .prop_map(|(prefix, rest)| [&[1, 3, 6, 1, u32::from(prefix)], rest.as_slice()].concat());
    prop_oneof![vec(any::<u32>(), 0..=128), internet]
        .prop_map(|numbers| Oid::new(numbers).expect("not too long"))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::Integer),
        vec(any::<u8>(), 0..40).prop_map(Value::Octets),
        Just(Value::Null),
        oid().prop_map(Value::ObjectId),
        any::<[u8; 4]>().prop_map(Value::IpAddress),
        any::<u32>().prop_map(Value::Counter32),
        any::<u32>().prop_map(Value::Gauge32),
        any::<u32>().prop_map(Value::TimeTicks),
        vec(any::<u8>(), 0..40).prop_map(Value::Opaque),
        any::<u64>().prop_map(Value::Counter64),
        Just(Value::NoSuchObject),
        Just(Value::NoSuchInstance),
        Just(Value::EndOfMibView),
    ]
}

fn varbinds() -> impl Strategy<Value = Vec<VarBind>> {
    vec((oid(), value()).prop_map(|(name, value)| VarBind { name, value }), 0..6)
}

fn ranges() -> impl Strategy<Value = Vec<SearchRange>> {
    let range = (oid(), any::<bool>(), oid());
    vec(range.prop_map(|(start, include, end)| SearchRange { start, include, end }), 0..6)
}

fn region() -> impl Strategy<Value = Region> {
    let range = option::of((1..=u8::MAX, any::<u32>()));
    (any::<u8>(), any::<u8>(), oid(), range).prop_map(|(timeout, priority, subtree, range)| {
        Region { timeout, priority, subtree, range }
    })
}

fn body() -> impl Strategy<Value = Body> {
    let text = || vec(any::<u8>(), 0..40);
    prop_oneof![
        (any::<u8>(), oid(), text()).prop_map(|(timeout, id, description)| Body::Open {
            timeout,
            id,
            description
        }),
        any::<u8>().prop_map(|reason| Body::Close { reason }),
        (region(), any::<bool>())
            .prop_map(|(region, instance)| Body::Register { region, instance }),
        region().prop_map(|region| Body::Unregister { region }),
        ranges().prop_map(Body::Get),
        ranges().prop_map(Body::GetNext),
        (any::<u16>(), any::<u16>(), ranges()).prop_map(
            |(non_repeaters, max_repetitions, ranges)| Body::GetBulk {
                non_repeaters,
                max_repetitions,
                ranges
            }
        ),
        varbinds().prop_map(Body::TestSet),
        Just(Body::CommitSet),
        Just(Body::UndoSet),
        Just(Body::CleanupSet),
        varbinds().prop_map(Body::Notify),
        Just(Body::Ping),
        (varbinds(), any::<bool>(), any::<bool>()).prop_map(|(varbinds, new_index, any_index)| {
            Body::IndexAllocate { varbinds, new_index, any_index }
        }),
        varbinds().prop_map(Body::IndexDeallocate),
        (oid(), text()).prop_map(|(id, description)| Body::AddAgentCaps { id, description }),
        oid().prop_map(|id| Body::RemoveAgentCaps { id }),
        (any::<u32>(), any::<u16>(), any::<u16>(), varbinds()).prop_map(
            |(uptime, error, index, varbinds)| Body::Response { uptime, error, index, varbinds }
        ),
    ]
}

prop_compose! {
    fn pdu()(
        network_order in any::<bool>(),
        (session, transaction, packet) in any::<(u32, u32, u32)>(),
        context in option::of(vec(any::<u8>(), 0..20)),
        body in body(),
    ) -> Pdu {
        let contextual = !matches!(
            body,
            Body::Open { .. } | Body::Close { .. } | Body::CommitSet | Body::UndoSet
                | Body::CleanupSet | Body::Response { .. }
        );
        let context = context.filter(|_| contextual);
        Pdu { network_order, session, transaction, packet, context, body }
    }
}

fn encoded(pdu: &Pdu) -> Vec<u8> {
    let mut octets = Vec::new();
    pdu.encode(&mut octets);
    octets
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(pdu in pdu(), behind in vec(any::<u8>(), 0..30)) {
        let octets = encoded(&pdu);
        prop_assert_eq!(octets.len() % 4, 0);
        let stream = [octets.as_slice(), &behind].concat();
        prop_assert_eq!(decode(&stream), Ok(Some((pdu, octets.len()))));
        for end in 0..octets.len() {
            prop_assert_eq!(decode(&octets[..end]), Ok(None), "not complete at {}", end);
        }
    }

    #[test]
    fn a_damaged_pdu_does_no_harm(pdu in pdu(), place in any::<prop::sample::Index>(), octet: u8) {
        let mut octets = encoded(&pdu);
        let place = place.index(octets.len());
        octets[place] = octet;
        if let Ok(Some((read, _))) = decode(&octets) {
            let again = encoded(&read);
            prop_assert_eq!(decode(&again), Ok(Some((read, again.len()))));
        }
    }

    #[test]
    fn arbitrary_octets_do_no_harm(kind in 0u8..20, flags: u8, payload in vec(any::<u8>(), 0..400)) {
        let mut octets = vec![1, kind, flags, 0];
        octets.extend([0; 12]);
        let length = payload.len() as u32;
        let order = if flags & 16 != 0 { length.to_be_bytes() } else { length.to_le_bytes() };
        octets.extend(order);
        octets.extend(&payload);
        let _ = decode(&octets);
        let _ = decode(&payload);
    }
}

/// Header of a PDU in network byte order with this payload.
fn pdu_of(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![1, kind, 16, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9];
    octets.extend((payload.len() as u32).to_be_bytes());
    octets.extend(payload);
    octets
}

fn body_of(kind: u8, payload: &[u8]) -> Result<Body, DecodeError> {
    let octets = pdu_of(kind, payload);
    let pdu = decode(&octets)?.expect("complete").0;
    assert_eq!((pdu.session, pdu.transaction, pdu.packet), (7, 8, 9));
    assert_eq!(encoded(&pdu), octets, "the same octets again");
    Ok(pdu.body)
}

/// RFC 2741, 5.1 and 5.2: an OID with and without its prefix, the null OID, the search range from
/// 1.3.6.1.2.1.25.2 (inclusive) to 1.3.6.1.2.1.25.2.1.
#[test]
fn names_are_written_as_in_the_rfc() {
    let words = |text: &[[u8; 4]]| text.concat();
    let payload = words(&[
        [3, 2, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 25],
        [0, 0, 0, 2],
        [4, 2, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 25],
        [0, 0, 0, 2],
        [0, 0, 0, 1],
        [4, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 2],
        [0, 0, 0, 3],
        [0, 0, 0, 4],
        [0, 0, 0, 0],
    ]);
    let oid = |numbers: &[u32]| Oid::new(numbers).expect("short");
    let ranges = vec![
        SearchRange {
            start: oid(&[1, 3, 6, 1, 2, 1, 25, 2]),
            include: true,
            end: oid(&[1, 3, 6, 1, 2, 1, 25, 2, 1]),
        },
        SearchRange { start: oid(&[1, 2, 3, 4]), include: false, end: Oid::null() },
    ];
    assert_eq!(body_of(6, &payload), Ok(Body::GetNext(ranges)));
}

/// RFC 2741, 5.3, 5.4 and 6.2.16: octet strings are padded with zeros, a response has uptime,
/// error and index before its variables.
#[test]
fn values_are_written_as_in_the_rfc() {
    let payload = [
        &[0, 0, 1, 44, 0, 5, 0, 1][..],
        &[0, 4, 0, 0, 1, 2, 0, 0, 0, 0, 0, 9, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0],
        &[0, 70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2],
    ]
    .concat();
    let varbinds = vec![
        VarBind::new(
            Oid::new([1, 3, 6, 1, 2, 9]).expect("short"),
            Value::Octets(b"hello".to_vec()),
        ),
        VarBind::new(Oid::null(), Value::Counter64((1 << 32) + 2)),
    ];
    let response = Body::Response { uptime: 300, error: 5, index: 1, varbinds };
    assert_eq!(body_of(18, &payload), Ok(response));
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let header = |version, length: u32| {
        let mut octets = vec![version, 13, 16, 0];
        octets.extend([0; 12]);
        octets.extend(length.to_be_bytes());
        octets
    };
    assert_eq!(decode(&header(2, 0)), Err(DecodeError::Version(2)));
    assert_eq!(decode(&header(1, u32::MAX - 3)), Err(DecodeError::TooLong(u32::MAX - 3)));
    assert_eq!(decode(&header(1, 6)), Err(DecodeError::Unaligned(6)));
    assert_eq!(decode(&pdu_of(0, &[])), Err(DecodeError::Kind(0)));
    assert_eq!(decode(&pdu_of(19, &[])), Err(DecodeError::Kind(19)));
    assert_eq!(decode(&pdu_of(13, &[0; 4])), Err(DecodeError::Rest(4)));
    assert_eq!(decode(&pdu_of(2, &[])), Err(DecodeError::Short("a reason")));
    let long_oid = [&[129, 0, 0, 0][..], &[0; 129 * 4], &[0; 4]].concat();
    assert_eq!(decode(&pdu_of(5, &long_oid)), Err(DecodeError::Oid));
    let long_with_prefix = [&[124, 2, 0, 0][..], &[0; 124 * 4], &[0; 4]].concat();
    assert_eq!(decode(&pdu_of(5, &long_with_prefix)), Err(DecodeError::Oid));
    let text_beyond_its_end = [0, 4, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    assert_eq!(
        decode(&pdu_of(12, &text_beyond_its_end)),
        Err(DecodeError::Short("an octet string"))
    );
    let address_of_five = [0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0];
    assert_eq!(decode(&pdu_of(12, &address_of_five)), Err(DecodeError::IpAddress(5)));
    let strange_type = [0, 99, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode(&pdu_of(12, &strange_type)), Err(DecodeError::Value(99)));
    assert_eq!(HEADER, 20);
}
