//! Allocation from a small range, without a cache: what is stored is told to [`Held`] by hand.

use super::*;
use crate::authz::follow::Derived;

/// A cluster of one tiny range per family.
struct Cluster {
    allocator: ServiceAllocator,
}

impl Cluster {
    fn new(cidr: &str, ports: (u16, u16)) -> Self {
        let ranges = cidr.split(',').map(|range| range.parse().expect("a range")).collect();
        let held = Followed::fixed(Held::default());
        let added = Followed::fixed(Ranges::default());
        Self { allocator: ServiceAllocator { ranges, added, ports, held, pending: Arc::default() } }
    }

    /// What the store and the cache do.
    fn store(&self, service: &Value) {
        let (namespace, name) = (objects::namespace(service), objects::name(service));
        self.allocator.held.change(|held| held.apply(SERVICES, namespace, name, Some(service)));
    }

    fn delete(&self, name: &str) {
        self.allocator.held.change(|held| held.apply(SERVICES, "ns", name, None));
    }

    fn create(&self, name: &str, spec: Value) -> Result<Value, Status> {
        let mut service = service(name, spec);
        let allocation = self.allocator.allocate(&mut service, None)?;
        self.store(&service);
        allocation.commit();
        Ok(service)
    }

    fn update(&self, old: &Value, spec: Value) -> Result<Value, Status> {
        let mut service = service(objects::name(old), spec);
        let allocation = self.allocator.allocate(&mut service, Some(old))?;
        self.store(&service);
        allocation.commit();
        Ok(service)
    }
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})
}

fn refused(result: Result<Value, Status>, expected: &str) {
    let status = result.expect_err("refused");
    assert!(status.message.contains(expected), "{status}");
}

#[test]
fn every_address_is_given_once_and_again_after_deletion() {
    let cluster = Cluster::new("10.0.0.0/28", (30000, 30010));
    let mut given: Vec<String> = (0..14)
        .map(|n| cluster.create(&format!("s{n}"), json!({})).expect("there is room"))
        .map(|service| service["spec"]["clusterIP"].as_str().expect("an address").to_owned())
        .collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 14);
    refused(cluster.create("more", json!({})), "range is full");
    cluster.delete("s3");
    cluster.create("more", json!({})).expect("there is room again");
}

#[test]
fn a_failed_write_gives_everything_back() {
    let cluster = Cluster::new("10.0.0.0/29", (30000, 30000));
    let spec =
        json!({"type": "NodePort", "clusterIP": "10.0.0.3", "ports": [{"port": 80, "nodePort": 30000}]});
    let mut first = service("a", spec.clone());
    let allocation = cluster.allocator.allocate(&mut first, None).expect("free");
    refused(cluster.create("b", spec.clone()), "provided IP is already allocated");
    drop(allocation);
    // A refusal for one field leaves the others free too.
    let mut wrong = spec.clone();
    wrong["ports"][0]["nodePort"] = json!(80);
    refused(cluster.create("c", wrong), "The range of valid ports is 30000-30000");
    cluster.create("b", spec).expect("free again");
}

#[test]
fn explicit_addresses() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30010));
    cluster.create("a", json!({"clusterIP": "10.0.0.10"})).expect("free");
    refused(
        cluster.create("b", json!({"clusterIP": "10.0.0.10"})),
        "spec.clusterIPs: Invalid value: [\"10.0.0.10\"]: failed to allocate IP 10.0.0.10: provided IP is already allocated",
    );
    refused(
        cluster.create("b", json!({"clusterIP": "10.9.0.10"})),
        "the provided IP (10.9.0.10) is not in the valid range. The range of valid IPs is 10.0.0.0/24",
    );
    let dynamic = cluster.create("c", json!({})).expect("free");
    let last: u8 = dynamic["spec"]["clusterIP"]
        .as_str()
        .and_then(|address| address.rsplit('.').next()?.parse().ok())
        .expect("an address");
    assert!(last > 16, "{last} is kept for those who choose");
}

