//! Volumes of a real CSI driver: a process of its own, found by its socket, with real mounts.

use std::process::{Child, Stdio};

use e2e::{Cluster, eventually};

const DRIVER: &str = "memory.csi.e2e";

struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(c: &Cluster) -> Driver {
    let path = |name: &str| c.root().join("kubelet").join(name).display().to_string();
    let socket = path(&format!("plugins/{DRIVER}/csi.sock"));
    let registration = path(&format!("plugins_registry/{DRIVER}-reg.sock"));
    let log = c.host.directory().join("calls.log").display().to_string();
    let mut command = c.host.command(env!("CARGO_BIN_EXE_csi_driver"));
    let command = command.args([DRIVER, &socket, &registration, &log]).stdin(Stdio::null());
    Driver(command.spawn().expect("the driver runs"))
}

fn calls(c: &Cluster) -> String {
    std::fs::read_to_string(c.host.directory().join("calls.log")).unwrap_or_default()
}

#[track_caller]
fn called(c: &Cluster, what: &str) {
    eventually(what, || {
        let calls = calls(c);
        if calls.lines().any(|line| line.starts_with(what)) { Ok(()) } else { Err(calls) }
    });
}

/// What the driver's controller side would do.
fn attach(c: &Cluster) {
    let mut name = String::new();
    eventually("a volume attachment", || {
        name = c.kubectl(&[
            "get",
            "volumeattachments",
            "-o",
            "jsonpath={.items[?(@.status.attached==false)].metadata.name}",
        ]);
        if name.is_empty() {
            name = c.kubectl(&["get", "volumeattachments", "-o", "jsonpath={.items[*].metadata.name}"])
        }
        if name.is_empty() { Err(c.log()) } else { Ok(()) }
    });
    for name in name.split(' ') {
        let patch = "{\"status\": {\"attached\": true, \"attachmentMetadata\": {\"device\": \"d1\"}}}";
        c.kubectl(&["patch", "volumeattachment", name, "--subresource=status", "--type=merge", "-p", patch]);
    }
}

const SETUP: &str = "
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: memory.csi.e2e}
spec:
  attachRequired: true
  podInfoOnMount: true
  fsGroupPolicy: File
  volumeLifecycleModes: [Persistent, Ephemeral]
  tokenRequests: [{audience: vault}]
---
apiVersion: v1
kind: Secret
metadata: {name: stage, namespace: csi}
stringData: {key: secret-of-the-stage}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-csi}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: csi, name: claim}
  csi: {driver: memory.csi.e2e, volumeHandle: vol-1, nodeStageSecretRef: {name: stage, namespace: csi}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim, namespace: csi}
spec: {accessModes: [ReadWriteOnce], storageClassName: '', volumeName: pv-csi, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-block}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: ''
  claimRef: {namespace: csi, name: block}
  csi: {driver: memory.csi.e2e, volumeHandle: vol-block}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: block, namespace: csi}
spec: {accessModes: [ReadWriteOnce], volumeMode: Block, storageClassName: '', volumeName: pv-block, resources: {requests: {storage: 1Gi}}}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: csi}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {fsGroup: 2000}
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, 'echo hello > /v/f; sleep infinity']
    volumeMounts: [{name: v, mountPath: /v}, {name: inline, mountPath: /inline}]
    volumeDevices: [{name: raw, devicePath: /dev/xvda}]
  volumes:
  - {name: v, persistentVolumeClaim: {claimName: claim}}
  - {name: raw, persistentVolumeClaim: {claimName: block}}
  - {name: inline, csi: {driver: memory.csi.e2e, volumeAttributes: {colour: green}}}
";

