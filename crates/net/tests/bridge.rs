//! The pod bridge in real network namespaces, with real traffic.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use net::bridge::{Bandwidth, Bridge, BridgeConfig};
use net::hostport::HostPort;
use net::testing::Namespace;

#[path = "bridge/mesh.rs"]
mod mesh;

fn config(directory: &Path) -> BridgeConfig {
    BridgeConfig { name: "br-test".to_owned(), state_dir: directory.to_owned(), ..BridgeConfig::default() }
}

const CIDRS: [&str; 2] = ["10.77.1.0/24", "fd77:1::/64"];

fn bridge(directory: &Path) -> Bridge {
    let bridge = Bridge::open(config(directory)).expect("open");
    bridge.set_pod_cidr(&CIDRS.map(|cidr| cidr.parse().expect("cidr"))).expect("set_pod_cidr");
    bridge
}

/// Sends a line to `to` from namespace `from`, where a server in `at` echoes it; gives the client's address as
/// the server saw it.
fn echo(at: &Namespace, from: &Namespace, to: IpAddr) -> IpAddr {
    let listener = at.run(|| TcpListener::bind(SocketAddr::new(to, 0)).expect("bind"));
    let address = listener.local_addr().expect("address");
    let server = std::thread::spawn(move || {
        let (mut connection, peer) = listener.accept().expect("accept");
        let mut bytes = [0; 5];
        connection.read_exact(&mut bytes).expect("read");
        connection.write_all(&bytes).expect("write");
        peer.ip()
    });
    let mut client = from.run(|| TcpStream::connect(address).expect("connect"));
    client.write_all(b"hello").expect("write");
    let mut bytes = [0; 5];
    client.read_exact(&mut bytes).expect("read");
    assert_eq!(&bytes, b"hello");
    server.join().expect("server")
}

#[test]
fn pods_and_node_reach_each_other_in_both_families() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    let pods = [Namespace::new(), Namespace::new()];
    let ips: Vec<Vec<IpAddr>> = node.run(|| {
        let bridge = bridge(directory.path());
        let attach = |(n, pod): (usize, &Namespace)| {
            bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach").ips
        };
        pods.iter().enumerate().map(attach).collect()
    });
    for family in 0..2 {
        let seen = echo(&pods[0], &pods[1], ips[0][family]);
        assert_eq!(seen, ips[1][family], "pod to pod keeps the address");
        let seen = echo(&pods[0], &node, ips[0][family]);
        assert_eq!(seen.to_string(), ["10.77.1.1", "fd77:1::1"][family], "node to pod");
        let gateway: IpAddr = ["10.77.1.1", "fd77:1::1"][family].parse().expect("address");
        assert_eq!(echo(&node, &pods[0], gateway), ips[0][family], "pod to node");
    }
    // Through the node, never straight: it must be able to say no.
    node.command(
        "nft add table ip t && nft 'add chain ip t f { type filter hook forward priority 0; policy drop; }'",
    );
    let to = SocketAddr::new(ips[0][0], 9);
    let refused = pods[1].run(|| TcpStream::connect_timeout(&to, std::time::Duration::from_millis(300)));
    assert_eq!(refused.map_err(|e| e.kind()).expect_err("dropped"), std::io::ErrorKind::TimedOut);
    let hairpin = node.command("cat /sys/class/net/br-test/mtu 2>/dev/null; bridge -d link show");
    assert_eq!(hairpin.matches("hairpin on").count(), 2, "{hairpin}");
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (node, outside, pod) = (Namespace::new(), Namespace::new(), Namespace::new());
    node.command("ip link add up0 type veth peer name up1");
    let peer = outside.path();
    node.command(&format!("ip link set up1 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad && ip link set up0 up", peer.display()));
    outside.command(
        "ip addr add 192.0.2.2/24 dev up1 && ip addr add 2001:db8::2/64 dev up1 nodad && ip link set up1 up",
    );
    node.run(|| bridge(directory.path()).attach("a", &pod.path()).expect("attach"));
    for (to, seen) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        assert_eq!(echo(&outside, &pod, to.parse().expect("ip")).to_string(), seen);
    }
}