#[test]
fn what_needs_no_address() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30010));
    let headless = cluster.create("a", json!({"clusterIP": "None", "selector": {"a": "b"}})).expect("fine");
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let name = json!({"type": "ExternalName", "externalName": "example.com"});
    let external = cluster.create("b", name.clone()).expect("fine");
    assert_eq!(external["spec"], name);
}

#[test]
fn two_families() {
    let cluster = Cluster::new("10.0.0.0/24,fd00::/112", (30000, 30010));
    let dual = cluster.create("a", json!({"ipFamilyPolicy": "RequireDualStack"})).expect("fine");
    let addresses: Vec<IpAddr> =
        items(&dual["spec"]["clusterIPs"]).filter_map(|address| address.as_str()?.parse().ok()).collect();
    assert!(matches!(addresses[..], [IpAddr::V4(_), IpAddr::V6(_)]), "{addresses:?}");
    // Downgrading keeps the first.
    let spec = json!({"ipFamilyPolicy": "SingleStack", "clusterIPs": [addresses[0]], "ipFamilies": ["IPv4"],
                      "clusterIP": addresses[0]});
    let single = cluster.update(&dual, spec).expect("fine");
    assert_eq!(single["spec"]["clusterIPs"], json!([addresses[0]]));
}

#[test]
fn node_ports() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30003));
    let ports = |node_ports: &[u16]| -> Value {
        node_ports
            .iter()
            .enumerate()
            .map(|(index, port)| json!({"port": 80 + index, "nodePort": port}))
            .collect()
    };
    let spec = |node_ports: &[u16]| json!({"type": "NodePort", "ports": ports(node_ports)});
    let first = cluster.create("a", spec(&[30001, 0])).expect("free");
    assert_eq!(first["spec"]["ports"][0]["nodePort"], 30001);
    assert!(first["spec"]["ports"][1]["nodePort"].as_u64().is_some_and(|port| port >= 30000));
    refused(
        cluster.create("b", spec(&[30001])),
        "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
    );
    refused(cluster.create("b", spec(&[0, 0, 0])), "range is full");

    // An update that leaves them out keeps them, one of another type gives them back.
    let kept = cluster.update(&first, spec(&[0, 0])).expect("fine");
    assert_eq!(kept["spec"]["ports"], first["spec"]["ports"]);
    assert_eq!(kept["spec"]["clusterIP"], first["spec"]["clusterIP"]);
    let mut plain = kept["spec"].clone();
    plain["type"] = json!("ClusterIP");
    let plain = cluster.update(&kept, plain).expect("fine");
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null());
    cluster.create("b", spec(&[30001])).expect("free again");
}

#[test]
fn one_node_port_for_two_protocols() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30010));
    let spec = json!({"type": "NodePort", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]});
    let dns = cluster.create("dns", spec).expect("free");
    assert_eq!(dns["spec"]["ports"][0]["nodePort"], dns["spec"]["ports"][1]["nodePort"]);
    let spec = json!({"type": "NodePort", "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30005},
                                                   {"port": 53, "protocol": "TCP", "nodePort": 30005}]});
    cluster.create("dns2", spec).expect("the same Service may");
}

#[test]
fn load_balancers() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30010));
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let created = cluster.create("lb", spec).expect("free");
    assert!(created["spec"]["healthCheckNodePort"].is_u64());
    assert!(created["spec"]["ports"][0]["nodePort"].is_u64());
    let spec =
        json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
    let created = cluster.create("lb2", spec).expect("free");
    assert!(created["spec"]["ports"][0]["nodePort"].is_null());
}

#[test]
fn becoming_an_external_name() {
    let cluster = Cluster::new("10.0.0.0/29", (30000, 30010));
    let old = cluster.create("a", json!({})).expect("free");
    let mut spec = old["spec"].clone();
    spec["type"] = json!("ExternalName");
    spec["externalName"] = json!("example.com");
    let new = cluster.update(&old, spec).expect("fine");
    let name = json!({"type": "ExternalName", "externalName": "example.com"});
    assert_eq!(new["spec"], name);
    // The same by a patch that takes the addresses away, and leaves their families.
    let mut patched = old["spec"].clone();
    for field in ["clusterIP", "clusterIPs"] {
        patched.as_object_mut().expect("a spec").remove(field);
    }
    assert!(!patched["ipFamilies"].is_null(), "{patched}");
    patched["type"] = json!("ExternalName");
    patched["externalName"] = json!("example.com");
    assert_eq!(cluster.update(&old, patched).expect("fine")["spec"], name);
    for n in 0..6 {
        cluster.create(&format!("s{n}"), json!({})).expect("all six are free");
    }
}

