//! Three servers on three nodes with three members of etcd, of which one after the other is lost: what was acknowledged is
//! there, and pods run elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{Cluster, eventually};
use serde_json::Value;

const WORK: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: work, namespace: drills}
spec:
  replicas: 4
  selector: {matchLabels: {app: work}}
  template:
    metadata: {labels: {app: work}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers: [{name: main, image: 'busybox:1.36', command: [sleep, infinity]}]
";

/// Says so when dropped: also when a step has failed, so that the test ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Creates ConfigMaps until told to stop; those whose creation was acknowledged.
fn write(c: &Cluster, done: &AtomicBool) -> Vec<String> {
    let mut known = Vec::new();
    for i in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("cm-{i}");
        if c.try_kubectl(&["-n", "drills", "--request-timeout=5s", "create", "configmap", &name], "").ok {
            known.push(name);
        }
    }
    known
}

fn cluster(c: &Cluster, arguments: &[&str]) {
    let output = c.corten(&[&["cluster"], arguments].concat());
    assert!(output.ok, "{arguments:?}: {output:?}");
}

/// One server may always be just going: asked again.
fn get(c: &Cluster, arguments: &[&str]) -> Result<Value, String> {
    let all = [&["--request-timeout=5s", "get", "-o", "json"], arguments].concat();
    let output = c.try_kubectl(&all, "");
    if !output.ok {
        return Err(output.stderr);
    }
    serde_json::from_str(&output.stdout).map_err(|error| error.to_string())
}

fn running(c: &Cluster, except: &str, wanted: usize) {
    eventually("pods on nodes that are there", || {
        let pods = get(c, &["-n", "drills", "pods", "-l", "app=work"])?;
        let good = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            pod["metadata"]["deletionTimestamp"].is_null()
                && pod["spec"]["nodeName"] != except
                && conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let count = pods["items"].as_array().into_iter().flatten().filter(good).count();
        if count == wanted { Ok(()) } else { Err(format!("{count} of {wanted}")) }
    });
}

fn all_ready(c: &Cluster) {
    eventually("three Ready nodes", || {
        let nodes = get(c, &["nodes"])?;
        let ready = |node: &&Value| {
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let count = nodes["items"].as_array().into_iter().flatten().filter(ready).count();
        if count == 3 { Ok(()) } else { Err(format!("{count} nodes")) }
    });
}

#[test]
fn any_of_three_may_be_lost() {
    let kubelet = std::env::temp_dir().join(format!("corten-drill-{}.yaml", std::process::id()));
    std::fs::write(&kubelet, "nodeLeaseDurationSeconds: 4\n").unwrap();
    let c = Cluster::create(&[
        "--nodes=3",
        "--servers=3",
        "--server-arg=--node-monitor-grace-period=6s",
        "--server-arg=--leader-elect-lease-duration=4s",
        "--server-arg=--leader-elect-renew-deadline=3s",
        "--server-arg=--leader-elect-retry-period=500ms",
        "--kubelet-config",
        kubelet.to_str().unwrap(),
    ]);
    std::fs::remove_file(&kubelet).unwrap();
    let node = |number: &str| format!("{}-control-plane{number}", c.name());
    c.namespace("drills");
    c.apply(WORK);
    running(&c, "", 4);

    let done = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(&c, &done));
        let stop = Done(&done);
        // A server, which is started again.
        cluster(&c, &["exec", &node(""), "pkill", "-KILL", "-x", "corten"]);
        all_ready(&c);
        // A member of etcd, the same way.
        cluster(&c, &["exec", &node("2"), "pkill", "-KILL", "-x", "etcd"]);
        all_ready(&c);
        running(&c, "", 4);
        // A node with all that is on it: server, member, pods.
        cluster(&c, &["cut", &node("3")]);
        running(&c, &node("3"), 4);
        cluster(&c, &["join", &node("3")]);
        all_ready(&c);
        drop(stop);
        writing.join().expect("the writer goes on")
    });
    assert!(acknowledged.len() > 5, "little was written: {}", acknowledged.len());
    let listed = eventually("a list", || get(&c, &["-n", "drills", "configmaps"]));
    let names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().filter_map(|i| i["metadata"]["name"].as_str()).collect();
    for name in &acknowledged {
        assert!(names.contains(&name.as_str()), "{name} was acknowledged and is lost");
    }
    running(&c, "", 4);
}
