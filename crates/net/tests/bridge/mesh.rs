//! Nodes joined: two on one link, one behind a router, with a pod each.

use std::net::{IpAddr, UdpSocket};

use net::bridge::{Bridge, BridgeConfig};
use net::mesh::{Config, Joined, Mesh, Mode, Node, Problem};
use net::testing::Namespace;

use super::echo;

/// A machine with a pod.
struct Machine {
    namespace: Namespace,
    node: Node,
    pod: Namespace,
    pod_ips: Vec<IpAddr>,
    _bridge: Bridge,
}

struct World {
    _router: Namespace,
    machines: Vec<Machine>,
    _state: tempfile::TempDir,
}

fn machine(router: &Namespace, number: usize, addresses: [&str; 2], state: &std::path::Path) -> Machine {
    let namespace = Namespace::new();
    let gateways = addresses.map(|ip| {
        let end = ip.rfind(['.', ':']).expect("an address");
        format!("{}{}", &ip[..=end], if ip.contains(':') { "ff" } else { "254" })
    });
    router.command(&format!(
        "ip link add to{number} mtu 1500 type veth peer name up0 mtu 1500 netns {} && ip link set to{number} up",
        namespace.path().display()
    ));
    if addresses[0].starts_with("192.0.2.") {
        router.command(&format!("ip link set to{number} master segment"));
    } else {
        router.command(&format!(
            "ip addr add {}/24 dev to{number} && ip addr add {}/64 dev to{number} nodad",
            gateways[0], gateways[1]
        ));
    }
    namespace.command(&format!(
        "ip addr add {}/24 dev up0 && ip addr add {}/64 dev up0 nodad && ip link set up0 up && \
         ip route add default via {} && ip route add default via {}",
        addresses[0], addresses[1], gateways[0], gateways[1]
    ));
    let node = Node {
        name: format!("node-{number}"),
        addresses: addresses.map(|ip| ip.parse().expect("address")).to_vec(),
        pod_cidrs: [format!("10.244.{number}.0/24"), format!("fd44:0:0:{number}::/64")]
            .map(|cidr| cidr.parse().expect("cidr"))
            .to_vec(),
    };
    let pod = Namespace::new();
    let (bridge, pod_ips) = namespace.run(|| {
        let bridge = Bridge::open(BridgeConfig {
            name: "br-test".to_owned(),
            state_dir: state.join(number.to_string()),
            cluster_cidrs: ["10.244.0.0/16", "fd44::/48"].map(|cidr| cidr.parse().expect("cidr")).to_vec(),
            ..BridgeConfig::default()
        })
        .expect("open");
        bridge.set_pod_cidr(&node.pod_cidrs).expect("set_pod_cidr");
        let ips = bridge.attach("pod", &pod.path()).expect("attach").ips;
        (bridge, ips)
    });
    Machine { namespace, node, pod, pod_ips, _bridge: bridge }
}