#[test]
fn no_longer_a_load_balancer() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30010));
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let mut old = cluster.create("lb", spec).expect("free");
    old["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}, "conditions": []});
    let update = |kind: &str, external_ips: Value| {
        let mut new = old.clone();
        new["spec"]["type"] = json!(kind);
        new["spec"]["externalIPs"] = external_ips;
        drop_what_the_type_lacks(&mut new, &old);
        new
    };
    let plain = update("ClusterIP", json!([]));
    // What the load balancer was is no longer so; what else was told is.
    assert_eq!(plain["status"], json!({"loadBalancer": {}, "conditions": []}));
    assert!(plain["spec"]["externalTrafficPolicy"].is_null(), "{plain}");
    assert_eq!(update("ClusterIP", json!(["192.0.2.2"]))["spec"]["externalTrafficPolicy"], "Local");
    assert_eq!(update("LoadBalancer", json!([]))["status"], old["status"]);
}

#[test]
fn hostile_specs() {
    let cluster = Cluster::new("10.0.0.0/24", (30000, 30010));
    for spec in [
        json!(null),
        json!("x"),
        json!({"ports": "x", "type": "NodePort"}),
        json!({"ports": [1, null], "type": "NodePort"}),
        json!({"clusterIPs": {"a": 1}, "ipFamilies": 3}),
    ] {
        // Whatever the outcome, no panic.
        let _ = cluster.create("x", spec.clone());
        let _ =
            cluster.update(&service("x", spec.clone()), json!({"type": "NodePort", "ports": [{"port": 1}]}));
        let _ = cluster.update(&service("x", json!({})), spec);
    }
    refused(cluster.create("y", json!({"clusterIP": "junk"})), "not an IP address");
}

#[test]
fn ranges_that_were_added_are_used_when_the_configured_one_is_full() {
    let cluster = Cluster::new("10.0.0.0/30", (30000, 30010));
    let (first, second) = (cluster.create("a", json!({})), cluster.create("b", json!({})));
    assert!(first.is_ok() && second.is_ok());
    refused(cluster.create("c", json!({})), "range is full");
    let range = |ready: &str| json!({"spec": {"cidrs": ["10.9.0.0/29"]}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    let add = |range: &Value| {
        cluster.allocator.added.change(|added| added.apply(SERVICE_CIDRS, "", "more", Some(range)));
    };
    add(&range("False"));
    refused(cluster.create("c", json!({})), "range is full");
    add(&range("True"));
    let third = cluster.create("c", json!({})).expect("there is room");
    assert!(third["spec"]["clusterIP"].as_str().expect("an address").starts_with("10.9.0."));
    cluster.create("d", json!({"clusterIP": "10.9.0.6"})).ok();
    refused(cluster.create("e", json!({"clusterIP": "10.8.0.1"})), "is not in the valid range");
}

#[test]
fn what_an_ip_address_says_is_somebodys_is_not_given_away() {
    let cluster = Cluster::new("10.0.0.0/28", (30000, 30010));
    let of = |resource: &str| json!({"spec": {"parentRef": {"group": "", "resource": resource, "namespace": "ns", "name": "a"}}});
    let record = |name: &str, object: &Value| {
        cluster.allocator.held.change(|held| held.apply(IP_ADDRESSES, "", name, Some(object)));
    };
    record("10.0.0.5", &of("gateways"));
    record("10.0.0.6", &of("services"));
    refused(cluster.create("a", json!({"clusterIP": "10.0.0.5"})), "already allocated");
    refused(cluster.create("b", json!({"clusterIP": "10.0.0.6"})), "already allocated");
    cluster.create("a", json!({"clusterIP": "10.0.0.6"})).expect("it is its own");
}
