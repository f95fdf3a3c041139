//! A node with pods and an outside world, in network namespaces, with real traffic.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use net::bridge::{Bridge, BridgeConfig};
use net::testing::Namespace;
use proxy::{Config, Endpoint, Engine, Protocol, ServicePort, ServiceSpec, Slice, SlicePort, Update};

pub const NODE_IPS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub const OUTSIDE_IPS: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
pub const PORT: u16 = 8080;

pub struct Pod {
    pub namespace: Namespace,
    /// IPv4, IPv6.
    pub ips: [IpAddr; 2],
}

pub struct World {
    pub node: Namespace,
    pub outside: Namespace,
    pub pods: Vec<Pod>,
    _state: tempfile::TempDir,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub fn config() -> Config {
    Config {
        node_name: "here".to_owned(),
        node_ips: NODE_IPS.map(ip).to_vec(),
        cluster_cidr: vec!["10.244.0.0/16".parse().expect("net"), "fd44::/48".parse().expect("net")],
        ..Config::default()
    }
}

impl World {
    /// A node, `count` pods on it that serve on [`PORT`], and a host outside.
    pub fn new(count: usize) -> Self {
        let (node, outside) = (Namespace::new(), Namespace::new());
        node.command(&format!(
            "ip link add up0 type veth peer name up1 && ip link set up1 netns {} && ip link set up0 up && \
             ip addr add {}/24 dev up0 && ip addr add {}/64 dev up0 nodad",
            outside.path().display(),
            NODE_IPS[0],
            NODE_IPS[1],
        ));
        outside.command(&format!(
            "ip addr add {0}/24 dev up1 && ip addr add {1}/64 dev up1 nodad && ip link set up1 up && \
             ip route add default via {2} && ip route add default via {3}",
            OUTSIDE_IPS[0], OUTSIDE_IPS[1], NODE_IPS[0], NODE_IPS[1],
        ));
        node.command(&format!(
            "ip route add default via {} && ip route add default via {}",
            OUTSIDE_IPS[0], OUTSIDE_IPS[1]
        ));
        let state = tempfile::tempdir().expect("tempdir");
        let namespaces: Vec<Namespace> = (0..count).map(|_| Namespace::new()).collect();
        let ips: Vec<Vec<IpAddr>> = node.run(|| {
            let bridge = Bridge::open(BridgeConfig {
                name: "br".to_owned(),
                state_dir: state.path().to_owned(),
                cluster_cidrs: config().cluster_cidr,
                ..BridgeConfig::default()
            })
            .expect("open");
            let cidrs = ["10.244.0.0/24", "fd44:0:0:1::/64"].map(|cidr| cidr.parse().expect("cidr"));
            bridge.set_pod_cidr(&cidrs).expect("set_pod_cidr");
            let attach = |(n, pod): (usize, &Namespace)| {
                bridge.attach(&format!("pod{n}"), &pod.path()).expect("attach").ips
            };
            namespaces.iter().enumerate().map(attach).collect()
        });
        let pods = namespaces.into_iter().zip(ips);
        let pods: Vec<Pod> = pods.map(|(namespace, ips)| Pod { namespace, ips: [ips[0], ips[1]] }).collect();
        for (n, pod) in pods.iter().enumerate() {
            serve_tcp(&pod.namespace, n);
            serve_udp(&pod.namespace, n, pod.ips);
        }
        Self { node, outside, pods, _state: state }
    }

    /// An engine for the node.
    pub fn engine(&self, config: Config) -> Engine {
        self.node.run(|| Engine::new(config).expect("engine"))
    }

    /// A slice with those pods, ready, on this node.
    pub fn slice(&self, pods: &[usize]) -> Slice {
        self.slice_with(pods, |_, _| ())
    }

