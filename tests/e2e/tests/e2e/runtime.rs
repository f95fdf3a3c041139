//! kill -9 of corten disturbs no container, and the restarted one finds everything.

use e2e::{Cluster, eventually};

#[test]
fn a_killed_corten_finds_its_containers_again() {
    let c = Cluster::start();
    c.namespace("survive");
    c.apply("
apiVersion: v1
kind: Pod
metadata: {name: runs, namespace: survive}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: busybox:1.36, command: [sh, -c, 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: ends, namespace: survive}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: busybox:1.36, command: [sh, -c, 'while ! test -e /v/end; do sleep 0.1; done; echo last words; exit 42'], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, hostPath: {path: /tmp}}]
".replace("/tmp", c.host.directory().to_str().unwrap()).as_str());
    c.wait_pod_ready("survive", "runs");
    c.wait_pod_ready("survive", "ends");
    let status = |pod: &str, field: &str| {
        c.kubectl(&[
            "-n",
            "survive",
            "get",
            "pod",
            pod,
            "-o",
            &format!("jsonpath={{.status.containerStatuses[0].{field}}}"),
        ])
    };
    let (id, ip) = (status("runs", "containerID"), pod_ip(&c));
    assert!(id.starts_with("corten://"), "{id}");

    c.kill();
    // Nobody is there to see it end.
    c.host.file("end", "");
    eventually("the end of the other", || {
        let sleepers = c.host.run("pgrep", &["-f", "last words"], "");
        if sleepers.ok { Err(sleepers.stdout) } else { Ok(()) }
    });
    c.restart();

    assert_eq!(status("runs", "containerID"), id, "the same container");
    assert_eq!(pod_ip(&c), ip);
    eventually("the exit code", || match status("ends", "state.terminated.exitCode").as_str() {
        "42" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(c.kubectl(&["-n", "survive", "logs", "ends"]), "last words\n");
    for pod in ["runs", "ends"] {
        assert_eq!(status(pod, "restartCount"), "0", "{pod}");
    }
    // The log has no gap and goes on.
    let lines = |text: String| text.lines().map(|l| l.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let before = lines(c.kubectl(&["-n", "survive", "logs", "runs"]));
    assert!(before.iter().enumerate().all(|(i, n)| i as u32 == *n), "{before:?}");
    eventually("more lines", || {
        let now = lines(c.kubectl(&["-n", "survive", "logs", "runs"])).len();
        if now > before.len() { Ok(()) } else { Err(now.to_string()) }
    });
    assert_eq!(c.kubectl(&["-n", "survive", "exec", "runs", "--", "echo", "still here"]), "still here\n");
    c.kubectl(&["-n", "survive", "delete", "pod", "runs", "ends", "--timeout=30s"]);
    eventually("no shim", || {
        let shims = c.host.run("pgrep", &["-f", "corten-shim"], "");
        if shims.ok { Err(shims.stdout) } else { Ok(()) }
    });
}

fn pod_ip(c: &Cluster) -> String {
    c.kubectl(&["-n", "survive", "get", "pod", "runs", "-o", "jsonpath={.status.podIP}"])
}
