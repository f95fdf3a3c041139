//! A node that has nothing but a token: it asks for its certificates and renews them.

use std::process::{Child, Stdio};

use e2e::{Cluster, eventually};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TOKEN: &str = "
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: abcdef
  token-secret: 0123456789abcdef
  usage-bootstrap-authentication: 'true'
  usage-bootstrap-signing: 'true'
  auth-extra-groups: system:bootstrappers:kubeadm:default-node-token
";

#[test]
fn a_kubelet_joins_with_a_token() {
    let c = Cluster::start();
    c.apply(TOKEN);
    let directory = c.host.directory();
    let config = c.kubectl(&["config", "view", "--raw", "-o", "json"]);
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("kubectl prints JSON");
    config["users"][0]["user"] = serde_json::json!({"token": "abcdef.0123456789abcdef"});
    c.host.file("bootstrap.conf", &config.to_string());
    let usual = std::fs::read_to_string(directory.join("kubelet.yaml")).unwrap();
    c.host.file(
        "second.yaml",
        &format!("{usual}rotateCertificates: true\nserverTLSBootstrap: true\nhealthzPort: 0\n"),
    );
    std::fs::create_dir(directory.join("drop-ins")).unwrap();
    let drop_in = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 17\n";
    c.host.file("drop-ins/10-pods.conf", drop_in);
    let path = |name: &str| directory.join(name).display().to_string();
    let mut command = c.host.command(e2e::corten());
    command
        .args(["--root-dir", &path("second"), "--run-dir", &path("second-run"), "kubelet"])
        .args(["--bootstrap-kubeconfig", &path("bootstrap.conf"), "--kubeconfig", &path("second.conf")])
        .args(["--config", &path("second.yaml"), "--config-dir", &path("drop-ins")])
        .args(["--container-runtime-endpoint", &format!("unix://{}", path("run/cri.sock"))])
        .args(["--client-ca-file", &path("root/pki/ca.crt")])
        .args(["--hostname-override", "second", "--kubelet-port", "10350", "--node-labels", "colour=green"])
        .stdin(Stdio::null());
    let _kubelet = Process(command.spawn().expect("the kubelet runs"));

    c.kubectl(&["wait", "--for=create", "node/second", "--timeout=60s"]);
    c.kubectl(&["wait", "--for=condition=Ready", "node/second", "--timeout=60s"]);
    let node = c.get(&["node", "second"]);
    assert_eq!(node["metadata"]["labels"]["colour"], "green");
    assert_eq!(node["status"]["capacity"]["pods"], "17");
    assert!(directory.join("second/kubelet/pki/kubelet-client-current.pem").exists());
    let made = std::fs::read_to_string(directory.join("second.conf")).unwrap();
    assert!(made.contains("kubelet-client-current.pem") && !made.contains("token"), "{made}");

    // Nobody approves serving certificates by himself.
    let mut name = String::new();
    eventually("a request for a serving certificate", || {
        name = c.kubectl(&[
            "get",
            "csr",
            "-o",
            "jsonpath={.items[?(@.spec.signerName=='kubernetes.io/kubelet-serving')].metadata.name}",
        ]);
        if name.is_empty() { Err(c.log()) } else { Ok(()) }
    });
    c.kubectl(&["certificate", "approve", &name]);
    eventually("the kubelet's API to be served", || {
        let answer = c.try_kubectl(&["get", "--raw", "/api/v1/nodes/second/proxy/healthz"], "");
        if answer.ok && answer.stdout == "ok" { Ok(()) } else { Err(answer.stderr) }
    });
}