#[test]
fn attach_and_detach_can_be_repeated_and_survive_a_restart() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    let pod = Namespace::new();
    let first = node.run(|| bridge(directory.path()).attach("a", &pod.path()).expect("attach"));
    let again = node.run(|| bridge(directory.path()).attach("a", &pod.path()).expect("attach again"));
    assert_eq!(first, again);
    node.run(|| {
        let bridge = bridge(directory.path());
        bridge.retain(&["a"]).expect("retain");
        assert_eq!(bridge.ips("a"), Some(first.ips.clone()));
        bridge.retain(&[]).expect("retain nothing");
        assert_eq!(bridge.ips("a"), None);
        bridge.detach("a").expect("detach what is gone");
    });
    let links = node.command("ip -o link");
    assert!(!links.contains("veth"), "{links}");
    assert!(!pod.command("ip -o link").contains("eth0"));
}

#[test]
fn errors_name_the_sandbox_and_the_kernels_reason() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    node.run(|| {
        let bridge = Bridge::open(config(directory.path())).expect("open");
        let early = bridge.attach("x", Path::new("/proc/self/ns/net")).expect_err("no CIDR");
        assert!(early.to_string().contains("sandbox x"), "{early}");
        assert!(early.to_string().contains("podCIDR"), "{early}");
    });
    node.command("ip link add br-test type veth peer name other");
    node.run(|| {
        let bridge = Bridge::open(config(directory.path())).expect("open");
        let clash = bridge.set_pod_cidr(&[CIDRS[0].parse().expect("cidr")]).expect_err("clash");
        assert!(clash.to_string().contains("br-test is not a bridge"), "{clash}");
    });
    node.command("ip link del br-test");
    node.run(|| {
        let bridge = bridge(directory.path());
        let gone = bridge.attach("x", Path::new("/nonexistent")).expect_err("no namespace");
        assert!(gone.to_string().contains("/nonexistent"), "{gone}");
    });
}

#[test]
fn a_new_pod_cidr_replaces_the_gateway_and_keeps_host_addresses() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    node.run(|| {
        let bridge = bridge(directory.path());
        net::addr::ensure_local("10.96.0.10".parse().expect("ip"), "br-test").expect("ensure_local");
        net::addr::ensure_local("10.96.0.10".parse().expect("ip"), "br-test").expect("and again");
        net::addr::ensure_route("10.96.0.0/12".parse().expect("net"), "br-test").expect("route");
        bridge.set_pod_cidr(&["10.78.0.0/24".parse().expect("cidr")]).expect("set_pod_cidr");
    });
    let shown = node.command("ip -o addr show br-test; ip route");
    assert!(shown.contains("10.96.0.10/32"), "{shown}");
    assert!(shown.contains("10.78.0.1/24"), "{shown}");
    assert!(shown.contains("10.96.0.0/12 dev br-test"), "{shown}");
    assert!(!shown.contains("10.77.1.1"), "{shown}");
}

fn tcp(host_ip: Option<&str>, host_port: u16, pod_port: u16) -> HostPort {
    let host_ip = host_ip.map(|ip| ip.parse().expect("address"));
    HostPort { protocol: 6, host_ip, host_port, pod_port }
}

/// Whether a connection from `from` reaches a listener of `pod` through `to`; gives the client as the pod sees it.
fn through(pod: &Namespace, listen: u16, from: &Namespace, to: &str) -> Option<IpAddr> {
    let listener = pod.run(|| TcpListener::bind(("::", listen)).expect("bind"));
    let to: SocketAddr = to.parse().expect("address");
    let client = from.run(|| TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5))).ok()?;
    let (_, peer) = listener.accept().expect("accept");
    drop(client);
    Some(peer.ip().to_canonical())
}

