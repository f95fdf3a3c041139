//! The same on a machine with cgroup v2 alone: its hierarchy is mounted where the tests' is. Controllers may all be with
//! version 1 here, so limits are not tried; where processes are, what they may do with devices and how they end is.

use std::fs;

use crate::containers::{Pod, exec, status};
use crate::host::with_unified_host;
use k8s_cri::v1::*;

#[test]
fn the_one_hierarchy() {
    with_unified_host(|mut host| async move {
        let pod = Pod::run(&mut host, "unified").await;
        let script = "sleep 1001 & busybox mknod /null c 1 3; busybox mknod /kmsg c 1 11; \
                      echo x > /null && echo allowed; head -c 1 /kmsg 2>&1; echo up; exec sleep 1000";
        let id = pod.start(&mut host, pod.script("main", script)).await;
        while !pod.log("main").contains("up") {
            tokio::task::yield_now().await;
        }
        let log = pod.log("main");
        assert!(log.contains("allowed") && log.contains("Operation not permitted"), "{log}");
        // Born in its group, as what is executed in it later; it sees itself at the root.
        let (_, inside, _) = exec(&mut host, &id, &["cat", "/proc/self/cgroup"]).await.unwrap();
        assert!(inside.ends_with("0::/\n"), "{inside}");
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
        let info = host.runtime.container_status(request).await.unwrap().into_inner().info;
        let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
        let group = fs::read_to_string(format!("/proc/{}/cgroup", info["pid"])).unwrap();
        let expected = format!("0::{}/pod-unified/{id}", host.cgroup);
        assert!(group.lines().any(|l| l == expected), "{group}");
        let procs = format!("/sys/fs/cgroup{}/pod-unified/{id}/cgroup.procs", host.cgroup);
        assert_eq!(fs::read_to_string(procs).unwrap().lines().count(), 2);
        let stats = ContainerStatsRequest { container_id: id.clone() };
        let stats = host.runtime.container_stats(stats).await.unwrap().into_inner().stats.unwrap();
        assert!(stats.cpu.is_some() && stats.memory.is_some());
        // With the pod's PID namespace nothing else ends what the first process leaves.
        host.runtime
            .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 0 })
            .await
            .unwrap();
        assert_eq!(status(&mut host, &id).await.exit_code, 137);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
