//! Policies on real packets: pods in network namespaces on a node, and a host outside.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use net::bridge::{Bridge, BridgeConfig};
use net::testing::Namespace;
use netpolicy::{Config, Engine, Pod, Policy, Sandbox, Update};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);
const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// What every pod serves on.
const PORTS: [u16; 2] = [8080, 8081];

struct World {
    node: Namespace,
    outside: Namespace,
    pods: Vec<(Namespace, Vec<IpAddr>)>,
    _state: tempfile::TempDir,
}

impl World {
    fn new(count: usize) -> Self {
        let (node, outside) = (Namespace::new(), Namespace::new());
        node.command(&format!(
            "ip link add up0 type veth peer name up1 && ip link set up1 netns {} && ip link set up0 up && \
             ip addr add 192.0.2.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad",
            outside.path().display()
        ));
        outside.command(
            "ip addr add 192.0.2.2/24 dev up1 && ip addr add 2001:db8::2/64 dev up1 nodad && ip link set up1 up && \
             ip route add default via 192.0.2.1 && ip route add default via 2001:db8::1",
        );
        let state = tempfile::tempdir().expect("tempdir");
        let pods: Vec<Namespace> = (0..count).map(|_| Namespace::new()).collect();
        let ips: Vec<Vec<IpAddr>> = node.run(|| {
            let bridge = Bridge::open(BridgeConfig {
                name: "br".to_owned(),
                state_dir: state.path().to_owned(),
                // Pods keep their addresses: who speaks is to be seen from outside too.
                cluster_cidrs: ["0.0.0.0/0", "::/0"].map(|cidr| cidr.parse().expect("cidr")).to_vec(),
                ..BridgeConfig::default()
            })
            .expect("open");
            let cidrs = ["10.244.0.0/24", "fd44::/64"].map(|cidr| cidr.parse().expect("cidr"));
            bridge.set_pod_cidr(&cidrs).expect("set_pod_cidr");
            let attach = |(n, pod): (usize, &Namespace)| {
                bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach").ips
            };
            pods.iter().enumerate().map(attach).collect()
        });
        for namespace in pods.iter().chain([&outside, &node]) {
            serve(namespace);
        }
        let world = Self { node, outside, pods: pods.into_iter().zip(ips).collect(), _state: state };
        // A new link's own IPv6 address takes the kernel a moment, and until then it knows no neighbours.
        for (pod, ips) in &world.pods {
            for (from, to) in ips
                .iter()
                .map(|ip| (&world.outside, *ip))
                .chain(OUTSIDE.map(|ip| (pod, ip.parse().expect("ip"))))
            {
                let to = SocketAddr::new(to, PORTS[0]);
                from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("no policy, no limit");
            }
        }
        world
    }

    fn engine(&self) -> Engine {
        let config = Config { node_name: "here".to_owned(), ..Config::default() };
        let mut engine = self.node.run(|| Engine::new(&config).expect("engine"));
        for (n, (_, ips)) in self.pods.iter().enumerate() {
            let labels = [("pod".to_owned(), n.to_string())].into();
            let pod = Pod {
                labels,
                ips: ips.clone(),
                node: "here".to_owned(),
                ended: false,
                ports: vec![(6, "web".to_owned(), PORTS[0])],
            };
            engine.update(Update::Pod { name: format!("default/pod-{n}"), pod: Some(pod) });
        }
        engine.update(Update::Namespace { name: "default".to_owned(), labels: Some([].into()) });
        engine.sync().expect("sync");
        engine
    }

    fn tcp(&self, from: &Namespace, to: IpAddr, port: u16) -> bool {
        connect(from, SocketAddr::new(to, port)).is_some()
    }

    fn udp(&self, from: &Namespace, to: IpAddr, port: u16) -> bool {
        let any: IpAddr = if to.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
        let socket = from.run(|| UdpSocket::bind((any, 0)).expect("bind"));
        socket.set_read_timeout(Some(SILENCE)).expect("timeout");
        socket.connect((to, port)).expect("connect");
        socket.send(b"?").expect("send");
        socket.recv(&mut [0; 8]).is_ok()
    }
}