#[test]
fn host_ports_lead_to_the_pod_until_it_is_detached() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (node, outside) = (Namespace::new(), Namespace::new());
    let pods = [Namespace::new(), Namespace::new()];
    node.command(&format!(
        "ip link add up0 type veth peer name up1 && ip link set up1 netns {} && ip link set up0 up && \
         ip addr add 192.0.2.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad",
        outside.path().display()
    ));
    outside.command(
        "ip addr add 192.0.2.2/24 dev up1 && ip addr add 2001:db8::2/64 dev up1 nodad && ip link set up1 up",
    );
    let bridge = node.run(|| {
        let bridge = bridge(directory.path());
        for (n, pod) in pods.iter().enumerate() {
            bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach");
        }
        let ports = [tcp(None, 8080, 80), tcp(Some("192.0.2.1"), 8081, 81), tcp(Some("127.0.0.1"), 8082, 82)];
        bridge.set_host_ports("pod0", &ports).expect("set");
        bridge
    });
    let seen = |ip: &str| Some(ip.parse::<IpAddr>().expect("address"));
    assert_eq!(
        through(&pods[0], 80, &outside, "192.0.2.1:8080"),
        seen("192.0.2.2"),
        "the client's own address"
    );
    assert_eq!(through(&pods[0], 80, &outside, "[2001:db8::1]:8080"), seen("2001:db8::2"));
    assert_eq!(through(&pods[0], 81, &outside, "192.0.2.1:8081"), seen("192.0.2.2"));
    assert_eq!(through(&pods[0], 80, &node, "127.0.0.1:8080"), seen("10.77.1.1"));
    assert_eq!(through(&pods[0], 82, &node, "127.0.0.1:8082"), seen("10.77.1.1"));
    assert_eq!(through(&pods[0], 82, &outside, "192.0.2.1:8082"), None, "on the loopback only");
    assert_eq!(through(&pods[0], 80, &pods[1], "192.0.2.1:8080"), seen("10.77.1.3"));
    assert_eq!(through(&pods[0], 80, &pods[0], "192.0.2.1:8080"), seen("10.77.1.1"), "to itself");
    drop(bridge);
    // Another process finds them, takes one over for another pod, and removes both pods.
    node.run(|| {
        let bridge = self::bridge(directory.path());
        bridge.set_host_ports("pod1", &[tcp(None, 8080, 80)]).expect("take over");
        assert!(through(&pods[1], 80, &outside, "192.0.2.1:8080").is_some());
        assert!(through(&pods[0], 81, &outside, "192.0.2.1:8081").is_some());
        bridge.detach("pod0").expect("detach");
        assert!(through(&pods[1], 80, &outside, "192.0.2.1:8080").is_some());
        bridge.detach("pod1").expect("detach");
    });
    assert_eq!(through(&node, 9, &outside, "192.0.2.1:8080"), None);
    let table = node.command("nft list table inet corten-net");
    assert!(!table.contains("808"), "{table}");
}

#[test]
fn pods_do_not_reach_the_nodes_loopback() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (node, pod) = (Namespace::new(), Namespace::new());
    node.run(|| bridge(directory.path()).attach("a", &pod.path()).expect("attach"));
    let listener = node.run(|| TcpListener::bind("127.0.0.1:0").expect("bind"));
    let to = listener.local_addr().expect("address");
    // A pod that sends loopback addresses out of its interface, against all custom.
    pod.command(
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet && ip addr del 127.0.0.1/8 dev lo && \
         ip route add 127.0.0.0/8 via 10.77.1.1 src 10.77.1.2",
    );
    let guarded = pod.run(|| TcpStream::connect_timeout(&to, std::time::Duration::from_millis(300)));
    assert!(guarded.is_err(), "the guard holds");
    // Without it the same attempt gets through: the test is worth something.
    node.command("nft flush chain inet corten-net guard");
    assert!(pod.run(|| TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5))).is_ok());
}

#[test]
fn bandwidth_is_limited_both_ways() {
    let directory = tempfile::tempdir().expect("tempdir");
    let (node, pod) = (Namespace::new(), Namespace::new());
    node.run(|| {
        let bridge = bridge(directory.path());
        bridge.attach("a", &pod.path()).expect("attach");
        let limits = Bandwidth { ingress: Some(8_000_000), egress: Some(40_000_000_000) };
        bridge.set_bandwidth("a", &pod.path(), limits).expect("limit");
        bridge.set_bandwidth("a", &pod.path(), limits).expect("and again");
    });
    let shown = node.command("tc qdisc show");
    assert!(shown.contains("tbf") && shown.contains("rate 8Mbit"), "{shown}");
    let shown = pod.command("tc qdisc show dev eth0");
    assert!(shown.contains("rate 40Gbit"), "{shown}");
}

fn detach_all(bridge: &Bridge, node: &Namespace, count: usize) {
    std::thread::scope(|scope| {
        for n in 0..count {
            scope.spawn(move || {
                node.run(|| bridge.detach(&format!("pod{n}")).expect("detach"));
            });
        }
    });
}

#[test]
fn many_detach_at_once() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    let pods: Vec<Namespace> = (0..8).map(|_| Namespace::new()).collect();
    let bridge = node.run(|| bridge(directory.path()));
    node.run(|| {
        for (n, pod) in pods.iter().enumerate() {
            bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach");
        }
    });
    detach_all(&bridge, &node, 7);
    let links = node.command("ip -o link");
    assert_eq!(links.matches("veth").count(), 1, "{links}");
    assert!(bridge.ips("pod6").is_none());
    assert!(bridge.ips("pod7").is_some());
}

