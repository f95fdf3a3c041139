//! Every expression and every kind of set, given to the real kernel and read back by the `nft` program.

use net::nft::{
    Batch, Chain, Compare, CtKey, Data, Element, Expr, Family, FibResult, FibSource, Field, Header, Hook,
    ListedElement, MetaKey, Nat, Nft, Reg, Reject, Set, Verdict,
};
use net::testing::Namespace;

const TABLE: &str = "corten-test";

/// Commits a table with what `fill` adds, and gives what `nft` says about it.
#[track_caller]
fn listed(family: Family, fill: impl FnOnce(&mut Batch) + Send) -> String {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut batch = Batch::new(family, TABLE);
        batch.add_table_with_comment("note");
        fill(&mut batch);
        Nft::open().expect("open").commit(&mut batch).expect("commit");
    });
    namespace.command(&format!("nft list table {} {TABLE}", family.name()))
}

/// A rule of `expressions` in a base chain at `hook` must be shown as `shown`.
#[track_caller]
fn check_rule(hook: Hook, nat: Nat, expressions: &[Expr], shown: &str) {
    let text = listed(Family::Ipv4, |batch| {
        batch.add_chain(&Chain { name: "other", hook: None });
        batch.add_chain(&Chain { name: "base", hook: Some((hook, 0, nat)) });
        batch.add_rule("base", expressions);
    });
    assert!(text.contains(shown), "{shown:?} is not in\n{text}");
}

fn cmp(value: &[u8]) -> Expr {
    Expr::Cmp { from: Reg(0), compare: Compare::Equal, value: value.to_vec() }
}

fn payload(header: Header, offset: u32, length: u32, to: u8) -> Expr {
    Expr::Payload { header, offset, length, to: Reg(to) }
}

fn meta(key: MetaKey, to: u8) -> Expr {
    Expr::Meta { key, to: Reg(to) }
}

#[test]
fn matches_are_shown_as_meant() {
    let accept = || Expr::Verdict(Verdict::Accept);
    let daddr = || payload(Header::Network, 16, 4, 0);
    let check = |expressions: &[Expr], shown| check_rule(Hook::Prerouting, Nat::No, expressions, shown);
    check(&[daddr(), cmp(&[10, 0, 0, 1]), accept()], "ip daddr 10.0.0.1 accept");
    check(
        &[
            daddr(),
            Expr::Bitwise { from: Reg(0), to: Reg(0), mask: vec![255, 255, 0, 0], xor: vec![0; 4] },
            cmp(&[10, 1, 0, 0]),
            Expr::Verdict(Verdict::Drop),
        ],
        "ip daddr 10.1.0.0/16 drop",
    );
    check(
        &[
            meta(MetaKey::Transport, 0),
            cmp(&[6]),
            payload(Header::Transport, 2, 2, 0),
            cmp(&[0, 80]),
            accept(),
        ],
        "tcp dport 80 accept",
    );
    check(&[meta(MetaKey::Mark, 0), cmp(&7u32.to_ne_bytes()), accept()], "meta mark 0x00000007 accept");
    check(&[meta(MetaKey::InterfaceIn, 0), cmp(&1u32.to_ne_bytes()), accept()], "iif \"lo\" accept");
    let mut name = [0; 16];
    name[..3].copy_from_slice(b"br0");
    check(&[meta(MetaKey::InterfaceInName, 0), cmp(&name), accept()], "iifname \"br0\" accept");
    check(&[meta(MetaKey::Family, 0), cmp(&[2]), accept()], "meta nfproto ipv4 accept");
    let state = Expr::Ct { key: CtKey::State, to: Reg(0) };
    check(&[state, cmp(&8u32.to_ne_bytes()), accept()], "ct state == new accept");
    let direction = Expr::Ct { key: CtKey::Direction, to: Reg(0) };
    check(&[direction, cmp(&[1]), accept()], "ct direction reply accept");
    let dnat = vec![0x20, 0, 0, 0];
    let status = [
        Expr::Ct { key: CtKey::Status, to: Reg(0) },
        Expr::Bitwise { from: Reg(0), to: Reg(0), mask: dnat, xor: vec![0; 4] },
        Expr::Cmp { from: Reg(0), compare: Compare::NotEqual, value: vec![0; 4] },
        accept(),
    ];
    check(&status, "ct status dnat accept");
    let fib = |source| Expr::Fib { source, result: FibResult::AddressType, to: Reg(0) };
    let local = cmp(&2u32.to_ne_bytes());
    check(&[fib(FibSource::SourceAddress), local.clone(), accept()], "fib saddr type local accept");
    check(&[fib(FibSource::DestinationAddress), local, accept()], "fib daddr type local accept");
}

