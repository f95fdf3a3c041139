//! Features of Services beyond addresses and ports, each with real traffic.

use std::sync::atomic::{AtomicBool, Ordering};

use proxy::{Endpoint, Hints, Protocol, ServiceSpec, Update};

use crate::SERVICE;
use crate::common::{
    NODE_IPS, World, config, ip, port, service, set, spread, tcp, udp, udp_once, udp_socket,
};

fn answering(world: &World, from: usize, address: &str) -> Vec<usize> {
    spread(&world.pods[from].namespace, address, 12).into_keys().collect()
}

/// `trafficDistribution` and topology hints: near endpoints, as long as every one has hints and one is meant for us.
#[test]
fn hints_keep_traffic_near() {
    let world = World::new(4);
    let mut engine = world.engine(config());
    engine.update(Update::Zone(Some("east".to_owned())));
    let hinted = |zones: [&'static str; 3], nodes: [&'static str; 3]| {
        move |pod: usize, endpoint: &mut Endpoint| {
            let list = |names: [&str; 3]| match names[pod] {
                "" => Vec::new(),
                name => vec![name.to_owned()],
            };
            endpoint.hints = Some(Box::new(Hints { zones: list(zones), nodes: list(nodes) }));
        }
    };
    let mut check = |zones: [&'static str; 3], nodes: [&'static str; 3], expected: &[usize]| {
        let slice = world.slice_with(&[0, 1, 2], hinted(zones, nodes));
        set(&mut engine, "web", Some(service()), Some(slice));
        for address in SERVICE {
            assert_eq!(answering(&world, 3, address), expected, "{zones:?} {nodes:?}");
        }
    };
    check(["east", "west", "east"], ["", "", ""], &[0, 2]);
    check(["east", "west", "east"], ["there", "there", "here"], &[2]);
    check(["west", "west", "north"], ["", "", ""], &[0, 1, 2]);
    check(["east", "", "west"], ["", "", ""], &[0, 1, 2]);
    check(["west", "east", "west"], ["there", "there", "there"], &[1]);
    // Those who may answer from outside are still this node's own, whatever the hints.
    let spec = ServiceSpec { internal_local: true, ..service() };
    let slice = world.slice_with(&[0, 1, 2], hinted(["west", "west", "west"], ["", "", ""]));
    set(&mut engine, "web", Some(spec), Some(slice));
    assert_eq!(answering(&world, 3, SERVICE[0]), [0, 1, 2]);
}

/// One Service with several ports of several names and protocols; each leads to its own.
#[test]
fn every_port_leads_to_its_own_endpoints() {
    let world = World::new(2);
    let mut engine = world.engine(config());
    let named = |name: &str, number: u16| proxy::ServicePort {
        name: name.to_owned(),
        ..port(Protocol::Tcp, number, None)
    };
    let spec = ServiceSpec { ports: vec![named("a", 80), named("b", 443)], ..service() };
    engine.update(Update::Service { name: "default/web".to_owned(), spec: Some(spec) });
    for (pod, name) in [(0, "a"), (1, "b")] {
        let mut slice = world.slice(&[pod]);
        slice.ports.retain(|port| port.protocol == Protocol::Tcp);
        slice.ports[0].name = name.to_owned();
        let update =
            Update::Slice { service: "default/web".to_owned(), name: name.to_owned(), slice: Some(slice) };
        engine.update(update);
    }
    engine.sync().expect("sync");
    let client = &world.pods[0].namespace;
    assert_eq!(tcp(client, "10.96.0.1:80").expect("answer").server, 0);
    assert_eq!(tcp(client, "[fd96::1]:443").expect("answer").server, 1);
    assert!(tcp(client, "10.96.0.1:8080").is_err(), "the endpoint's port is not the Service's");
}

