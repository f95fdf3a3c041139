//! Services with real traffic in real network namespaces.

mod common;
#[path = "traffic/features.rs"]
mod features;

use std::io::ErrorKind;

use common::{
    NODE_IPS, OUTSIDE_IPS, World, config, ip, port, service, set, spread, tcp, tcp_silent, udp, udp_socket,
};
use proxy::{Protocol, ServiceSpec};

const SERVICE: [&str; 2] = ["10.96.0.1:80", "[fd96::1]:80"];

#[test]
fn a_cluster_ip_is_balanced_for_pods_and_node_in_both_families() {
    let world = World::new(4);
    let mut engine = world.engine(config());
    set(&mut engine, "web", Some(service()), Some(world.slice(&[0, 1, 2])));
    for (family, address) in SERVICE.into_iter().enumerate() {
        let client = &world.pods[3];
        let answer = tcp(&client.namespace, address).expect("answer");
        assert_eq!(answer.client, client.ips[family], "a pod keeps its address");
        let counts = spread(&client.namespace, address, 60);
        assert!(counts.len() == 3 && counts.values().all(|count| *count >= 5), "{counts:?}");
        assert_eq!(spread(&world.node, address, 40).len(), 3);
        assert!(udp(&udp_socket(&client.namespace, address)).expect("datagram").server < 3);
        // From outside the cluster the answer must come back this way.
        let gateway = ip(["10.244.0.1", "fd44:0:0:1::1"][family]);
        assert_eq!(tcp(&world.outside, address).expect("answer").client, gateway);
    }
}

#[test]
fn readiness_is_followed_and_nothing_is_refused_in_silence() {
    let world = World::new(3);
    let mut engine = world.engine(config());
    let client = &world.pods[2].namespace;
    set(&mut engine, "web", Some(service()), None);
    for address in SERVICE {
        assert_eq!(tcp(client, address), Err(ErrorKind::ConnectionRefused), "no endpoints");
        assert_eq!(tcp(&world.node, address), Err(ErrorKind::ConnectionRefused), "no endpoints");
        assert_eq!(udp(&udp_socket(client, address)), Err(ErrorKind::ConnectionRefused));
    }
    set(&mut engine, "web", Some(service()), Some(world.slice(&[1])));
    for address in SERVICE {
        assert_eq!(tcp(client, address).expect("answer").server, 1);
    }
    let wrong_port = ["10.96.0.1:81", "[fd96::1]:81"];
    for address in wrong_port {
        assert_eq!(tcp(client, address), Err(ErrorKind::ConnectionRefused), "no such port");
    }
    // Only one that still serves while it ends is left: better than nothing.
    let ending = world.slice_with(&[0, 1], |pod, endpoint| {
        endpoint.ready = false;
        (endpoint.serving, endpoint.terminating) = (pod == 0, true);
    });
    set(&mut engine, "web", Some(service()), Some(ending));
    for address in SERVICE {
        assert_eq!(spread(client, address, 5).keys().copied().collect::<Vec<_>>(), [0]);
    }
    let listed = world.node.try_command("nft list ruleset 2>&1");
    assert!(listed.status.success(), "the nft program can show what we made");
    set(&mut engine, "web", None, None);
    let table = world.node.command("nft list table ip corten-proxy");
    assert!(!table.contains("10.96.0.1"), "{table}");
}

fn node_port_service() -> ServiceSpec {
    ServiceSpec {
        external_ips: vec![ip("198.51.100.7")],
        load_balancer_ips: vec![ip("198.51.100.8")],
        ports: vec![port(Protocol::Tcp, 80, Some(30080)), port(Protocol::Udp, 80, Some(30080))],
        ..service()
    }
}