/// What arrives at a pod's UDP port: the first message.
fn first_heard(at: &Namespace, ip: IpAddr, send: impl FnOnce(SocketAddr)) -> (String, IpAddr) {
    let socket = at.run(|| UdpSocket::bind(SocketAddr::new(ip, 0)).expect("bind"));
    send(socket.local_addr().expect("address"));
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("timeout");
    let mut bytes = [0; 16];
    let (length, from) = socket.recv_from(&mut bytes).expect("a message");
    (String::from_utf8_lossy(&bytes[..length]).into_owned(), from.ip())
}

fn say(from: &Namespace, source: IpAddr, to: SocketAddr, what: &str) {
    from.run(|| {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).expect("bind");
        socket.send_to(what.as_bytes(), to).expect("send");
    });
}

/// The Ethernet address of a pod. (What `/sys` shows is of another namespace.)
fn ethernet(pod: &Namespace) -> String {
    let link = pod.command("ip -o link show eth0");
    let mut words = link.split_whitespace().skip_while(|word| *word != "link/ether");
    words.nth(1).expect("an address").to_owned()
}

/// Whatever a pod puts on the wire: it comes from its own addresses, and to others by way of the node.
#[test]
fn a_pod_cannot_be_another() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    let pods = [Namespace::new(), Namespace::new(), Namespace::new()];
    let (bridge, ips) = node.run(|| {
        let bridge = bridge(directory.path());
        let attach = |(n, pod): (usize, &Namespace)| {
            bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach").ips
        };
        let ips: Vec<Vec<IpAddr>> = pods.iter().enumerate().map(attach).collect();
        (bridge, ips)
    });
    let [liar, victim, listener] = &pods;
    for (to, from) in ips[2].iter().zip(&ips[0]) {
        // Knows its gateway: what looks for that must not be what is dropped.
        assert_eq!(echo(listener, liar, *to), *from);
    }
    let heard = |family: usize| {
        first_heard(listener, ips[2][family], |to| {
            say(liar, ips[1][family], to, "as another");
            say(liar, ips[0][family], to, "as itself");
        })
    };
    for family in 0..2 {
        let bits = [32, 128][family];
        liar.command(&format!("ip addr add {}/{bits} dev eth0 nodad", ips[1][family]));
        assert_eq!(heard(family), ("as itself".to_owned(), ips[0][family]));
    }
    // It did not get the other's traffic either, having told the neighbourhood of its address.
    for family in 0..2 {
        let any = ["0.0.0.0", "::"][family].parse().expect("address");
        let got = first_heard(victim, ips[1][family], |to| say(&node, any, to, "x"));
        assert_eq!(got.0, "x");
    }
    // Straight to another's Ethernet address, past the node.
    let mac = ethernet(listener);
    let straight = first_heard(listener, ips[2][0], |to| {
        let ip = ips[2][0];
        liar.command(&format!(
            "ip route add {ip} dev eth0 && ip neigh replace {ip} lladdr {mac} dev eth0 nud permanent"
        ));
        say(liar, ips[0][0], to, "straight");
        liar.command(&format!("ip neigh del {ip} dev eth0 && ip route del {ip} dev eth0"));
        say(liar, ips[0][0], to, "by the node");
    });
    assert_eq!(straight.0, "by the node");
    // Under another's Ethernet address nothing goes, and the bridge learns nothing.
    let theirs = ethernet(victim);
    let own = ethernet(liar);
    let masked = first_heard(listener, ips[2][0], |to| {
        liar.command(&format!("ip link set eth0 address {}", theirs));
        say(liar, ips[0][0], to, "masked");
        liar.command(&format!("ip link set eth0 address {}", own));
        say(liar, ips[0][0], to, "unmasked");
    });
    assert_eq!(masked.0, "unmasked");
    // Without the rules the same attempt gets through: the test is worth something.
    node.command("nft flush chain bridge corten-net sources");
    assert_eq!(heard(0).0, "as another");
    // A process that comes later finds who may send what; a pod that is gone leaves nothing.
    node.run(|| {
        drop(bridge);
        let bridge = self::bridge(directory.path());
        assert_eq!(heard(0).0, "as itself");
        pods.iter().enumerate().for_each(|(n, _)| bridge.detach(&format!("pod{n}")).expect("detach"));
    });
    let left = node.command("nft list table bridge corten-net");
    assert!(!left.contains("elements"), "{left}");
}