    pub fn slice_with(&self, pods: &[usize], change: impl Fn(usize, &mut Endpoint)) -> Slice {
        let mut endpoints = Vec::new();
        for &pod in pods {
            for ip in self.pods[pod].ips {
                let mut endpoint = Endpoint {
                    ip,
                    ready: true,
                    serving: true,
                    terminating: false,
                    node: Some("here".into()),
                    hints: None,
                };
                change(pod, &mut endpoint);
                endpoints.push(endpoint);
            }
        }
        let port = |protocol| SlicePort { name: String::new(), protocol, port: PORT };
        Slice { ports: vec![port(Protocol::Tcp), port(Protocol::Udp)], endpoints }
    }
}

pub fn port(protocol: Protocol, port: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort { name: String::new(), protocol, port, node_port }
}

/// A Service of TCP and UDP port 80 on an address of each family.
pub fn service() -> ServiceSpec {
    ServiceSpec {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")],
        ports: vec![port(Protocol::Tcp, 80, None), port(Protocol::Udp, 80, None)],
        ..ServiceSpec::default()
    }
}

pub fn set(engine: &mut Engine, name: &str, spec: Option<ServiceSpec>, slice: Option<Slice>) {
    let name = format!("default/{name}");
    engine.update(Update::Service { name: name.clone(), spec });
    engine.update(Update::Slice { service: name.clone(), name: format!("{name}-1"), slice });
    engine.sync().expect("sync");
}

/// Tells each client the server's number and the client's address, and holds the connection until it is closed.
fn serve_tcp(namespace: &Namespace, number: usize) {
    let listener = namespace.run(|| TcpListener::bind(("::", PORT)).expect("bind"));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            std::thread::spawn(move || {
                let Ok(peer) = connection.peer_addr() else { return };
                let _ = writeln!(connection, "{number} {}", peer.ip().to_canonical());
                let _ = std::io::copy(&mut connection.try_clone().expect("clone"), &mut connection);
            });
        }
    });
}

/// Answers each datagram with what it says, the server's number and the sender's address.
fn serve_udp(namespace: &Namespace, number: usize, ips: [IpAddr; 2]) {
    for ip in ips {
        let socket = namespace.run(|| UdpSocket::bind((ip, PORT)).expect("bind"));
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let question = String::from_utf8_lossy(&buffer[..length]);
                let answer = format!("{question} {number} {}\n", peer.ip());
                let _ = socket.send_to(answer.as_bytes(), peer);
            }
        });
    }
}

/// Who answered, and from which address it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub server: usize,
    pub client: IpAddr,
}

fn parse(text: &str) -> Answer {
    let (server, client) = text.trim().split_once(' ').expect("answer");
    Answer { server: server.parse().expect("number"), client: ip(client) }
}

/// Long enough for a loaded machine; waited for in full only where nothing must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a datagram is sent in that time.
const ATTEMPTS: u32 = 10;
const SILENCE: Duration = Duration::from_millis(300);

pub fn tcp(from: &Namespace, to: &str) -> Result<Answer, ErrorKind> {
    let to: SocketAddr = to.parse().expect("address");
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut text = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).map_err(|e| e.kind())?;
        text.push(byte[0]);
    }
    Ok(parse(&String::from_utf8(text).expect("text")))
}

/// A connection attempt must get no answer whatever.
#[track_caller]
pub fn tcp_silent(from: &Namespace, to: &str) {
    let to: SocketAddr = to.parse().expect("address");
    let result = from.run(|| TcpStream::connect_timeout(&to, SILENCE));
    assert_eq!(result.map_err(|e| e.kind()).expect_err("no answer"), ErrorKind::TimedOut);
}

pub fn udp_socket(from: &Namespace, to: &str) -> UdpSocket {
    let to: SocketAddr = to.parse().expect("address");
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.run(|| UdpSocket::bind(any).expect("bind"));
    socket.connect(to).expect("connect");
    socket.set_read_timeout(Some(PATIENCE / ATTEMPTS)).expect("timeout");
    socket
}

/// Asks until an answer comes: a datagram may be lost.
pub fn udp(socket: &UdpSocket) -> Result<Answer, ErrorKind> {
    let mut last = ErrorKind::TimedOut;
    for _ in 0..ATTEMPTS {
        match udp_once(socket) {
            Err(kind @ (ErrorKind::WouldBlock | ErrorKind::TimedOut)) => last = kind,
            result => return result,
        }
    }
    Err(last)
}

/// Asks once. An answer to an earlier question is not taken for one to this.
pub fn udp_once(socket: &UdpSocket) -> Result<Answer, ErrorKind> {
    static QUESTIONS: AtomicU32 = AtomicU32::new(0);
    let question = QUESTIONS.fetch_add(1, Ordering::Relaxed).to_string();
    socket.send(question.as_bytes()).map_err(|e| e.kind())?;
    loop {
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).map_err(|e| e.kind())?;
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        let (of, answer) = text.split_once(' ').expect("a question and its answer");
        if of == question {
            return Ok(parse(answer));
        }
    }
}

/// How often each server answered `times` connections.
pub fn spread(from: &Namespace, to: &str, times: usize) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(tcp(from, to).expect("answer").server).or_default() += 1;
    }
    counts
}
