//! corten is killed at random moments, fifty times, while objects and pods come and go: what was acknowledged is
//! there, what was not asked to end runs on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::Cluster;
use serde_json::Value;

const KILLS: u32 = 50;

#[test]
fn fifty_kills_lose_nothing() {
    let c = Cluster::start();
    c.namespace("faults");
    let steady = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady, namespace: faults}
spec:
  replicas: 5
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: busybox:1.36, command: [sleep, infinity]}]}
";
    c.apply(steady);
    c.kubectl(&["-n", "faults", "rollout", "status", "deployment/steady", "--timeout=60s"]);
    let before = containers(&c);
    assert_eq!(before.len(), 5);

    let done = AtomicBool::new(false);
    let expected = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&c, &done));
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis(20 + random() % 400));
            c.kill();
            c.restart();
        }
        done.store(true, Ordering::Relaxed);
        load.join().expect("the load goes on")
    });

    assert!(expected.len() > 20, "the load did little: {}", expected.len());
    let listed = c.get(&["-n", "faults", "configmaps"]);
    let names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().filter_map(|i| i["metadata"]["name"].as_str()).collect();
    for (name, exists) in &expected {
        assert_eq!(names.contains(&name.as_str()), *exists, "{name} was acknowledged as {exists}");
    }
    assert_eq!(containers(&c), before, "the same containers, none restarted");
}

/// Creates and deletes until told to stop. Returns what is known of each object: true where a creation was
/// acknowledged, false where a deletion was; nothing where an answer never came.
fn load(c: &Cluster, done: &AtomicBool) -> BTreeMap<String, bool> {
    let mut known = BTreeMap::new();
    let n = |arguments: &[&str]| {
        c.try_kubectl(&[&["-n", "faults", "--request-timeout=5s"], arguments].concat(), "").ok
    };
    for i in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("cm-{i}");
        if n(&["create", "configmap", &name]) {
            known.insert(name.clone(), true);
            if i % 3 == 0 {
                known.remove(&name);
                if n(&["delete", "configmap", &name]) {
                    known.insert(name, false);
                }
            }
        }
        if i % 5 == 0 {
            let pod = format!("pod-{i}");
            n(&["run", &pod, "--image=busybox:1.36", "--restart=Never", "--", "sleep", "1"]);
            n(&["delete", "pod", &pod, "--now", "--wait=false"]);
        }
    }
    known
}

/// Container IDs of the steady pods, with their restarts.
fn containers(c: &Cluster) -> BTreeMap<String, u64> {
    let pods = c.get(&["-n", "faults", "pods", "-l", "app=steady"]);
    let status = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        (
            status["containerID"].as_str().unwrap_or_default().to_owned(),
            status["restartCount"].as_u64().unwrap_or(99),
        )
    };
    pods["items"].as_array().unwrap().iter().map(status).collect()
}

/// Good enough to hit different moments.
fn random() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    u64::from(nanos).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}
