//! The model beside a naive reading of the same objects.

use super::*;
use crate::policy::Selection;
use api::selector::LabelSelector;
use proptest::prelude::*;

const NODE: &str = "here";
static NAMESPACES: [&str; 3] = ["red", "green", "blue"];

/// What the kernel would hold, by the changes it was given.
#[derive(Default)]
struct Kernel(HashMap<Element, u32>);

impl Kernel {
    fn apply(&mut self, change: Change) {
        for (element, value) in change.remove {
            assert_eq!(self.0.remove(&element), Some(value), "{element:?} is removed as it was added");
        }
        for (element, value) in change.add {
            assert_eq!(self.0.insert(element.clone(), value), None, "{element:?} is there already");
        }
    }

    /// As the rules of the layout go.
    fn lets(&self, direction: Direction, pod: IpAddr, other: IpAddr, protocol: u8, port: u16) -> bool {
        if !self.0.contains_key(&Element::Isolated { direction, ip: pod }) {
            return true;
        }
        if pod == other && self.0.contains_key(&Element::Itself { ip: pod }) {
            return true;
        }
        let profile = self.0[&Element::Profile { direction, ip: pod }];
        let pieces = self.0.iter().filter_map(|(element, class)| match element {
            Element::Piece { first, last } if *first <= other && other <= *last => Some(*class),
            _ => None,
        });
        let pieces: Vec<u32> = pieces.filter(|_| true).collect();
        assert!(pieces.len() <= 2, "an address is in one piece of its family: {pieces:?}");
        let classes = pieces.into_iter().chain(self.0.get(&Element::Pod { ip: other }).copied());
        let ipv6 = pod.is_ipv6();
        classes.into_iter().any(|class| {
            self.0.keys().any(|element| match element {
                Element::Allowed { ipv6: v6, profile: p, class: c, what } => {
                    (*v6, *p, *c) == (ipv6, profile, class)
                        && match what {
                            Allowance::Everything => true,
                            Allowance::Port { protocol: of, port: number } => {
                                (*of, *number) == (protocol, port)
                            }
                            Allowance::Range { protocol: of, first, last } => {
                                *of == protocol && (*first..=*last).contains(&port)
                            }
                        }
                }
                _ => false,
            })
        })
    }
}

/// The objects as they are, and what they mean, read without any cleverness.
#[derive(Default)]
struct World {
    namespaces: HashMap<String, Labels>,
    policies: HashMap<String, Policy>,
    pods: HashMap<String, Pod>,
}

impl World {
    fn update(&mut self, update: Update) {
        match update {
            Update::Namespace { name, labels: Some(labels) } => drop(self.namespaces.insert(name, labels)),
            Update::Namespace { name, labels: None } => drop(self.namespaces.remove(&name)),
            Update::Policy { name, policy: Some(policy) } => drop(self.policies.insert(name, policy)),
            Update::Policy { name, policy: None } => drop(self.policies.remove(&name)),
            Update::Pod { name, pod: Some(pod) } => drop(self.pods.insert(name, pod)),
            Update::Pod { name, pod: None } => drop(self.pods.remove(&name)),
            Update::Sandbox(_) => unreachable!("not made here"),
        }
    }

    fn at(&self, ip: IpAddr) -> Option<(&String, &Pod)> {
        self.pods.iter().find(|(_, pod)| pod.ips.contains(&ip))
    }

    fn lets(&self, direction: Direction, ip: IpAddr, other: IpAddr, protocol: u8, port: u16) -> bool {
        let Some((name, pod)) = self.at(ip).filter(|(_, pod)| pod.node == NODE) else { return true };
        let namespace = namespace_of(name);
        let mut isolated = false;
        for (policy_name, policy) in &self.policies {
            let rules = if direction == Direction::Ingress { &policy.ingress } else { &policy.egress };
            let Some(rules) = rules else { continue };
            if namespace_of(policy_name) != namespace || !policy.pods.matches(&pod.labels) {
                continue;
            }
            isolated = true;
            for rule in rules {
                let selected = |peer: &Peer| match peer {
                    Peer::Block(_) => false,
                    Peer::Pods(selection) => self.at(other).is_some_and(|(name, pod)| {
                        let theirs = namespace_of(name);
                        let meant = match &selection.namespaces {
                            None => theirs == namespace,
                            Some(selector) => {
                                self.namespaces.get(theirs).is_some_and(|labels| selector.matches(labels))
                            }
                        };
                        meant && selection.pods.matches(&pod.labels)
                    }),
                };
                let in_block = |peer: &Peer| matches!(peer, Peer::Block(block) if block.contains(other));
                let by_pods = rule.peers.as_ref().is_none_or(|peers| peers.iter().any(selected));
                let peer = by_pods || rule.peers.iter().flatten().any(in_block);
                let named =
                    if direction == Direction::Ingress { Some(pod) } else { self.at(other).map(|(_, p)| p) };
                let about = rule.ports.as_ref().is_none_or(|ports| {
                    ports.iter().any(|wanted| match wanted {
                        Port::Range { protocol: of, first, last } => {
                            *of == protocol && (*first..=*last).contains(&port)
                        }
                        Port::Named { protocol: of, name } => {
                            // A block has no names: those going out are of pods that a rule selects.
                            (by_pods || direction == Direction::Ingress)
                                && *of == protocol
                                && named.is_some_and(|pod| pod.ports.contains(&(*of, name.clone(), port)))
                        }
                    })
                });
                if peer && about {
                    return true;
                }
            }
        }
        !isolated || ip == other
    }
}