#[test]
fn statements_are_shown_as_meant() {
    let check = check_rule;
    let set_mark = |value: u32| {
        [
            Expr::Immediate { to: Reg(0), value: value.to_ne_bytes().to_vec() },
            Expr::SetMeta { key: MetaKey::Mark, from: Reg(0) },
        ]
    };
    check(Hook::Prerouting, Nat::No, &set_mark(0x4000), "meta mark set 0x00004000");
    check(Hook::Prerouting, Nat::No, &[Expr::Verdict(Verdict::Jump("other".to_owned()))], "jump other");
    check(Hook::Prerouting, Nat::No, &[Expr::Verdict(Verdict::Goto("other".to_owned()))], "goto other");
    check(Hook::Prerouting, Nat::No, &[Expr::Verdict(Verdict::Return)], "return");
    check(Hook::Prerouting, Nat::No, &[Expr::Counter], "counter packets 0 bytes 0");
    check(Hook::Postrouting, Nat::Yes, &[Expr::Masquerade], "masquerade fully-random");
    let unreachable = [Expr::Reject(Reject::PortUnreachable { ipv6: false })];
    check(Hook::Output, Nat::No, &unreachable, "reject\n");
    // The services chains reject from the very chains that translate.
    check(Hook::Prerouting, Nat::Yes, &unreachable, "reject\n");
    let reset = [meta(MetaKey::Transport, 0), cmp(&[6]), Expr::Reject(Reject::TcpReset)];
    check(Hook::Forward, Nat::No, &reset, "reject with tcp reset");
    let dnat = [
        Expr::Immediate { to: Reg(0), value: vec![10, 0, 0, 9] },
        Expr::Immediate { to: Reg(1), value: vec![0, 80] },
        meta(MetaKey::Transport, 2),
        Expr::Cmp { from: Reg(2), compare: Compare::Equal, value: vec![6] },
        Expr::Dnat { ipv6: false, address: Reg(0), port: Reg(1) },
    ];
    check(Hook::Prerouting, Nat::Yes, &dnat, "dnat to 10.0.0.9:80");
}

#[test]
fn sets_and_maps_are_shown_as_meant() {
    let key = [10, 96, 0, 1, 6, 0, 0, 0, 0x01, 0xbb, 0, 0];
    let text = listed(Family::Ipv4, |batch| {
        let fields = [Field::Ipv4, Field::Protocol, Field::Service];
        batch.add_chain(&Chain { name: "target", hook: None });
        batch.add_chain(&Chain { name: "base", hook: Some((Hook::Prerouting, -100, Nat::Yes)) });
        batch.add_set(&Set::new("plain", &[Field::Ipv4]));
        batch.add_elements("plain", [Element::key(&[10, 0, 0, 7])]);
        batch.add_set(&Set::map("to-address", &fields, &[Field::Ipv4, Field::Service]));
        let data = Data::Value(vec![10, 244, 0, 2, 0x19, 0x2b, 0, 0]);
        batch.add_elements("to-address", [Element { data: Some(&data), ..Element::key(&key) }]);
        batch.add_set(&Set::verdict_map("verdicts", &fields));
        let goto = Data::Verdict(Verdict::Goto("target".to_owned()));
        batch.add_elements("verdicts", [Element { data: Some(&goto), ..Element::key(&key) }]);
        let ranges = Set { interval: true, ..Set::new("ranges", &[Field::Number, Field::Ipv4]) };
        batch.add_set(&ranges);
        let (from, to) = ([5, 0, 0, 0, 192, 168, 0, 0], [5, 0, 0, 0, 192, 168, 3, 255]);
        batch.add_elements("ranges", [Element { key_end: Some(&to), ..Element::key(&from) }]);
        let sticky = Set {
            dynamic: Some(1000),
            ..Set::map("sticky", &[Field::Number, Field::Ipv4], &[Field::Ipv4, Field::Service])
        };
        batch.add_set(&sticky);
        let load = [
            payload(Header::Network, 16, 4, 0),
            meta(MetaKey::Transport, 1),
            payload(Header::Transport, 2, 2, 2),
        ];
        let mut rule = load.to_vec();
        rule.push(Expr::VerdictMap { map: "verdicts".to_owned(), key: Reg(0) });
        batch.add_rule("base", &rule);
        let mut rule = load.to_vec();
        rule.push(Expr::Map { map: "to-address".to_owned(), key: Reg(0), to: Reg(4) });
        rule.push(Expr::Dnat { ipv6: false, address: Reg(4), port: Reg(5) });
        batch.add_rule("target", &rule);
        let random = [
            Expr::Random { modulus: 3, to: Reg(0) },
            payload(Header::Network, 12, 4, 1),
            Expr::InSet { set: "ranges".to_owned(), key: Reg(0), inverted: true },
            Expr::Immediate { to: Reg(2), value: vec![10, 0, 0, 9] },
            Expr::Immediate { to: Reg(3), value: vec![0, 80] },
            Expr::UpdateMap { map: "sticky".to_owned(), key: Reg(0), data: Reg(2), timeout_ms: 60_000 },
        ];
        batch.add_rule("target", &random);
        let delete = [
            Expr::Random { modulus: 3, to: Reg(0) },
            payload(Header::Network, 12, 4, 1),
            Expr::DeleteFromMap { map: "sticky".to_owned(), key: Reg(0), data: Reg(0) },
        ];
        batch.add_rule("target", &delete);
    });
    for shown in [
        "comment \"note\"",
        "elements = { 10.0.0.7 }",
        "10.96.0.1 . tcp . 443 : 10.244.0.2 . 6443",
        "10.96.0.1 . tcp . 443 : goto target",
        // In a concatenation nft shows numbers in network byte order.
        "0x05000000 . 192.168.0.0/22",
        "flags dynamic,timeout",
        "size 1000",
        "ip daddr . meta l4proto . th dport vmap @verdicts",
        "dnat ip to ip daddr . meta l4proto . th dport map @to-address",
        "numgen random mod 3",
        "!= @ranges",
        "update @sticky",
        "timeout 1m",
        "delete @sticky",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in\n{text}");
    }
}

