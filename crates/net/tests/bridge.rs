//! The pod bridge in real network namespaces, with real traffic.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use net::bridge::{Bridge, BridgeConfig};
use net::testing::Namespace;

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
    let addresses = node.run(|| {
        let bridge = bridge(directory.path());
        net::addr::ensure_local("10.96.0.10".parse().expect("ip"), "br-test").expect("ensure_local");
        net::addr::ensure_local("10.96.0.10".parse().expect("ip"), "br-test").expect("and again");
        net::addr::ensure_route("10.96.0.0/12".parse().expect("net"), "br-test").expect("route");
        bridge.set_pod_cidr(&["10.78.0.0/24".parse().expect("cidr")]).expect("set_pod_cidr");
    });
    let () = addresses;
    let shown = node.command("ip -o addr show br-test; ip route");
    assert!(shown.contains("10.96.0.10/32"), "{shown}");
    assert!(shown.contains("10.78.0.1/24"), "{shown}");
    assert!(shown.contains("10.96.0.0/12 dev br-test"), "{shown}");
    assert!(!shown.contains("10.77.1.1"), "{shown}");
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

/// `cargo test -p net --features testing -- --ignored --nocapture attach_time`
#[test]
#[ignore = "a measurement, not a check"]
fn attach_time() {
    let directory = tempfile::tempdir().expect("tempdir");
    let node = Namespace::new();
    let pods: Vec<Namespace> = (0..100).map(|_| Namespace::new()).collect();
    node.run(|| {
        let bridge = bridge(directory.path());
        let start = std::time::Instant::now();
        for (n, pod) in pods.iter().enumerate() {
            bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach");
        }
        let attached = start.elapsed() / 100;
        let start = std::time::Instant::now();
        detach_all(&bridge, &node, 100);
        println!("attach {attached:?}, detach {:?}", start.elapsed() / 100);
    });
}