#[test]
fn node_ports_and_external_addresses() {
    let world = World::new(2);
    let mut engine = world.engine(config());
    set(&mut engine, "web", Some(node_port_service()), Some(world.slice(&[0])));
    let node_ports = [format!("{}:30080", NODE_IPS[0]), format!("[{}]:30080", NODE_IPS[1])];
    for (family, address) in node_ports.iter().enumerate() {
        let answer = tcp(&world.outside, address).expect("from outside");
        assert_eq!(answer.client, ip(["10.244.0.1", "fd44:0:0:1::1"][family]), "masqueraded");
        assert_eq!(tcp(&world.node, address).expect("from the node").server, 0);
        assert_eq!(tcp(&world.pods[1].namespace, address).expect("from a pod").server, 0);
        assert_eq!(udp(&udp_socket(&world.outside, address)).expect("datagram").server, 0);
    }
    for address in ["198.51.100.7:80", "198.51.100.8:80"] {
        assert_eq!(tcp(&world.outside, address).expect("from outside").server, 0);
        assert_eq!(tcp(&world.pods[1].namespace, address).expect("from a pod").server, 0);
    }
    set(&mut engine, "web", Some(node_port_service()), None);
    for address in [&node_ports[0], &node_ports[1], "198.51.100.7:80"] {
        assert_eq!(tcp(&world.outside, address), Err(ErrorKind::ConnectionRefused));
    }
}

#[test]
fn the_local_policy_keeps_the_clients_address_and_uses_only_this_node() {
    let world = World::new(3);
    let mut engine = world.engine(config());
    let spec = ServiceSpec { external_local: true, ..node_port_service() };
    let elsewhere = |pod: usize, endpoint: &mut proxy::Endpoint| {
        if pod == 1 {
            endpoint.node = Some("elsewhere".into());
        }
    };
    let slice = world.slice_with(&[0, 1], elsewhere);
    set(&mut engine, "web", Some(spec.clone()), Some(slice));
    let node_port = format!("{}:30080", NODE_IPS[0]);
    let answer = tcp(&world.outside, &node_port).expect("answer");
    assert_eq!((answer.server, answer.client), (0, ip(OUTSIDE_IPS[0])));
    assert_eq!(spread(&world.outside, &node_port, 10).len(), 1);
    // From inside, every endpoint will do.
    assert_eq!(spread(&world.pods[2].namespace, "198.51.100.8:80", 40).len(), 2);
    assert_eq!(spread(&world.node, "198.51.100.8:80", 40).len(), 2);
    assert_eq!(
        tcp(&world.pods[2].namespace, "198.51.100.8:80").expect("answer").client,
        world.pods[2].ips[0]
    );
    // No endpoint here: a load balancer is to look elsewhere, so it is told nothing.
    let slice = world.slice_with(&[1], elsewhere);
    set(&mut engine, "web", Some(spec.clone()), Some(slice.clone()));
    tcp_silent(&world.outside, &node_port);
    assert_eq!(tcp(&world.pods[2].namespace, "198.51.100.8:80").expect("answer").server, 1);
    // The same inside.
    let spec = ServiceSpec { internal_local: true, ..service() };
    set(&mut engine, "web", Some(spec), Some(slice));
    tcp_silent(&world.pods[2].namespace, SERVICE[0]);
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let world = World::new(1);
    let mut engine = world.engine(config());
    set(&mut engine, "web", Some(service()), Some(world.slice(&[0])));
    for (family, address) in SERVICE.into_iter().enumerate() {
        let answer = tcp(&world.pods[0].namespace, address).expect("answer");
        assert_eq!(answer.client, ip(["10.244.0.1", "fd44:0:0:1::1"][family]));
        assert!(udp(&udp_socket(&world.pods[0].namespace, address)).is_ok());
    }
}

#[test]
fn clients_stay_with_their_endpoint() {
    let world = World::new(4);
    let mut engine = world.engine(config());
    let spec = ServiceSpec { affinity: Some(600), ..service() };
    set(&mut engine, "web", Some(spec.clone()), Some(world.slice(&[0, 1, 2])));
    let client = &world.pods[3].namespace;
    for address in SERVICE {
        let counts = spread(client, address, 15);
        assert_eq!(counts.len(), 1, "{counts:?}");
        let chosen = *counts.keys().next().expect("one");
        // A restarted proxy does not move anybody.
        let mut engine = world.engine(config());
        set(&mut engine, "web", Some(spec.clone()), Some(world.slice(&[2, 1, 0])));
        assert_eq!(spread(client, address, 10).keys().collect::<Vec<_>>(), [&chosen]);
        // Its endpoint gone, the client goes to another and stays there.
        let rest: Vec<usize> = (0..3).filter(|pod| *pod != chosen).collect();
        set(&mut engine, "web", Some(spec.clone()), Some(world.slice(&rest)));
        let counts = spread(client, address, 15);
        assert!(counts.len() == 1 && !counts.contains_key(&chosen), "{counts:?}");
    }
}