#[test]
fn what_was_written_is_read_back() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut nft = Nft::open().expect("open");
        assert_eq!(nft.table(Family::Ipv6, TABLE).expect("table"), None);
        let mut batch = Batch::new(Family::Ipv6, TABLE);
        batch.add_table_with_comment("layout 1");
        batch.add_chain(&Chain { name: "one", hook: None });
        batch.add_set(&Set::map("m", &[Field::Ipv6, Field::Service], &[Field::Number]));
        let key = |n: u32| {
            let mut key = vec![0xfd; 20];
            key[12..16].copy_from_slice(&n.to_be_bytes());
            key
        };
        let count = 20_000;
        let keys: Vec<Vec<u8>> = (0..count).map(key).collect();
        let data: Vec<Data> = (0..count).map(|n| Data::Value(n.to_ne_bytes().to_vec())).collect();
        let element = |(key, data)| Element { data: Some(data), ..Element::key(key) };
        batch.add_elements("m", keys.iter().map(Vec::as_slice).zip(&data).map(element));
        assert!(batch.bytes() > 1 << 19, "several attributes and messages' worth");
        nft.commit(&mut batch).expect("commit");

        let table = nft.table(Family::Ipv6, TABLE).expect("table").expect("exists");
        assert_eq!((table.name.as_str(), table.comment.as_str()), (TABLE, "layout 1"));
        assert_eq!(nft.chains(Family::Ipv6, TABLE).expect("chains"), ["one"]);
        let found = nft.elements(Family::Ipv6, TABLE, "m").expect("elements");
        let expected: Vec<ListedElement> = (0..count)
            .map(|n| ListedElement {
                key: key(n),
                key_end: None,
                data: Some(n.to_ne_bytes().to_vec()),
                chain: None,
            })
            .collect();
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(found.len() == expected.len() && differs.is_none(), "{} elements: {differs:?}", found.len());

        // Replace one, remove one, in one transaction.
        let mut batch = Batch::new(Family::Ipv6, TABLE);
        batch.delete_elements("m", [Element::key(&keys[0]), Element::key(&keys[1])]);
        let changed = Data::Value(vec![9; 4]);
        batch.add_elements("m", [Element { data: Some(&changed), ..Element::key(&keys[0]) }]);
        nft.commit(&mut batch).expect("commit");
        let found = nft.elements(Family::Ipv6, TABLE, "m").expect("elements");
        assert_eq!(found.len(), count as usize - 1);
        let first = found.iter().find(|element| element.key == keys[0]).expect("first");
        assert_eq!(first.data, Some(vec![9; 4]));
    });
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_object() {
    let namespace = Namespace::new();
    let error = namespace.run(|| {
        let mut nft = Nft::open().expect("open");
        let mut batch = Batch::new(Family::Ipv4, TABLE);
        batch.add_table();
        batch.add_set(&Set::new("plain", &[Field::Ipv4]));
        batch.delete_elements("plain", [Element::key(&[10, 0, 0, 7])]);
        batch.add_chain(&Chain { name: "later", hook: None });
        let error = nft.commit(&mut batch).expect_err("no such element");
        assert_eq!(nft.table(Family::Ipv4, TABLE).expect("table"), None);
        error
    });
    assert_eq!(error.errno(), Some(2));
    let text = error.to_string();
    assert!(text.contains("remove elements of nftables set corten-test plain"), "{text}");
}
