//! How long service routing takes to be made and changed, in network namespaces of its own: `bench/proxy`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{config, ip, port, service};
use net::testing::Namespace;
use proxy::{Endpoint, Engine, Protocol, ServiceSpec, Slice, SlicePort, Update};

fn spec(n: usize) -> ServiceSpec {
    let octets = (0x0a60_0000 + n as u32 + 1).to_be_bytes();
    ServiceSpec { cluster_ips: vec![octets.into()], ports: vec![port(Protocol::Tcp, 80, None)], ..service() }
}

fn slice(addresses: impl Iterator<Item = u32>) -> Slice {
    let endpoint = |n: u32| Endpoint {
        ip: (0x0af4_0000 + n).to_be_bytes().into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("elsewhere".into()),
        hints: None,
    };
    Slice {
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: addresses.map(endpoint).collect(),
    }
}

fn updates(n: usize, endpoints: u32) -> [Update; 2] {
    let name = format!("default/service-{n}");
    let first = n as u32 * 2 + 2;
    [
        Update::Service { name: name.clone(), spec: Some(spec(n)) },
        Update::Slice {
            service: name,
            name: format!("service-{n}-x"),
            slice: Some(slice(first..first + endpoints)),
        },
    ]
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("number").parse().expect("number")
}

fn timed(engine: &mut Engine, updates: impl IntoIterator<Item = Update>) -> (Duration, usize) {
    let start = Instant::now();
    updates.into_iter().for_each(|update| engine.update(update));
    let commit = engine.sync().expect("sync");
    (start.elapsed(), commit.elements)
}

/// How long a connection through a Service takes, at the median; it leads to a listener of the same namespace.
fn connect_time(namespace: &Namespace, engine: &mut Engine, n: usize) -> Duration {
    let listener = namespace.run(|| std::net::TcpListener::bind("127.0.0.2:8080").expect("bind"));
    let accept = std::thread::spawn(move || listener.incoming().take(200).for_each(drop));
    let endpoint = Slice {
        endpoints: vec![Endpoint { ip: ip("127.0.0.2"), ..slice(0..1).endpoints[0].clone() }],
        ..slice(0..0)
    };
    let name = format!("service-{n}-x");
    let service = format!("default/service-{n}");
    timed(engine, [Update::Slice { service: service.clone(), name: name.clone(), slice: Some(endpoint) }]);
    let to = std::net::SocketAddr::new(spec(n).cluster_ips[0], 80);
    namespace.command("ip route replace local 127.0.0.0/8 dev lo && ip route replace 10.0.0.0/8 dev lo");
    let mut times: Vec<Duration> = namespace.run(|| {
        let once = |_| {
            let start = Instant::now();
            let stream = std::net::TcpStream::connect(to).expect("connect");
            drop(stream);
            start.elapsed()
        };
        (0..200).map(once).collect()
    });
    accept.join().expect("accept");
    timed(engine, updates(n, 2));
    times.sort_unstable();
    times[100]
}

fn main() {
    for count in [1_000, 10_000, 44_000] {
        let namespace = Namespace::new();
        let before = resident();
        let mut engine = namespace.run(|| Engine::new(config()).expect("engine"));
        let (cold, elements) = timed(&mut engine, (0..count).flat_map(|n| updates(n, 2)));
        let memory = resident() - before;
        let mut changes: Vec<Duration> = Vec::new();
        for n in 0..50 {
            changes.push(timed(&mut engine, updates(n * 7, 1)).0);
            changes.push(timed(&mut engine, updates(n * 7, 2)).0);
        }
        changes.sort_unstable();
        let latencies = [0, count - 1].map(|n| connect_time(&namespace, &mut engine, n));
        drop(engine);
        let start = Instant::now();
        let mut engine = namespace.run(|| Engine::new(config()).expect("engine"));
        let (_, changed) = timed(&mut engine, (0..count).flat_map(|n| updates(n, 2)));
        println!(
            "{count} services: cold {cold:?} ({elements} elements, {memory} KiB), one change p50 {:?} max {:?}, \
             restart {:?} ({changed} changed), a connection to the first {:?}, to the last {:?}",
            changes[50],
            changes[99],
            start.elapsed(),
            latencies[0],
            latencies[1],
        );
    }
    let namespace = Namespace::new();
    let mut engine = namespace.run(|| Engine::new(config()).expect("engine"));
    let big = |without: u32| {
        let name = "default/big".to_owned();
        let slices = (0..50u32).map(|part| Update::Slice {
            service: "default/big".to_owned(),
            name: format!("big-{part}"),
            slice: Some(slice((part * 100..part * 100 + 100).filter(|n| *n != without))),
        });
        let spec = ServiceSpec { cluster_ips: vec![ip("10.96.0.1")], ..spec(0) };
        std::iter::once(Update::Service { name, spec: Some(spec) }).chain(slices).collect::<Vec<_>>()
    };
    let (cold, _) = timed(&mut engine, big(u32::MAX));
    let mut changes: Vec<Duration> = (0..20)
        .map(|n| timed(&mut engine, big(n * 37).into_iter().skip(1 + n as usize * 37 / 100).take(1)).0)
        .collect();
    changes.sort_unstable();
    println!("5000 endpoints: cold {cold:?}, one endpoint p50 {:?} max {:?}", changes[10], changes[19]);
}
