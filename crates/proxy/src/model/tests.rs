//! Whatever happens, what the kernel was told adds up to what the model holds.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::Config;
use crate::endpoints::{Endpoint, Slice, SlicePort};
use crate::layout::{class_key, encode};
use crate::render::{Node, render};
use crate::service::{ServicePort, ServiceSpec};

/// Family (IPv6 or not), set, key.
type ElementKey = (bool, &'static str, Vec<u8>);

/// A kernel that takes changes as strictly as the real one.
#[derive(Default)]
struct Kernel {
    elements: HashMap<ElementKey, Option<Vec<u8>>>,
    classes: HashMap<(bool, Vec<u8>), Class>,
}

impl Kernel {
    fn apply(&mut self, change: &Change) {
        for class in &change.remove_classes {
            let gone = self.classes.remove(&(class.ipv6, class_key(class)));
            assert_eq!(gone, Some(class.class), "removed a class that is not there");
        }
        for class in &change.add_classes {
            let old = self.classes.insert((class.ipv6, class_key(class)), class.class);
            assert_eq!(old, None, "added a class to another's number");
        }
        for element in &change.remove {
            let encoded = encode(element);
            let gone = self.elements.remove(&(element.is_ipv6(), encoded.map, encoded.key));
            assert_eq!(gone, Some(encoded.data), "removed what is not there: {element:?}");
        }
        for element in &change.add {
            let encoded = encode(element);
            let place = (element.is_ipv6(), encoded.map, encoded.key);
            assert_eq!(self.elements.insert(place, encoded.data), None, "added twice: {element:?}");
        }
    }
}

#[derive(Clone, Debug)]
struct Wanted {
    cluster_ip: u8,
    external_ip: Option<u8>,
    ports: u16,
    endpoints: std::collections::BTreeSet<u8>,
    affinity: Option<u32>,
    ranges: bool,
    local: bool,
    udp: bool,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let endpoints = prop_oneof![Just(Default::default()), proptest::collection::btree_set(0u8..12, 0..6)];
    let affinity = proptest::option::of(prop_oneof![Just(10u32), Just(20)]);
    // Few addresses, so that Services clash.
    (0u8..4, proptest::option::of(0u8..3), 0u16..3, endpoints, affinity, any::<(bool, bool, bool)>())
        .prop_map(|(cluster_ip, external_ip, ports, endpoints, affinity, (ranges, local, udp))| Wanted {
            cluster_ip,
            external_ip,
            ports,
            endpoints,
            affinity,
            ranges,
            local,
            udp,
        })
}

fn desired(wanted: &Wanted, node: &Node) -> Desired {
    let protocol = if wanted.udp { Protocol::Udp } else { Protocol::Tcp };
    let port =
        |n: u16| ServicePort { name: n.to_string(), protocol, port: 80 + n, node_port: Some(30_000 + n) };
    let spec = ServiceSpec {
        cluster_ips: vec![[10, 96, 0, wanted.cluster_ip].into(), [0xfd96, 0, 0, 0, 0, 0, 0, 1].into()],
        external_ips: wanted.external_ip.map(|n| [198, 51, 100, n].into()).into_iter().collect(),
        load_balancer_ips: vec![[203, 0, 113, 1].into()],
        source_ranges: if wanted.ranges { vec!["10.0.0.0/8".parse().expect("net")] } else { Vec::new() },
        ports: (0..wanted.ports).map(port).collect(),
        affinity: wanted.affinity,
        external_local: wanted.local,
        ..ServiceSpec::default()
    };
    let endpoint = |n: &u8| Endpoint {
        ip: [10, 244, 0, *n].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(if n.is_multiple_of(2) { "here" } else { "there" }.into()),
        hints: None,
    };
    let slice = Slice {
        ports: (0..wanted.ports).map(|n| SlicePort { name: n.to_string(), protocol, port: 8080 }).collect(),
        endpoints: wanted.endpoints.iter().map(endpoint).collect(),
    };
    render(&spec, &[&slice], node)
}

/// Applies a Service and all that become due by it, as the engine does.
fn apply(model: &mut Model, state: &HashMap<u8, Wanted>, first: u8, node: &Node) -> Vec<u8> {
    let (mut due, mut applied) = (vec![first], Vec::new());
    while let Some(service) = due.pop() {
        applied.push(service);
        let wanted = state.get(&service).map(|wanted| desired(wanted, node)).unwrap_or_default();
        let released = model.apply(&Arc::from(service.to_string()), wanted);
        due.extend(released.iter().filter_map(|key| key.parse::<u8>().ok()));
    }
    applied
}

proptest! {
    #[test]
    fn changes_add_up(
        steps in proptest::collection::vec((0u8..5, proptest::option::weighted(0.8, wanted()), any::<bool>()), 1..30),
    ) {
        let node = Node {
            config: Config {
                node_name: "here".to_owned(),
                node_ips: vec![[192, 0, 2, 1].into()],
                cluster_cidr: vec!["10.244.0.0/16".parse().expect("net")],
                ..Config::default()
            },
            zone: None,
        };
        let (mut model, mut kernel) = (Model::default(), Kernel::default());
        let mut state = HashMap::new();
        let mut applied = std::collections::HashSet::new();
        for (service, wanted, flush) in steps {
            // Between two transactions no Service changes twice.
            if applied.contains(&service) {
                kernel.apply(&model.finish());
                applied.clear();
            }
            match wanted {
                Some(wanted) => drop(state.insert(service, wanted)),
                None => drop(state.remove(&service)),
            }
            applied.extend(apply(&mut model, &state, service, &node));
            if flush {
                kernel.apply(&model.finish());
                applied.clear();
            }
        }
        kernel.apply(&model.finish());
        let mut fresh = Kernel::default();
        fresh.apply(&model.everything());
        prop_assert_eq!(&kernel.elements, &fresh.elements);
        prop_assert_eq!(&kernel.classes, &fresh.classes);
        // Every destination leads to a chain that exists, and to slots without gaps.
        for element in &model.everything().add {
            if let Element::Frontend { frontend, target, .. } = element {
                let number = target & !ID_MASK;
                let class = kernel.classes.get(&(frontend.ip.is_ipv6(), number.to_ne_bytes().to_vec()));
                let Some(Class::Balance(balance)) = class else {
                    prop_assert!(class.is_some());
                    continue;
                };
                for slot in 0..balance.count {
                    let map = if balance.affinity > 0 { crate::layout::NUMBERS } else { crate::layout::ENDPOINTS };
                    let key = [(target & ID_MASK).to_ne_bytes(), slot.to_ne_bytes()].concat();
                    prop_assert!(kernel.elements.contains_key(&(frontend.ip.is_ipv6(), map, key)));
                }
            }
        }
        // With the last Service gone, nothing is left but chains.
        let services: Vec<u8> = state.keys().copied().collect();
        for service in services {
            state.remove(&service);
            apply(&mut model, &state, service, &node);
            kernel.apply(&model.finish());
        }
        prop_assert!(kernel.elements.is_empty(), "{:?}", kernel.elements);
        prop_assert!(model.held.is_empty() && model.owners.is_empty() && model.waiting.is_empty());
    }
}
