//! Networks by CNI plugins: Debian's containernetworking-plugins.

use std::fs;
use std::path::Path;
use std::process::Command;

use k8s_cri::v1::*;

use crate::containers::{Pod, exec};
use crate::host::{Host, with_host};

const PLUGINS: &str = "/usr/lib/cni";

fn conflist(host: &Host) -> String {
    let leases = host.directory.path().join("leases");
    serde_json::json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cri0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/24"}]], "dataDir": leases,
            "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
    .to_string()
}

async fn network_ready(host: &mut Host) -> (bool, String) {
    let status = host.runtime.status(StatusRequest::default()).await.unwrap().into_inner().status.unwrap();
    let network = status.conditions.into_iter().find(|c| c.r#type == "NetworkReady").unwrap();
    (network.status, network.message)
}

#[test]
fn pods_are_connected_by_plugins() {
    if !Path::new(PLUGINS).join("bridge").exists() {
        // script/test installs them.
        return eprintln!("skipped: containernetworking-plugins is not installed");
    }
    with_host(|mut host| async move {
        let conf = host.directory.path().join("net.d");
        fs::create_dir(&conf).unwrap();
        let arguments = [format!("cni={}:{PLUGINS}", conf.display())];
        host.restart_with(&arguments).await;
        let (ready, message) = network_ready(&mut host).await;
        assert!(!ready && message.contains("no network configuration"), "{message}");
        let request = RunPodSandboxRequest {
            config: Some(Pod::config(&host, "early")),
            runtime_handler: String::new(),
        };
        assert!(host.runtime.run_pod_sandbox(request).await.is_err());

        fs::write(conf.join("10-pods.conflist"), conflist(&host)).unwrap();
        assert_eq!(network_ready(&mut host).await, (true, String::new()));
        let mut config = Pod::config(&host, "plugged");
        config.port_mappings =
            vec![PortMapping { container_port: 8080, host_port: 9091, ..Default::default() }];
        let pod = Pod::run_with(&mut host, config).await;
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
        let status = host.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
        let ip = status.network.unwrap().ip;
        assert!(ip.starts_with("10.99.0."), "{ip}");
        let id = pod.start(&mut host, pod.script("main", "while :; do echo hi | nc -l -p 8080; done")).await;
        let (_, route, _) = exec(&mut host, &id, &["cat", "/proc/net/route"]).await.unwrap();
        assert!(route.contains("eth0\t00000000"), "{route}");
        let ask = || Command::new("/bin/busybox").args(["nc", "-w", "5", &ip, "8080"]).output().unwrap();
        let node = (0..500).map(|_| ask()).find(|o| o.status.success()).unwrap_or_else(ask);
        assert_eq!(String::from_utf8_lossy(&node.stdout), "hi\n", "{node:?}");
        let rules = Command::new("iptables-save").output().unwrap();
        assert!(String::from_utf8_lossy(&rules.stdout).contains("9091"), "{rules:?}");

        // It is undone by the configuration that it was done by, and by another process.
        fs::write(conf.join("10-pods.conflist"), "{}").unwrap();
        host.restart_with(&arguments).await;
        pod.remove(&mut host).await;
        let addresses = fs::read_dir(host.directory.path().join("leases/pods")).unwrap();
        let addresses: Vec<_> = addresses
            .map(|e| e.unwrap().file_name())
            .filter(|n| n.to_string_lossy().contains("10.99"))
            .collect();
        assert!(addresses.is_empty(), "{addresses:?}");
        let rules = Command::new("iptables-save").output().unwrap();
        assert!(!String::from_utf8_lossy(&rules.stdout).contains("9091"), "{rules:?}");
        assert_eq!(fs::read_dir(host.directory.path().join("root/cni")).unwrap().count(), 0);

        // A plugin's error is told in its words, and nothing of the pod stays.
        let broken = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cri0",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "nonsense"}]]}}]}"#;
        fs::write(conf.join("10-pods.conflist"), broken).unwrap();
        let request =
            RunPodSandboxRequest { config: Some(Pod::config(&host, "late")), runtime_handler: String::new() };
        let error = host.runtime.run_pod_sandbox(request).await.unwrap_err();
        assert!(error.message().contains("plugin bridge ADD failed"), "{error}");
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_network_may_be_configured_later() {
    if !Path::new(PLUGINS).join("bridge").exists() {
        return eprintln!("skipped: containernetworking-plugins is not installed");
    }
    with_host(|mut host| async move {
        let conf = host.directory.path().join("net.d");
        host.restart_with(&[format!("later-cni={}:{PLUGINS}", conf.display())]).await;
        assert_eq!(network_ready(&mut host).await, (true, String::new()));
        let before = Pod::run(&mut host, "before").await;
        assert!(ip(&mut host, &before).await.starts_with("10.244.7."));
        fs::create_dir(&conf).unwrap();
        fs::write(conf.join("10-pods.conflist"), conflist(&host)).unwrap();
        assert_eq!(network_ready(&mut host).await, (true, String::new()));
        let after = Pod::run(&mut host, "after").await;
        assert!(ip(&mut host, &after).await.starts_with("10.99.0."));
        // Each leaves by the way that it came.
        before.remove(&mut host).await;
        after.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
        assert_eq!(fs::read_dir(host.directory.path().join("root/cni")).unwrap().count(), 0);
    });
}

async fn ip(host: &mut Host, pod: &Pod) -> String {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
    let status = host.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    status.network.unwrap_or_default().ip
}