#[test]
fn a_csi_driver_serves_volumes() {
    let c = Cluster::start();
    c.namespace("csi");
    let driver = start(&c);
    called(&c, "registered true");
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    let csi_node = c.get(&["csinode", &node]);
    let known = &csi_node["spec"]["drivers"][0];
    assert_eq!((&known["name"], &known["nodeID"]), (&DRIVER.into(), &"id-of-the-node".into()), "{csi_node}");
    assert_eq!(known["allocatable"]["count"], 7);
    assert_eq!(c.get(&["node", &node])["metadata"]["labels"]["topology.e2e/zone"], "z1");

    c.apply(SETUP);
    for claim in ["claim", "block"] {
        c.kubectl(&[
            "-n",
            "csi",
            "wait",
            "--for=jsonpath={.status.phase}=Bound",
            &format!("pvc/{claim}"),
            "--timeout=60s",
        ]);
    }
    c.apply(POD);
    eventually("both volumes to be in use", || {
        let used = c.kubectl(&["get", "node", &node, "-o", "jsonpath={.status.volumesInUse}"]);
        // Volumes are brought one by one.
        if used.contains("memory.csi.e2e^vol-1") { Ok(()) } else { Err(used) }
    });
    eventually("a ready pod", || {
        attach(&c);
        let ready = c.kubectl(&[
            "-n",
            "csi",
            "get",
            "pod",
            "p",
            "-o",
            "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        ]);
        if ready == "True" { Ok(()) } else { Err(format!("{}\n{}", c.log(), calls(&c))) }
    });
    called(&c, "stage vol-1 device=d1 key=secret-of-the-stage");
    called(&c, "publish vol-1 csi.storage.k8s.io/ephemeral=false,csi.storage.k8s.io/pod.name=p,");
    let calls_so_far = calls(&c);
    assert!(calls_so_far.contains("serviceAccount.tokens={\"vault\":{"), "{calls_so_far}");
    assert!(calls_so_far.contains("colour=green,csi.storage.k8s.io/ephemeral=true"), "{calls_so_far}");
    let inside = |script: &str| c.kubectl(&["-n", "csi", "exec", "p", "--", "sh", "-c", script]);
    assert_eq!(inside("stat -c %g /v; cat /v/f; grep -c ' /v tmpfs' /proc/mounts"), "2000\nhello\n1\n");
    assert_eq!(inside("stat -c %g /inline; test -b /dev/xvda && echo block"), "2000\nblock\n");
    let summary = c.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")]);
    assert!(summary.contains("\"availableBytes\":77"), "{summary}");

    // The kubelet goes and comes again; meanwhile the volume has grown.
    let patch = "{\"spec\": {\"capacity\": {\"storage\": \"2Gi\"}}}";
    c.kubectl(&["patch", "pv", "pv-csi", "-p", patch]);
    c.kill();
    c.restart();
    called(&c, &format!("expand vol-1 {}", 2_u64 << 30));
    eventually("the claim to know", || {
        let size =
            c.kubectl(&["-n", "csi", "get", "pvc", "claim", "-o", "jsonpath={.status.capacity.storage}"]);
        if size == "2Gi" { Ok(()) } else { Err(size) }
    });
    assert_eq!(inside("cat /v/f"), "hello\n");
    let published = calls(&c).lines().filter(|line| line.starts_with("publish vol-1 ")).count();
    assert_eq!(published, 1, "what is mounted is not mounted again");

    c.kubectl(&["-n", "csi", "delete", "pod", "p", "--timeout=60s"]);
    for call in
        ["unpublish vol-1", "unstage vol-1", "unpublish vol-block", "unstage vol-block", "unpublish csi-"]
    {
        called(&c, call);
    }
    eventually("nothing to be in use", || {
        let used = c.kubectl(&[
            "get",
            "node",
            &node,
            "-o",
            "jsonpath={.status.volumesInUse}{.status.volumesAttached}",
        ]);
        if used.is_empty() || used == "[][]" { Ok(()) } else { Err(used) }
    });
    let mounts = c.host.run("grep", &["-c", "kubernetes.io.csi", "/proc/mounts"], "");
    assert_eq!(mounts.stdout, "0\n", "mounts are left");

    drop(driver);
    std::fs::remove_file(c.root().join(format!("kubelet/plugins_registry/{DRIVER}-reg.sock"))).unwrap();
    eventually("no driver", || {
        let drivers = c.kubectl(&["get", "csinode", &node, "-o", "jsonpath={.spec.drivers}"]);
        if drivers.is_empty() || drivers == "[]" { Ok(()) } else { Err(drivers) }
    });
}