/// Echoes what it is sent, by TCP and UDP, on both ports.
fn serve(namespace: &Namespace) {
    for port in PORTS {
        let listener = namespace.run(|| TcpListener::bind(("::", port)).expect("bind"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().expect("clone");
                    let _ = std::io::copy(&mut reader, &mut &stream);
                });
            }
        });
        let socket = namespace.run(|| UdpSocket::bind(("::", port)).expect("bind"));
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], peer);
            }
        });
    }
}

/// A connection over which something was said and answered; nothing when no answer came at all.
fn connect(from: &Namespace, to: SocketAddr) -> Option<TcpStream> {
    match from.run(|| TcpStream::connect_timeout(&to, SILENCE)) {
        Ok(stream) => {
            assert!(speaks(&stream, PATIENCE), "a connection that was let in must work");
            Some(stream)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "what is not allowed is dropped");
            None
        }
    }
}

fn speaks(mut stream: &TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).expect("timeout");
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut [0; 5]).is_ok()
}

fn set(engine: &mut Engine, name: &str, spec: Value) {
    let object = serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a policy");
    engine.update(Update::Policy { name: format!("default/{name}"), policy: Some(Policy::parse(&object)) });
    engine.sync().expect("sync");
}

fn unset(engine: &mut Engine, name: &str) {
    engine.update(Update::Policy { name: format!("default/{name}"), policy: None });
    engine.sync().expect("sync");
}

#[test]
fn ingress_by_pods_ports_and_blocks_in_both_families() {
    let world = World::new(3);
    let mut engine = world.engine();
    let [server, friend, other] = [0, 1, 2].map(|n| &world.pods[n]);
    for ip in &server.1 {
        assert!(
            world.tcp(&other.0, *ip, 8080) && world.tcp(&world.outside, *ip, 8080),
            "no policy, no limit"
        );
    }
    let only = json!({"matchLabels": {"pod": "0"}});
    set(
        &mut engine,
        "web",
        json!({"podSelector": only, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"pod": "1"}}}], "ports": [{"port": "web"}]},
            {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
             "ports": [{"protocol": "UDP", "port": 8000, "endPort": 8080}]},
        ]}),
    );
    let listed = world.node.try_command("nft list ruleset 2>&1");
    assert!(listed.status.success(), "the nft program can show what we made");
    for ip in &server.1 {
        assert!(world.tcp(&friend.0, *ip, 8080), "the friend, by the port's name");
        assert!(!world.tcp(&friend.0, *ip, 8081), "another port");
        assert!(!world.tcp(&other.0, *ip, 8080), "another pod");
        assert!(!world.tcp(&world.outside, *ip, 8080), "another protocol");
        assert!(world.udp(&world.outside, *ip, 8080) && !world.udp(&world.outside, *ip, 8081), "a range");
        assert!(world.tcp(&world.node, *ip, 8081), "the node's own processes always");
        assert!(world.tcp(&server.0, *ip, 8081), "the pod itself");
    }
    for ip in &friend.1 {
        assert!(world.tcp(&server.0, *ip, 8080), "what the pod begins is not incoming");
        assert!(world.tcp(&other.0, *ip, 8081), "other pods are not limited");
    }
    unset(&mut engine, "web");
    for ip in &server.1 {
        assert!(world.tcp(&other.0, *ip, 8081));
    }
}

