//! Resources that containers have for themselves: devices of plugins, whole CPUs, blocks of user IDs.

use std::process::{Child, Stdio};

use e2e::{Cluster, Options, eventually};

const RESOURCE: &str = "e2e.example/thing";

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pod(name: &str, resources: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: res}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', command: [sleep, infinity], resources: {resources}}}]}}}}"
    )
}

fn exec(c: &Cluster, pod: &str, script: &str) -> String {
    c.kubectl(&["-n", "res", "exec", pod, "--", "sh", "-c", script])
}

#[test]
fn devices_of_a_plugin() {
    let c = Cluster::start();
    c.namespace("res");
    let dir = c.root().join("kubelet/device-plugins");
    let mut command = c.host.command(env!("CARGO_BIN_EXE_device_plugin"));
    command.arg(&dir).arg(RESOURCE).stdin(Stdio::null());
    let _plugin = Process(command.spawn().expect("the plugin runs"));
    let node_has = |wanted: &str| {
        eventually(&format!("a node with {wanted} devices"), || {
            let path = "jsonpath={.items[0].status.capacity.e2e\\.example/thing} {.items[0].status.allocatable.e2e\\.example/thing}";
            let found = c.kubectl(&["get", "node", "-o", path]);
            if found == wanted { Ok(()) } else { Err(format!("{found}\n{}", c.log())) }
        });
    };
    node_has("3 3");
    c.apply(&pod("two", &format!("{{limits: {{{RESOURCE}: 2}}}}")));
    c.wait_pod_ready("res", "two");
    assert_eq!(
        exec(&c, "two", "echo $DEVICES; test -c /dev/e2e && echo there"),
        "device-1,device-2\nthere\n"
    );
    c.apply(&pod("one", &format!("{{limits: {{{RESOURCE}: 1}}}}")));
    c.wait_pod_ready("res", "one");
    assert_eq!(exec(&c, "one", "echo $DEVICES"), "device-0\n");

    // A device falls ill; the kubelet dies; who has what stays as it is.
    std::fs::write(dir.join("broken"), "").unwrap();
    node_has("3 2");
    c.kill();
    c.restart();
    node_has("3 2");
    c.kubectl(&["-n", "res", "delete", "pod", "two"]);
    c.apply(&pod("again", &format!("{{limits: {{{RESOURCE}: 2}}}}")));
    c.wait_pod_ready("res", "again");
    assert_eq!(exec(&c, "again", "echo $DEVICES"), "device-1,device-2\n");
}

#[test]
fn whole_cpus() {
    let c = Cluster::start_with(Options {
        kubelet: "cpuManagerPolicy: static\nreservedSystemCPUs: '0'\n".to_owned(),
        ..Options::default()
    });
    c.namespace("res");
    let allowed =
        |pod: &str| exec(&c, pod, "grep Cpus_allowed_list /proc/1/status").replace(char::is_whitespace, " ");
    c.apply(&pod("others", "{}"));
    c.wait_pod_ready("res", "others");
    let all = allowed("others");
    c.apply(&pod("own", "{limits: {cpu: 1, memory: 32Mi}}"));
    c.wait_pod_ready("res", "own");
    assert_eq!(allowed("own"), "Cpus_allowed_list: 1 ");
    eventually("the others to be moved", || {
        let now = allowed("others");
        if now != all && !now.contains('1') { Ok(()) } else { Err(now) }
    });
    c.kubectl(&["-n", "res", "delete", "pod", "own"]);
    eventually("the others to be moved back", || {
        let now = allowed("others");
        if now == all { Ok(()) } else { Err(now) }
    });
}

#[test]
fn users_of_their_own() {
    let c = e2e::shared();
    c.namespace("res");
    for name in ["a", "b"] {
        c.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: res}}, spec: {{hostUsers: false, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', command: [sh, -c, 'echo x > /v/f; sleep infinity'], volumeMounts: [{{name: v, mountPath: /v}}]}}], volumes: [{{name: v, emptyDir: {{}}}}]}}}}"
        ));
        c.wait_pod_ready("res", name);
    }
    let ids = |pod: &str| exec(c, pod, "id -u; stat -c %u /v/f; tr -s ' ' < /proc/self/uid_map");
    let (a, b) = (ids("a"), ids("b"));
    assert!(a.starts_with("0\n0\n 0 ") && a.ends_with(" 65536\n"), "{a}");
    assert_ne!(a, b, "each has users of its own");
    c.kubectl(&["delete", "namespace", "res", "--timeout=60s"]);
}