fn pod_ips(number: u8) -> Vec<IpAddr> {
    vec![
        [10, 244, number / 4, number].into(),
        [0xfd44, 0, 0, u16::from(number / 4), 0, 0, 0, u16::from(number)].into(),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let value = || prop_oneof![Just(None), Just(Some("x")), Just(Some("y"))];
    (value(), value()).prop_map(|(a, b)| {
        let pairs = [("a", a), ("b", b)];
        pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
    })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let texts = vec!["", "a=x", "a=y,b=x", "a", "!b", "a in (x,y)", "b notin (x)"];
    proptest::sample::select(texts).prop_map(|text| LabelSelector::parse(text).expect("a selector"))
}

fn peer() -> impl Strategy<Value = Peer> {
    let net = |text: &str| text.parse::<net::IpNet>().expect("net");
    let block = move |cidr: &str, except: &[&str]| {
        Peer::Block(Block { cidr: net(cidr), except: except.iter().map(|e| net(e)).collect() })
    };
    let blocks = vec![
        block("0.0.0.0/0", &[]),
        block("0.0.0.0/0", &["10.244.0.0/16"]),
        block("10.244.0.0/24", &["10.244.0.2/32", "10.244.0.1/32"]),
        block("192.0.2.0/24", &[]),
        block("::/0", &["fd44::/64"]),
    ];
    prop_oneof![
        3 => (proptest::option::of(selector()), selector())
            .prop_map(|(namespaces, pods)| Peer::Pods(Selection { namespaces, pods })),
        1 => proptest::sample::select(blocks),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    let protocol = || proptest::sample::select(vec![6u8, 17]);
    prop_oneof![
        (protocol(), 79u16..83, 0u16..3).prop_map(|(protocol, first, more)| Port::Range {
            protocol,
            first,
            last: first + more
        }),
        protocol().prop_map(|protocol| Port::Range { protocol, first: 0, last: u16::MAX }),
        protocol().prop_map(|protocol| Port::Named { protocol, name: "web".to_owned() }),
    ]
}

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let peers = proptest::option::weighted(0.8, proptest::collection::vec(peer(), 1..3));
    let ports = proptest::option::of(proptest::collection::vec(port(), 1..3));
    let rule = (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports });
    proptest::option::weighted(0.7, proptest::collection::vec(rule, 0..3))
}

fn update() -> impl Strategy<Value = Update> {
    let namespace = || proptest::sample::select(&NAMESPACES);
    let pod = (0u8..8, labels(), any::<bool>(), any::<bool>(), proptest::sample::select(vec![80u16, 81]));
    let pod = pod.prop_map(|(number, labels, local, addressed, web)| Update::Pod {
        name: format!("{}/pod-{number}", NAMESPACES[usize::from(number) % 3]),
        pod: Some(Pod {
            labels,
            ips: if addressed { pod_ips(number) } else { Vec::new() },
            node: if local { NODE } else { "elsewhere" }.to_owned(),
            ended: false,
            ports: vec![(6, "web".to_owned(), web)],
        }),
    });
    let policy = (namespace(), 0u8..3, selector(), rules(), rules());
    let policy = policy.prop_map(|(namespace, number, pods, ingress, egress)| Update::Policy {
        name: format!("{namespace}/policy-{number}"),
        policy: Some(Policy { pods, ingress, egress }),
    });
    prop_oneof![
        2 => (namespace(), proptest::option::weighted(0.8, labels()))
            .prop_map(|(name, labels)| Update::Namespace { name: name.to_owned(), labels }),
        5 => pod,
        1 => (0u8..8).prop_map(|number| Update::Pod {
            name: format!("{}/pod-{number}", NAMESPACES[usize::from(number) % 3]),
            pod: None,
        }),
        5 => policy,
        1 => (namespace(), 0u8..3)
            .prop_map(|(namespace, number)| Update::Policy { name: format!("{namespace}/policy-{number}"), policy: None }),
    ]
}

