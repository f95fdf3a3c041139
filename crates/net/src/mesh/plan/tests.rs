use super::*;
use proptest::prelude::*;

fn node(name: &str, addresses: &[&str], cidrs: &[&str]) -> Node {
    Node {
        name: name.to_owned(),
        addresses: addresses.iter().map(|ip| ip.parse().expect("ip")).collect(),
        pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().expect("cidr")).collect(),
    }
}

fn nets(nets: &[(u32, &str)]) -> Vec<(u32, IpNet)> {
    nets.iter().map(|(index, net)| (*index, net.parse().expect("net"))).collect()
}

fn shown(plan: &Plan) -> Vec<String> {
    let way = |(cidr, way): (&IpNet, &Way)| match way {
        Way::Link { gateway, interface } => format!("{cidr} by {gateway} on {interface}"),
        Way::Tunnel { gateway } => format!("{cidr} tunnel {gateway}"),
    };
    let problems = plan.problems.iter().map(ToString::to_string);
    plan.ways.iter().map(way).chain(problems).collect()
}

#[test]
fn a_shared_link_is_used_and_a_tunnel_otherwise() {
    let own = node("a", &["192.0.2.1", "2001:db8::1"], &["10.244.0.0/24", "fd44::/64"]);
    let machine = nets(&[(1, "127.0.0.1/8"), (2, "192.0.2.1/24"), (2, "2001:db8::1/64")]);
    let check = |peer: Node, mode, expected: &[&str]| {
        assert_eq!(shown(&plan(&own, &[own.clone(), peer], &machine, mode)), expected);
    };
    let near = node("b", &["192.0.2.2", "2001:db8::2"], &["10.244.1.0/24", "fd44:0:0:1::/64"]);
    check(
        near.clone(),
        Mode::Auto,
        &["10.244.1.0/24 by 192.0.2.2 on 2", "fd44:0:0:1::/64 by 2001:db8::2 on 2"],
    );
    check(
        near,
        Mode::Tunnel,
        &["10.244.1.0/24 tunnel 10.244.1.0", "fd44:0:0:1::/64 tunnel fe80::876:c0ff:fe00:202"],
    );
    check(node("b", &["198.51.100.2"], &["10.244.1.0/24"]), Mode::Auto, &["10.244.1.0/24 tunnel 10.244.1.0"]);
    // Its pods have IPv6, it has not: the packets go through a tunnel over IPv4.
    check(
        node("b", &["192.0.2.2"], &["fd44:0:0:1::/64"]),
        Mode::Auto,
        &["fd44:0:0:1::/64 tunnel fe80::876:c0ff:fe00:202"],
    );
    check(node("b", &["192.0.2.2"], &[]), Mode::Auto, &[]);
    let far = plan(&own, &[node("b", &["198.51.100.2"], &["10.244.1.0/24"])], &machine, Mode::Auto);
    let mac = [0x0a, 0x76, 198, 51, 100, 2];
    let expected = [
        Neighbour::Address("10.244.1.0".parse().expect("ip"), mac),
        Neighbour::Endpoint(mac, "198.51.100.2".parse().expect("ip")),
    ];
    assert_eq!(far.neighbours, BTreeSet::from(expected));
    assert_eq!(far.local, Some(("192.0.2.1".parse().expect("ip"), 2)));
}

#[test]
fn what_makes_no_sense_is_told_and_harms_nobody_else() {
    let own = node("a", &["192.0.2.1"], &["10.244.0.0/24"]);
    let machine = nets(&[(2, "192.0.2.1/24")]);
    let check = |peers: &[Node], expected: &[&str]| {
        let all = shown(&plan(&own, peers, &machine, Mode::Auto));
        for (line, part) in all.iter().zip(expected) {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert_eq!(all.len(), expected.len(), "{all:?}");
    };
    check(
        &[
            node("d", &["192.0.2.4"], &["10.244.1.0/25"]),
            node("c", &["192.0.2.3"], &["10.244.1.0/24"]),
            node("b", &["192.0.2.2"], &["10.244.0.128/25"]),
        ],
        &[
            "10.244.1.0/24 by 192.0.2.3",
            "node b: its pod CIDR 10.244.0.128/25 overlaps 10.244.0.0/24 of node a",
            "node d: its pod CIDR 10.244.1.0/25 overlaps 10.244.1.0/24 of node c",
        ],
    );
    check(
        &[node("b", &["192.0.2.2"], &["0.0.0.0/0"]), node("c", &["192.0.2.3"], &["192.0.2.0/28"])],
        &["0.0.0.0/0 overlaps 10.244.0.0/24", "192.0.2.0/28 holds the address 192.0.2.1 of node a"],
    );
    check(&[node("b", &["2001:db8::2"], &["10.244.1.0/24"])], &["node b: there is no way to its pods"]);
    check(&[node("b", &[], &["10.244.1.0/24"])], &["node b: there is no way to its pods"]);
}

fn any_node() -> impl Strategy<Value = Node> {
    let ip = prop_oneof![
        (0u8..4, 0u8..8).prop_map(|(net, host)| IpAddr::from([192, 0, net, host])),
        (0u16..3).prop_map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])),
    ];
    let cidr = prop_oneof![
        (0u8..6, 20u8..=32).prop_map(|(n, length)| IpNet::new([10, 244, n, 0].into(), length)),
        (0u16..4, 60u8..=66).prop_map(|(n, l)| IpNet::new([0xfd44, 0, 0, n, 0, 0, 0, 0].into(), l)),
    ];
    let cidrs = proptest::collection::vec(cidr.prop_map(|cidr| cidr.expect("length")), 0..3);
    ("[a-e]", proptest::collection::vec(ip, 0..3), cidrs).prop_map(|(name, addresses, pod_cidrs)| Node {
        name,
        addresses,
        pod_cidrs,
    })
}

proptest! {
    /// Whatever nodes say: no way overlaps another or this node's pods, and every tunnel has its two entries.
    #[test]
    fn ways_never_overlap(peers in proptest::collection::vec(any_node(), 0..6)) {
        let own = node("own", &["192.0.0.1"], &["10.244.0.0/24", "fd44::/64"]);
        let machine = nets(&[(2, "192.0.0.1/24"), (3, "192.0.1.1/25")]);
        let plan = plan(&own, &peers, &machine, Mode::Auto);
        let mut all: Vec<IpNet> = plan.ways.keys().copied().chain(own.pod_cidrs.clone()).collect();
        all.sort_unstable();
        for (n, one) in all.iter().enumerate() {
            for other in &all[n + 1..] {
                prop_assert!(!one.contains(other) && !other.contains(one), "{} {}", one, other);
            }
        }
        for way in plan.ways.values() {
            if let Way::Tunnel { gateway } = way {
                let mac = plan.neighbours.iter().find_map(|n| match n {
                    Neighbour::Address(ip, mac) if ip == gateway => Some(*mac),
                    _ => None,
                });
                let mac = mac.expect("the gateway has an Ethernet address");
                let leads = |n: &Neighbour| matches!(n, Neighbour::Endpoint(m, _) if *m == mac);
                prop_assert!(plan.neighbours.iter().any(leads));
            }
        }
    }
}