#[test]
fn load_balancer_source_ranges() {
    let world = World::new(2);
    let mut engine = world.engine(config());
    let ranged = |ranges: &[&str]| ServiceSpec {
        source_ranges: ranges.iter().map(|range| range.parse().expect("range")).collect(),
        ..node_port_service()
    };
    let slice = world.slice(&[0]);
    set(&mut engine, "web", Some(ranged(&["203.0.113.0/24", "203.0.113.7/32"])), Some(slice.clone()));
    tcp_silent(&world.outside, "198.51.100.8:80");
    assert!(tcp(&world.outside, "198.51.100.7:80").is_ok(), "other addresses are not guarded");
    assert!(tcp(&world.pods[1].namespace, SERVICE[0]).is_ok(), "nor is the cluster's");
    set(&mut engine, "web", Some(ranged(&["203.0.113.0/24", "192.0.2.2/32"])), Some(slice));
    assert!(tcp(&world.outside, "198.51.100.8:80").is_ok());
    tcp_silent(&world.pods[1].namespace, "198.51.100.8:80");
}

#[test]
fn two_services_that_want_one_address() {
    let world = World::new(2);
    let mut engine = world.engine(config());
    set(&mut engine, "a", Some(service()), Some(world.slice(&[0])));
    set(&mut engine, "b", Some(service()), Some(world.slice(&[1])));
    let client = &world.node;
    assert_eq!(tcp(client, SERVICE[0]).expect("answer").server, 0, "who came first has it");
    set(&mut engine, "a", None, None);
    assert_eq!(tcp(client, SERVICE[0]).expect("answer").server, 1, "then who waited");
}

#[test]
fn datagrams_leave_an_endpoint_that_is_gone() {
    let world = World::new(3);
    let mut engine = world.engine(config());
    set(&mut engine, "dns", Some(service()), Some(world.slice(&[0])));
    let sockets = SERVICE.map(|address| udp_socket(&world.pods[2].namespace, address));
    for socket in &sockets {
        assert_eq!(udp(socket).expect("answer").server, 0);
    }
    set(&mut engine, "dns", Some(service()), Some(world.slice(&[1])));
    world.node.run(|| engine.forget_stale()).expect("forget");
    for socket in &sockets {
        assert_eq!(udp(socket).expect("answer").server, 1, "the same socket, another endpoint");
    }
}

#[test]
fn a_restart_changes_nothing_that_is_right_and_mends_what_is_not() {
    let world = World::new(3);
    let mut engine = world.engine(config());
    set(&mut engine, "web", Some(service()), Some(world.slice(&[0, 1])));
    set(
        &mut engine,
        "gone",
        Some(ServiceSpec { cluster_ips: vec![ip("10.96.0.2")], ..service() }),
        Some(world.slice(&[0])),
    );
    drop(engine);
    let chains = "nft -a list table ip corten-proxy | grep 'chain n2'";
    let before = world.node.command(chains);
    // Meanwhile one Service went, one came, and somebody put a wrong element in.
    world.node.command(
        "nft add element ip corten-proxy service-ips { 10.96.0.77 } && \
         nft delete element ip corten-proxy service-ips { 10.96.0.1 }",
    );
    let mut engine = world.engine(config());
    for name in ["web", "new"] {
        let cluster_ips = vec![ip(if name == "web" { "10.96.0.1" } else { "10.96.0.3" })];
        let name = format!("default/{name}");
        let spec = Some(ServiceSpec { cluster_ips, ..service() });
        engine.update(proxy::Update::Service { name: name.clone(), spec });
        let slice = Some(world.slice(&[0, 1]));
        engine.update(proxy::Update::Slice { service: name.clone(), name, slice });
    }
    engine.sync().expect("sync");
    assert_eq!(world.node.command(chains), before, "the same chain, by its handle");
    let client = &world.pods[2].namespace;
    for (address, works) in [("10.96.0.1:80", true), ("10.96.0.2:80", false), ("10.96.0.3:80", true)] {
        let answer = world.node.run(|| tcp(client, address));
        assert_eq!(answer.is_ok(), works, "{address}");
    }
    let text = world.node.command("nft list set ip corten-proxy service-ips");
    assert!(text.contains("10.96.0.1") && text.contains("10.96.0.3"), "{text}");
    assert!(!text.contains("10.96.0.77") && !text.contains("10.96.0.2"), "{text}");
    assert_eq!(engine.sync().expect("sync").elements, 0);
}