/// Node ports at the loopback address, where that is asked for; pods and others never get there.
#[test]
fn node_ports_on_the_loopback_address() {
    let world = World::new(2);
    let mut config = config();
    config.node_ips.push(ip("127.0.0.1"));
    config.localhost_node_ports = true;
    let mut engine = world.engine(config);
    let spec = ServiceSpec { ports: vec![port(Protocol::Tcp, 80, Some(30080))], ..service() };
    set(&mut engine, "web", Some(spec), Some(world.slice(&[0])));
    assert_eq!(tcp(&world.node, "127.0.0.1:30080").expect("from the node").server, 0);
    assert_eq!(tcp(&world.node, &format!("{}:30080", NODE_IPS[0])).expect("from the node").server, 0);
    assert!(tcp(&world.pods[1].namespace, "127.0.0.1:30080").is_err(), "a pod's loopback is its own");
}

/// A load balancer that answers for itself (`ipMode: Proxy`) is sent to; one that sends on (`VIP`) is routed here.
#[test]
fn the_mode_of_a_load_balancers_address() {
    let world = World::new(2);
    let mut engine = world.engine(config());
    let object = |mode: &str| {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.8", "ipMode": mode}]}},
        }))
        .expect("a Service")
    };
    set(&mut engine, "web", ServiceSpec::parse(&object("VIP")), Some(world.slice(&[0])));
    assert_eq!(tcp(&world.pods[1].namespace, "198.51.100.8:80").expect("answer").server, 0);
    set(&mut engine, "web", ServiceSpec::parse(&object("Proxy")), Some(world.slice(&[0])));
    let services = world.node.command("nft list map ip corten-proxy services");
    assert!(!services.contains("198.51.100.8"), "packets to it leave the node: {services}");
    assert_eq!(tcp(&world.pods[1].namespace, "10.96.0.1:80").expect("answer").server, 0);
}

/// Kernels without SCTP still route it: the rules are there.
#[test]
fn sctp_is_routed_beside_the_others() {
    let world = World::new(1);
    let mut engine = world.engine(config());
    let spec = ServiceSpec { ports: vec![port(Protocol::Sctp, 3868, Some(30868))], ..service() };
    let mut slice = world.slice(&[0]);
    slice.ports = vec![proxy::SlicePort { name: String::new(), protocol: Protocol::Sctp, port: 3868 }];
    set(&mut engine, "diameter", Some(spec), Some(slice));
    let services = world.node.command("nft list map ip corten-proxy services");
    for key in ["10.96.0.1 . sctp . 3868", &format!("{} . sctp . 30868", NODE_IPS[0])] {
        assert!(services.contains(key), "{services}");
    }
}

/// Datagrams go on while the endpoints are replaced one after the other; each is answered, at the first time of asking.
#[test]
fn no_datagram_is_lost_in_a_rolling_update() {
    let world = World::new(6);
    let mut engine = world.engine(config());
    set(&mut engine, "dns", Some(service()), Some(world.slice(&[0, 1])));
    let (done, ready) = (AtomicBool::new(false), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let long_lived = SERVICE.map(|address| udp_socket(&world.pods[5].namespace, address));
            let (mut answered, mut servers) = (0, std::collections::BTreeSet::new());
            ready.wait();
            while !done.load(Ordering::Relaxed) || answered < 200 {
                let fresh = SERVICE.map(|address| udp_socket(&world.pods[5].namespace, address));
                for socket in long_lived.iter().chain(&fresh) {
                    servers.insert(udp_once(socket).expect("a datagram was lost").server);
                    answered += 1;
                }
            }
            for socket in &long_lived {
                assert_eq!(udp(socket).expect("answer").server, 4, "who stays goes along");
            }
            servers
        });
        ready.wait();
        // As a Deployment does it: a new one is there before an old one goes; those that end still answer.
        for endpoints in [&[0, 1, 2][..], &[1, 2], &[1, 2, 3], &[2, 3], &[2, 3, 4], &[3, 4], &[4]] {
            set(&mut engine, "dns", Some(service()), Some(world.slice(endpoints)));
            world.node.run(|| engine.forget_stale()).expect("forget");
        }
        done.store(true, Ordering::Relaxed);
        let servers = asking.join().expect("none lost");
        assert!(servers.contains(&4), "{servers:?}");
    });
}