fn ips() -> Vec<IpAddr> {
    let outside: [IpAddr; 3] =
        [[192, 0, 2, 9].into(), [203, 0, 113, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    (0..8).flat_map(pod_ips).chain(outside).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    /// After any series of events, with any pauses between, the kernel judges every packet as the objects say.
    #[test]
    fn judges_as_the_objects_say(steps in proptest::collection::vec((update(), any::<bool>()), 1..40)) {
        let (mut model, mut kernel, mut world) = (Model::new(NODE), Kernel::default(), World::default());
        for (update, pause) in steps {
            model.update(update.clone());
            world.update(update);
            if pause {
                kernel.apply(model.finish());
            }
        }
        kernel.apply(model.finish());
        let mut fresh = Kernel::default();
        fresh.apply(model.everything());
        prop_assert_eq!(&fresh.0, &kernel.0);
        for pod in ips() {
            for other in ips().into_iter().filter(|other| other.is_ipv6() == pod.is_ipv6()) {
                for direction in [Direction::Ingress, Direction::Egress] {
                    for (protocol, port) in [(6, 80), (6, 81), (6, 84), (17, 80), (1, 0)] {
                        let expected = world.lets(direction, pod, other, protocol, port);
                        let is = kernel.lets(direction, pod, other, protocol, port);
                        prop_assert_eq!(is, expected, "{:?} {} {} {} {}", direction, pod, other, protocol, port);
                    }
                }
            }
        }
        // When all is gone, nothing is left but the address space in one piece per family.
        for name in world.policies.keys() {
            model.update(Update::Policy { name: name.clone(), policy: None });
        }
        for name in world.pods.keys() {
            model.update(Update::Pod { name: name.clone(), pod: None });
        }
        kernel.apply(model.finish());
        prop_assert_eq!(kernel.0.len(), 2, "{:?}", kernel.0);
    }
}

fn policy(pods: &str, ingress: Option<Vec<Rule>>) -> Option<Policy> {
    Some(Policy { pods: LabelSelector::parse(pods).expect("selector"), ingress, egress: None })
}

fn local(ips: &[&str]) -> Option<Pod> {
    let ips = ips.iter().map(|ip| ip.parse().expect("ip")).collect();
    Some(Pod { ips, node: NODE.to_owned(), ..Pod::default() })
}

#[test]
fn a_pod_is_isolated_as_soon_as_the_runtime_tells_of_it() {
    let mut model = Model::new(NODE);
    let mut kernel = Kernel::default();
    model.update(Update::Policy { name: "red/deny".to_owned(), policy: policy("a=x", Some(Vec::new())) });
    let ip: IpAddr = [10, 244, 0, 9].into();
    let labels = Labels::from([("a".to_owned(), "x".to_owned())]);
    let sandbox =
        Sandbox { namespace: "red".to_owned(), name: "p".to_owned(), labels: labels.clone(), ips: vec![ip] };
    model.update(Update::Sandbox(sandbox.clone()));
    kernel.apply(model.finish());
    let lets = |kernel: &Kernel| kernel.lets(Direction::Ingress, ip, [10, 244, 0, 2].into(), 6, 80);
    assert!(!lets(&kernel));
    // What the API server tells a moment later, still without an address, takes nothing back.
    let pod = Pod { labels, node: NODE.to_owned(), ..Pod::default() };
    model.update(Update::Pod { name: "red/p".to_owned(), pod: Some(pod) });
    kernel.apply(model.finish());
    assert!(!lets(&kernel));
    // The address goes to another pod before the first one is gone from the API: the last one has it.
    model.update(Update::Sandbox(Sandbox { name: "q".to_owned(), labels: Labels::new(), ..sandbox.clone() }));
    kernel.apply(model.finish());
    assert!(lets(&kernel));
    model.update(Update::Pod { name: "red/p".to_owned(), pod: None });
    kernel.apply(model.finish());
    assert!(lets(&kernel));
    // And back, by a pod of the old name.
    model.update(Update::Sandbox(sandbox));
    kernel.apply(model.finish());
    assert!(!lets(&kernel));
}

#[test]
fn one_more_pod_is_a_few_elements_more() {
    let mut model = Model::new(NODE);
    for name in NAMESPACES {
        model.update(Update::Namespace { name: name.to_owned(), labels: Some(Labels::new()) });
    }
    let everywhere =
        Selection { namespaces: Some(LabelSelector::everything()), pods: LabelSelector::everything() };
    let rule = Rule { peers: Some(vec![Peer::Pods(everywhere)]), ports: None };
    model.update(Update::Policy { name: "red/all".to_owned(), policy: policy("", Some(vec![rule])) });
    for n in 0..200u8 {
        model.update(Update::Pod { name: format!("red/{n}"), pod: local(&[&format!("10.244.0.{n}")]) });
    }
    model.finish();
    model.update(Update::Pod { name: "red/more".to_owned(), pod: local(&["10.244.1.1"]) });
    let change = model.finish();
    assert_eq!((change.add.len(), change.remove.len()), (4, 0), "{change:?}");
    model.update(Update::Pod {
        name: "blue/remote".to_owned(),
        pod: Some(Pod { ips: vec![[10, 244, 9, 9].into()], ..Pod::default() }),
    });
    let change = model.finish();
    assert_eq!((change.add.len(), change.remove.len()), (1, 0), "{change:?}");
    model.update(Update::Pod {
        name: "blue/remote".to_owned(),
        pod: local(&["10.244.9.9"]).map(|pod| Pod { ended: true, ips: Vec::new(), ..pod }),
    });
    assert_eq!(model.finish().remove.len(), 1);
}
