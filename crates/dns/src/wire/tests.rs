use super::*;
use proptest::prelude::*;

fn query(packet: &[u8]) -> Query {
    parse(packet).expect("a question")
}

fn with_edns(mut packet: Vec<u8>, payload: u16, version: u8) -> Vec<u8> {
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41]);
    packet.extend_from_slice(&payload.to_be_bytes());
    packet.extend_from_slice(&[0, version, 0x80, 0, 0, 0]);
    packet
}

#[test]
fn questions_are_read() {
    let read = query(&ask(7, "Web.Default.svc.cluster.local", kind::AAAA));
    assert_eq!((read.id, read.kind, read.class, read.edns), (7, kind::AAAA, INTERNET, None));
    assert_eq!(read.labels, ["web", "default", "svc", "cluster", "local"]);
    let read = query(&with_edns(ask(7, "x", kind::A), 4096, 0));
    assert_eq!(read.edns, Some(Edns { payload: 4096, dnssec: true, version: 0 }));
    assert_eq!(read.limit(Transport::Udp), 1232);
    assert_eq!(query(&ask(7, "", kind::NS)).labels, Vec::<String>::new());
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let code_of = |packet: &[u8]| match parse(packet) {
        Err(Unusable::Answer(answer)) => {
            assert_eq!(answer[..2], packet[..2], "the id");
            Some(answer[3] & 0xf)
        }
        Err(Unusable::Ignore) => None,
        Ok(query) => panic!("{query:?}"),
    };
    let plain = ask(7, "a.b", kind::A);
    assert_eq!(code_of(&plain[..5]), None, "no header");
    let mut packet = plain.clone();
    packet[2] |= 0x80;
    assert_eq!(code_of(&packet), None, "an answer is never answered");
    assert_eq!(code_of(&plain[..plain.len() - 1]), Some(1), "cut off");
    let mut packet = plain.clone();
    packet[5] = 2;
    assert_eq!(code_of(&packet), Some(1), "two questions");
    let mut packet = plain.clone();
    packet[2] |= 4 << 3;
    assert_eq!(code_of(&packet), Some(4), "not a query");
    let mut packet = plain.clone();
    packet[12] = 0xc0;
    assert_eq!(code_of(&packet), Some(1), "a pointer to nothing before it");
    let long = vec!["a".repeat(63); 5].join(".");
    assert_eq!(code_of(&ask(7, &long, kind::A)), Some(1), "a name of more than 255 bytes");
    let packet = with_edns(plain, 512, 1);
    assert_eq!(code_of(&packet), Some(0), "the low bits of BADVERS");
}

#[test]
fn answers_that_do_not_fit_are_marked_and_remain_well_formed() {
    for (packet, limit) in [
        (ask(7, "web.default.svc", kind::A), 512),
        (with_edns(ask(7, "web.default.svc", kind::A), 900, 0), 900),
        (with_edns(ask(7, "web.default.svc", kind::A), 65_000, 0), 1232),
    ] {
        let query = query(&packet);
        let mut answer = Answer::new(&query, code::NO_ERROR, true, Transport::Udp);
        for n in 0..200u8 {
            answer.push(Section::Answer, None, 5, &Data::Address([10, 0, 0, n].into()));
        }
        let bytes = answer.finish();
        assert!(bytes.len() <= limit && bytes.len() > limit - 32, "{} of {limit}", bytes.len());
        let foreign = parse_foreign(&bytes, 7, &query.question).expect("well-formed");
        assert!(foreign.truncated);
        assert_eq!(usize::from(foreign.answers), addresses(&bytes, &foreign).len());
    }
}

#[test]
fn records_of_every_kind_are_well_formed() {
    let packet = ask(7, "x", kind::ANY);
    let query = query(&packet);
    let mut answer = Answer::new(&query, code::NO_ERROR, true, Transport::Tcp);
    let all = [
        Data::Address([10, 0, 0, 1].into()),
        Data::Address([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
        Data::Name { kind: kind::CNAME, target: "a.b".to_owned() },
        Data::Srv { port: 80, target: "a.b".to_owned() },
        Data::Text("1.1.0".to_owned()),
        Data::Soa { server: "a".to_owned(), mailbox: "b".to_owned(), serial: 1, negative_ttl: 3 },
    ];
    for data in &all {
        answer.push(Section::Answer, Some("y.z"), 9, data);
    }
    let bytes = answer.finish();
    let foreign = parse_foreign(&bytes, 7, &query.question).expect("well-formed");
    assert_eq!((usize::from(foreign.answers), foreign.ttl), (all.len(), Some(9)));
    assert_eq!(foreign.answers_at.end, bytes.len());
}

#[test]
fn a_missing_name_is_remembered_for_as_long_as_its_soa_says() {
    let query = query(&ask(7, "x", kind::A));
    let mut answer = Answer::new(&query, code::NO_SUCH_NAME, true, Transport::Udp);
    let soa = Data::Soa { server: "a".to_owned(), mailbox: "b".to_owned(), serial: 1, negative_ttl: 3 };
    answer.push(Section::Authority, Some("z"), 900, &soa);
    let bytes = answer.finish();
    let foreign = parse_foreign(&bytes, 7, &query.question).expect("well-formed");
    assert_eq!((foreign.code, foreign.ttl), (code::NO_SUCH_NAME, Some(3)));
    assert_eq!(parse_foreign(&bytes, 8, &query.question), None, "another's id");
    assert_eq!(parse_foreign(&bytes, 7, &ask(7, "y", kind::A)[12..]), None, "another's question");
}

proptest! {
    #[test]
    fn hostile_packets_are_survived(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&packet);
        let _ = parse_foreign(&packet, 0, &[]);
    }

    /// Random bytes seldom get past the header: damage good packets instead.
    #[test]
    fn damaged_packets_are_survived(at in 0usize..60, byte: u8, cut in 0usize..60) {
        let mut packet = with_edns(ask(7, "web.default.svc.cluster.local", kind::A), 1232, 0);
        let length = packet.len();
        packet[at % length] = byte;
        packet.truncate(length - cut % length);
        if let Ok(query) = parse(&packet) {
            let mut answer = Answer::new(&query, code::NO_ERROR, true, Transport::Udp);
            answer.push(Section::Answer, None, 5, &Data::Address([10, 0, 0, 1].into()));
            let mut bytes = answer.finish();
            prop_assert!(parse_foreign(&bytes, query.id, &query.question).is_some());
            // And the same for what another resolver may send.
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            if let Some(foreign) = parse_foreign(&bytes, query.id, &query.question) {
                let _ = addresses(&bytes, &foreign);
            }
        }
    }
}