impl World {
    fn new() -> Self {
        let router = Namespace::new();
        router.command(
            "ip link add segment type bridge && ip link set segment up && \
             ip addr add 192.0.2.254/24 dev segment && ip addr add 2001:db8:1::ff/64 dev segment nodad && \
             echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        );
        let state = tempfile::tempdir().expect("tempdir");
        let machines = [
            ["192.0.2.1", "2001:db8:1::1"],
            ["192.0.2.2", "2001:db8:1::2"],
            ["198.51.100.3", "2001:db8:2::3"],
        ];
        let machines = machines.into_iter().enumerate();
        let machines = machines.map(|(n, addresses)| machine(&router, n, addresses, state.path())).collect();
        Self { _router: router, machines, _state: state }
    }

    /// The node learns of all, or of those of these numbers.
    fn join(&self, number: usize, peers: &[usize], mode: Mode) -> Joined {
        let nodes: Vec<Node> = peers.iter().map(|peer| self.machines[*peer].node.clone()).collect();
        let machine = &self.machines[number];
        let mesh = Mesh::new(Config { mode, ..Config::default() });
        machine.namespace.run(|| mesh.join(&machine.node, &nodes).expect("join"))
    }

    fn join_all(&self, mode: Mode) {
        for number in 0..3 {
            let joined = self.join(number, &[0, 1, 2], mode);
            assert_eq!(joined.problems, []);
        }
    }

    fn routes(&self, number: usize) -> String {
        self.machines[number].namespace.command("ip route; ip -6 route")
    }

    /// Every pod reaches every other and every node's processes every pod, with their own addresses.
    fn everybody_speaks(&self) {
        for (n, from) in self.machines.iter().enumerate() {
            for to in self.machines.iter().filter(|to| to.node.name != from.node.name) {
                for family in 0..2 {
                    let seen = echo(&to.pod, &from.pod, to.pod_ips[family]);
                    assert_eq!(seen, from.pod_ips[family], "{} to {}", from.node.name, to.node.name);
                    let seen = echo(&to.pod, &from.namespace, to.pod_ips[family]);
                    let own = from.node.addresses.contains(&seen)
                        || from.node.pod_cidrs.iter().any(|cidr| cidr.contains(&seen));
                    assert!(own, "node {n} is seen as {seen}");
                }
            }
        }
    }
}

#[test]
fn pods_of_all_nodes_reach_each_other_directly_or_through_tunnels() {
    let world = World::new();
    world.join_all(Mode::Auto);
    world.everybody_speaks();
    let routes = world.routes(0);
    for expected in [
        "10.244.1.0/24 via 192.0.2.2 dev up0",
        "fd44:0:0:1::/64 via 2001:db8:1::2 dev up0",
        "10.244.2.0/24 via 10.244.2.0 dev corten-vx",
        "fd44:0:0:2::/64 via fe80::",
    ] {
        assert!(routes.contains(expected), "{expected:?} is not in\n{routes}");
    }
    let mtu = world.machines[0].pod.command("ip -o link show eth0 | grep -o 'mtu [0-9]*'");
    assert_eq!(mtu.trim(), "mtu 1450", "a link's 1500 less what a tunnel needs");
    // A whole packet gets through without being cut, and a larger one is not lost.
    let (near, far) = (&world.machines[0], &world.machines[2]);
    for (family, whole) in [(0, 1450 - 28), (1, 1450 - 48)] {
        for size in [whole, 4000] {
            assert_eq!(datagram(&near.pod, &far.pod, far.pod_ips[family], size), size);
        }
    }
}

/// Sends a datagram of that many bytes, and gives how many arrive.
fn datagram(from: &Namespace, at: &Namespace, to: IpAddr, size: usize) -> usize {
    let server = at.run(|| UdpSocket::bind((to, 0)).expect("bind"));
    let any: IpAddr = if to.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
    let client = from.run(|| UdpSocket::bind((any, 0)).expect("bind"));
    client.send_to(&vec![7; size], server.local_addr().expect("address")).expect("send");
    server.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("timeout");
    server.recv(&mut vec![0; size + 1]).expect("a datagram")
}

#[test]
fn tunnels_to_all_where_asked_for() {
    let world = World::new();
    world.join_all(Mode::Auto);
    world.join_all(Mode::Tunnel);
    world.everybody_speaks();
    let routes = world.routes(0);
    assert!(routes.contains("10.244.1.0/24 via 10.244.1.0 dev corten-vx"), "{routes}");
    assert!(!routes.contains("via 192.0.2.2 "), "{routes}");
}

#[test]
fn a_restart_changes_nothing_and_ways_go_with_their_nodes() {
    let world = World::new();
    world.join_all(Mode::Auto);
    let node = &world.machines[0].namespace;
    let shown =
        || node.command("ip route; ip -6 route; ip -d link show corten-vx; bridge fdb show dev corten-vx");
    let before = shown();
    for _ in 0..2 {
        let again = world.join(0, &[0, 1, 2], Mode::Auto);
        assert_eq!((again.changes, again.problems), (0, Vec::new()));
    }
    assert_eq!(shown(), before);
    // What others have made stays, and is not written over.
    node.command(
        "ip route add 10.99.0.0/24 via 192.0.2.2 && ip route add 10.244.9.0/24 via 192.0.2.2 proto static",
    );
    world.join(0, &[1], Mode::Auto);
    let routes = world.routes(0);
    assert!(!routes.contains("10.244.2.0") && !routes.contains("fd44:0:0:2::"), "{routes}");
    assert!(routes.contains("10.244.1.0/24 via 192.0.2.2"), "{routes}");
    assert!(routes.contains("10.99.0.0/24 via 192.0.2.2"), "{routes}");
    assert!(!node.command("ip -o link").contains("corten-vx"), "nobody needs a tunnel");
    let foreign = Node {
        name: "x".to_owned(),
        addresses: world.machines[1].node.addresses.clone(),
        pod_cidrs: vec!["10.244.9.0/24".parse().expect("cidr")],
    };
    let cidr = foreign.pod_cidrs[0];
    let own = &world.machines[0].node;
    let joined = node.run(|| Mesh::new(Config::default()).join(own, &[foreign]).expect("join"));
    assert_eq!(joined.problems, [Problem::ForeignRoute { node: "x".to_owned(), cidr }]);
    // All gone at the end, and nothing else.
    node.run(|| Mesh::new(Config::default()).remove().expect("remove"));
    let routes = world.routes(0);
    assert!(!routes.contains("10.244.1.0/24") && routes.contains("10.244.9.0/24 via 192.0.2.2"), "{routes}");
}

#[test]
fn damage_is_mended() {
    let world = World::new();
    world.join_all(Mode::Auto);
    let node = &world.machines[0].namespace;
    node.command(
        "ip route del 10.244.2.0/24 && ip route del 10.244.1.0/24 && ip addr flush dev corten-vx && \
         bridge fdb del 0a:76:c6:33:64:03 dev corten-vx && ip neigh flush dev corten-vx nud all && \
         ip neigh add 10.9.9.9 lladdr 02:00:00:00:00:01 dev corten-vx nud permanent",
    );
    let mended = world.join(0, &[1, 2], Mode::Auto);
    assert_eq!(mended.problems, []);
    world.everybody_speaks();
    assert!(!node.command("ip neigh show dev corten-vx").contains("10.9.9.9"));
    // Another device in the tunnel's place is never touched.
    node.command("ip link del corten-vx && ip link add corten-vx type bridge");
    let refused = world.join(0, &[1, 2], Mode::Auto);
    let told: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("corten-vx is not a VXLAN interface"), "{told:?}");
    assert!(world.routes(0).contains("10.244.1.0/24 via 192.0.2.2"), "the others are not harmed");
}
