//! The server over real sockets, with a resolver of the test's own behind it.

use super::*;
use crate::index::{Entry, Kind};
use crate::wire::{addresses, ask, parse_foreign};

const ZONE: &str = "svc.cluster.local";

/// A resolver that knows everything: that it is 192.0.2.7. Counts what it is asked.
async fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let address = udp.local_addr().expect("address");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
            counter.fetch_add(1, Ordering::Relaxed);
            let query = wire::parse(&buffer[..length]).expect("question");
            let mut answer = Answer::new(&query, code::NO_ERROR, false, Transport::Udp);
            answer.push(Section::Answer, None, 60, &Data::Address([192, 0, 2, 7].into()));
            udp.send_to(&answer.finish(), client).await.expect("send");
        }
    });
    (address, asked)
}

pub(super) struct Running {
    pub address: SocketAddr,
    _stop: tokio_util::sync::DropGuard,
}

async fn start(upstreams: &[SocketAddr]) -> Running {
    start_with(Forwarder::with_servers(upstreams)).await
}

async fn start_with(forwarder: Forwarder) -> Running {
    start_with_forwarder(forwarder, |_| ()).await
}

pub(super) async fn start_with_forwarder(forwarder: Forwarder, more: impl FnOnce(&mut Index)) -> Running {
    let mut index = Index::new("cluster.local");
    let mut service = |name: &str, kind| {
        let entry = Entry { kind, ports: Vec::new() };
        index.set_service(("default".to_owned(), name.to_owned()), Some(entry));
    };
    let many = (1..=100).map(|n| [10, 96, 1, n].into()).collect();
    service("web", Kind::Addresses(vec![[10, 96, 0, 1].into()]));
    service("many", Kind::Addresses(many));
    service("out", Kind::External("example.com".to_owned()));
    service("inner", Kind::External(format!("web.default.{ZONE}")));
    service("circle", Kind::External(format!("circle.default.{ZONE}")));
    more(&mut index);
    index.set_complete();
    let server = Server::new(Arc::new(RwLock::new(index)), forwarder);
    let stop = CancellationToken::new();
    let any = "127.0.0.1:0".parse().expect("address");
    let address = server.listen(any, &stop).await.expect("listen");
    Running { address, _stop: stop.drop_guard() }
}

/// Code, whether it was cut short, and the addresses in the answer.
async fn udp(server: &Running, name: &str, kind: u16) -> (u16, bool, Vec<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let packet = ask(7, name, kind);
    socket.send_to(&packet, server.address).await.expect("send");
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).await.expect("answer");
    read(&buffer[..length], &packet)
}

async fn tcp(server: &Running, name: &str, kind: u16) -> (u16, bool, Vec<String>) {
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    let packet = ask(7, name, kind);
    stream.write_u16(packet.len() as u16).await.expect("write");
    stream.write_all(&packet).await.expect("write");
    let mut answer = vec![0; usize::from(stream.read_u16().await.expect("read"))];
    stream.read_exact(&mut answer).await.expect("read");
    read(&answer, &packet)
}

fn read(answer: &[u8], question: &[u8]) -> (u16, bool, Vec<String>) {
    let foreign = parse_foreign(answer, 7, &question[12..]).expect("an answer to this");
    let ips = addresses(answer, &foreign);
    (foreign.code, foreign.truncated, ips.iter().map(|(_, ip)| ip.to_string()).collect())
}

#[tokio::test]
async fn cluster_names_by_udp_and_tcp() {
    let server = start(&[]).await;
    let web = format!("web.default.{ZONE}");
    let expected = (code::NO_ERROR, false, vec!["10.96.0.1".to_owned()]);
    assert_eq!(udp(&server, &web, kind::A).await, expected);
    assert_eq!(udp(&server, &web.to_uppercase(), kind::A).await, expected);
    assert_eq!(tcp(&server, &web, kind::A).await, expected);
    assert_eq!(udp(&server, &web, kind::AAAA).await, (code::NO_ERROR, false, Vec::new()));
    let missing = format!("missing.default.{ZONE}");
    assert_eq!(udp(&server, &missing, kind::A).await, (code::NO_SUCH_NAME, false, Vec::new()));
    let many = format!("many.default.{ZONE}");
    let (_, truncated, some) = udp(&server, &many, kind::A).await;
    assert!(truncated && !some.is_empty() && some.len() < 100);
    let (_, truncated, all) = tcp(&server, &many, kind::A).await;
    assert!(!truncated && all.len() == 100);
    assert_ne!(tcp(&server, &many, kind::A).await.2, all, "another order each time");
}

#[tokio::test]
async fn other_names_are_forwarded_and_remembered() {
    let (resolver, asked) = upstream().await;
    let server = start(&[resolver]).await;
    let expected = (code::NO_ERROR, false, vec!["192.0.2.7".to_owned()]);
    for name in ["example.com", "EXAMPLE.com", "example.com"] {
        assert_eq!(udp(&server, name, kind::A).await, expected);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "asked once");
    for (name, seen) in [("out", "192.0.2.7"), ("inner", "10.96.0.1")] {
        let name = format!("{name}.default.{ZONE}");
        assert_eq!(udp(&server, &name, kind::A).await, (code::NO_ERROR, false, vec![seen.to_owned()]));
    }
    let circle = format!("circle.default.{ZONE}");
    assert_eq!(udp(&server, &circle, kind::A).await, (code::SERVER_FAILURE, false, Vec::new()));
}

#[tokio::test]
async fn a_stub_domain_has_resolvers_of_its_own() {
    let (usual, asked) = upstream().await;
    let (stub, asked_of_stub) = upstream().await;
    let forwarder = Forwarder::with_stubs(&[usual], &[("Corp.Example.".to_owned(), vec![stub])]);
    let server = start_with(forwarder).await;
    for (name, of_stub) in
        [("a.corp.example", 1), ("b.CORP.example", 2), ("corp.example", 3), ("acorp.example", 3)]
    {
        assert_eq!(udp(&server, name, kind::A).await.2, ["192.0.2.7"], "{name}");
        assert_eq!(asked_of_stub.load(Ordering::Relaxed), of_stub, "{name}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_resolver_the_client_is_told_at_once() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address");
    for upstreams in [Vec::new(), vec![nobody]] {
        let server = start(&upstreams).await;
        let expected = (code::SERVER_FAILURE, false, Vec::new());
        assert_eq!(udp(&server, "example.com", kind::A).await, expected);
        assert_eq!(udp(&server, &format!("out.default.{ZONE}"), kind::A).await, expected);
    }
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_refuses() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address");
    let (resolver, _) = upstream().await;
    let server = start(&[nobody, resolver]).await;
    assert_eq!(udp(&server, "example.com", kind::A).await.2, ["192.0.2.7"]);
}