#[test]
fn egress_by_blocks_with_exceptions_and_pods() {
    let world = World::new(3);
    let mut engine = world.engine();
    let [client, friend, other] = [0, 1, 2].map(|n| &world.pods[n]);
    set(
        &mut engine,
        "out",
        json!({"podSelector": {"matchLabels": {"pod": "0"}}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "1"}}}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]}}], "ports": [{"port": 8080}]},
        ]}),
    );
    for ip in &friend.1 {
        assert!(world.tcp(&client.0, *ip, 8081) && world.udp(&client.0, *ip, 8081), "the friend, anything");
    }
    for ip in &other.1 {
        assert!(!world.tcp(&client.0, *ip, 8080), "an exception, and a family that no block names");
    }
    let [v4, v6] = OUTSIDE.map(|ip| ip.parse::<IpAddr>().expect("ip"));
    assert!(world.tcp(&client.0, v4, 8080) && !world.tcp(&client.0, v4, 8081));
    assert!(!world.tcp(&client.0, v6, 8080));
    for ip in &client.1 {
        assert!(world.tcp(&other.0, *ip, 8080), "answers are not outgoing");
    }
    // To its own node, whatever the policy.
    assert!(world.tcp(&client.0, "10.244.0.1".parse().expect("ip"), 8081));
    // Now nothing at all: several policies add up, so the first has to go.
    set(&mut engine, "none", json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}));
    assert!(world.tcp(&client.0, v4, 8080), "what one policy allows no other forbids");
    unset(&mut engine, "out");
    assert!(!world.tcp(&client.0, v4, 8080));
    assert!(!world.tcp(&friend.0, other.1[0], 8080), "default deny");
}

#[test]
fn a_change_cuts_what_it_forbids_and_nothing_else() {
    let world = World::new(3);
    let mut engine = world.engine();
    let server = &world.pods[0];
    let to = SocketAddr::new(server.1[0], 8080);
    let allowed = |who: &str| {
        json!({"podSelector": {"matchLabels": {"pod": "0"}}, "ingress": [
            {"from": [{"podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": [who, "1"]}]}}]},
        ]})
    };
    set(&mut engine, "web", allowed("2"));
    let [kept, cut] = [1, 2].map(|n| connect(&world.pods[n].0, to).expect("allowed"));
    set(&mut engine, "web", allowed("1"));
    assert!(speaks(&kept, PATIENCE), "still allowed");
    assert!(!speaks(&cut, SILENCE), "an established connection that is not allowed any more");
    // Allowed again, it goes on where it was: TCP sends again what was lost.
    set(&mut engine, "web", allowed("2"));
    cut.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    (&cut).read_exact(&mut [0; 5]).expect("what was said meanwhile is answered");
    // A restart, with policies as they were, is not noticed; nor is the moment before it knows anything.
    drop(engine);
    assert!(speaks(&kept, PATIENCE));
    let mut engine = world.engine();
    set(&mut engine, "web", allowed("1"));
    assert!(speaks(&kept, PATIENCE));
    assert!(connect(&world.pods[2].0, to).is_none());
    // A label is enough to be let in, and one to be isolated.
    let relabelled = |n: usize, label: &str| Update::Pod {
        name: format!("default/pod-{n}"),
        pod: Some(Pod {
            labels: [("pod".to_owned(), label.to_owned())].into(),
            ips: world.pods[n].1.clone(),
            node: "here".to_owned(),
            ..Pod::default()
        }),
    };
    engine.update(relabelled(2, "1"));
    engine.sync().expect("sync");
    assert!(connect(&world.pods[2].0, to).is_some());
    assert!(connect(&world.outside, SocketAddr::new(world.pods[1].1[0], 8080)).is_some());
    engine.update(relabelled(1, "0"));
    engine.sync().expect("sync");
    assert!(connect(&world.outside, SocketAddr::new(world.pods[1].1[0], 8080)).is_none());
}

#[test]
fn foreign_tables_stay_and_ours_can_be_removed() {
    let world = World::new(1);
    world.node.command(
        "nft add table ip other && nft 'add chain ip other c { type filter hook forward priority 0; }'",
    );
    let mut engine = world.engine();
    set(&mut engine, "none", json!({"podSelector": {}}));
    let sandbox = Sandbox {
        namespace: "default".to_owned(),
        name: "new".to_owned(),
        labels: [].into(),
        ips: vec!["10.244.0.99".parse().expect("ip")],
    };
    engine.update(Update::Sandbox(sandbox));
    engine.sync().expect("sync");
    let set = world.node.command("nft list set ip corten-netpolicy ingress-isolated");
    assert!(set.contains("10.244.0.99"), "before anybody could have spoken to it: {set}");
    drop(engine);
    world.node.run(|| netpolicy::remove(&Config::default()).expect("remove"));
    let tables = world.node.command("nft list tables");
    assert!(tables.contains("ip other") && !tables.contains("netpolicy"), "{tables}");
}
