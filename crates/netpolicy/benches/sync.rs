//! How long the policies of 10,000 pods take to be made, and one more pod: `bench/policy`.

use std::time::{Duration, Instant};

use net::testing::Namespace;
use netpolicy::{Config, Engine, Pod, Policy, Update};
use serde_json::json;

fn main() {
    let node = Namespace::new();
    let config = Config { node_name: "here".to_owned(), ..Config::default() };
    let mut engine = node.run(|| Engine::new(&config).expect("engine"));
    let timed = |engine: &mut Engine| {
        let start = Instant::now();
        let commit = engine.sync().expect("sync");
        (start.elapsed(), commit)
    };
    for namespace in 0..200u32 {
        let name = format!("ns-{namespace}");
        let labels = [("team".to_owned(), format!("{}", namespace % 10))].into();
        engine.update(Update::Namespace { name: name.clone(), labels: Some(labels) });
        let object = json!({"metadata": {}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}]}, {"from": [{"namespaceSelector": {"matchLabels": {"team": "1"}}}],
                "ports": [{"port": 80}, {"port": 9000, "endPort": 9100}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}, {"to": [{"podSelector": {}}]}]}});
        let policy = Policy::parse(&serde_json::from_value(object).expect("a policy"));
        engine.update(Update::Policy { name: format!("{name}/p"), policy: Some(policy) });
        for pod in 0..50u32 {
            engine.update(pod_update(&name, pod, namespace * 50 + pod, pod == 0 && namespace < 110));
        }
    }
    let (cold, commit) = timed(&mut engine);
    println!("10000 pods, 200 policies: cold {cold:?}, {} elements", commit.elements);
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..100 {
        engine.update(pod_update("ns-3", 1000 + n, 20_000 + n, true));
        times.push(timed(&mut engine).0);
    }
    times.sort_unstable();
    println!("one more pod here: p50 {:?} max {:?}", times[50], times[99]);
}

fn pod_update(namespace: &str, pod: u32, number: u32, local: bool) -> Update {
    let [_, _, high, low] = number.to_be_bytes();
    Update::Pod {
        name: format!("{namespace}/pod-{pod}"),
        pod: Some(Pod {
            labels: [("app".to_owned(), format!("app-{}", pod % 5))].into(),
            ips: vec![[10, 244, high, low].into()],
            node: if local { "here" } else { "elsewhere" }.to_owned(),
            ..Pod::default()
        }),
    }
}
