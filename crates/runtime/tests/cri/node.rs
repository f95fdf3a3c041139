//! Pods that are in the node's namespaces, ports of the node, and what becomes of a pod that is stopped.

use std::process::Command;

use k8s_cri::v1::*;

use crate::containers::{Pod, exec, status};
use crate::host::{Host, with_host};

fn in_namespaces(mut config: PodSandboxConfig, options: NamespaceOption) -> PodSandboxConfig {
    config.linux.get_or_insert_default().security_context =
        Some(LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() });
    config
}

fn with(mut config: ContainerConfig, context: LinuxContainerSecurityContext) -> ContainerConfig {
    config.linux.get_or_insert_default().security_context = Some(context);
    config
}

async fn ip(host: &mut Host, pod: &Pod) -> String {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
    let status = host.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    status.network.map(|n| n.ip).unwrap_or_default()
}

#[test]
fn the_nodes_namespaces() {
    with_host(|mut host| async move {
        let node = NamespaceMode::Node as i32;
        let options = NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() };
        let mut config = in_namespaces(Pod::config(&host, "node"), options.clone());
        config.hostname.clear();
        let pod = Pod::run_with(&mut host, config).await;
        assert_eq!(ip(&mut host, &pod).await, "", "it has none of its own");
        let context =
            LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        let id = pod.start(&mut host, with(pod.script("main", "exec sleep 1000"), context)).await;
        let link = |path: &str| std::fs::read_link(path).unwrap().display().to_string();
        for kind in ["net", "ipc", "uts", "pid"] {
            // This thread's: the test has a network of its own.
            let own = link(&format!("/proc/thread-self/ns/{kind}"));
            let path = format!("/proc/self/ns/{kind}");
            let (_, theirs, _) = exec(&mut host, &id, &["readlink", &path]).await.unwrap();
            assert_eq!(theirs.trim(), own, "{kind}");
        }
        let (_, hostname, _) = exec(&mut host, &id, &["hostname"]).await.unwrap();
        assert_eq!(hostname.trim(), rustix::system::uname().nodename().to_string_lossy());
        let name = format!("corten-cri-{}", std::process::id());
        let shared = std::path::Path::new("/dev/shm").join(&name);
        std::fs::write(&shared, "x").unwrap();
        let (code, ..) = exec(&mut host, &id, &["test", "-e", &shared.display().to_string()]).await.unwrap();
        std::fs::remove_file(&shared).unwrap();
        assert_eq!(code, 0, "the node's shared memory");
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn ports_of_the_node() {
    with_host(|mut host| async move {
        let port = |host_port, host_ip: &str| PortMapping {
            container_port: 8080,
            host_port,
            host_ip: host_ip.into(),
            ..Default::default()
        };
        let mut config = Pod::config(&host, "ports");
        config.port_mappings =
            vec![port(9001, ""), port(9002, "0.0.0.0"), port(9003, "127.0.0.1"), port(0, "")];
        let pod = Pod::run_with(&mut host, config).await;
        let script = "while :; do echo hi | nc -l -p 8080; done";
        pod.start(&mut host, pod.script("server", script)).await;
        for port in ["9001", "9002", "9003"] {
            let ask =
                || Command::new("/bin/busybox").args(["nc", "-w", "5", "127.0.0.1", port]).output().unwrap();
            // Between two clients nobody listens.
            let answer = (0..500).map(|_| ask()).find(|o| o.stdout == b"hi\n");
            assert!(answer.is_some(), "port {port}");
        }
        let mut bad = Pod::config(&host, "bad");
        bad.port_mappings = vec![port(70000, "")];
        let request = RunPodSandboxRequest { config: Some(bad), runtime_handler: String::new() };
        assert!(host.runtime.run_pod_sandbox(request).await.is_err());
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_stopped_pod_is_there_until_it_is_removed() {
    with_host(|mut host| async move {
        let mut config = Pod::config(&host, "stopped");
        // Both ways in which sysctls are written.
        config.linux.get_or_insert_default().sysctls =
            [("kernel/shm_rmid_forced".to_owned(), "1".to_owned())].into();
        let pod = Pod::run_with(&mut host, config).await;
        let runs = pod.start(&mut host, pod.script("runs", "exec sleep 1000")).await;
        let (_, forced, _) =
            exec(&mut host, &runs, &["cat", "/proc/sys/kernel/shm_rmid_forced"]).await.unwrap();
        assert_eq!(forced, "1\n");
        let never = pod.create(&mut host, pod.script("never", "true")).await.unwrap();
        // One that was never started may be stopped, and stays what it is.
        let request = StopContainerRequest { container_id: never.clone(), timeout: 1 };
        host.runtime.stop_container(request).await.unwrap();
        assert_eq!(status(&mut host, &never).await.state(), ContainerState::ContainerCreated);
        for _ in 0..2 {
            let request = StopPodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() };
            host.runtime.stop_pod_sandbox(request).await.unwrap();
        }
        let told = status(&mut host, &runs).await;
        assert_eq!((told.state(), told.exit_code), (ContainerState::ContainerExited, 137));
        let of = |state: PodSandboxState| PodSandboxFilter {
            id: pod.sandbox.clone(),
            state: Some(PodSandboxStateValue { state: state as i32 }),
            ..Default::default()
        };
        for (state, count) in [(PodSandboxState::SandboxReady, 0), (PodSandboxState::SandboxNotready, 1)] {
            let request = ListPodSandboxRequest { filter: Some(of(state)) };
            let listed = host.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
            assert_eq!(listed.len(), count, "{state:?}");
        }
        let late = pod.create(&mut host, pod.script("late", "true")).await.unwrap_err();
        assert_eq!(late.code(), tonic::Code::FailedPrecondition, "{late}");
        for _ in 0..2 {
            host.runtime
                .remove_container(RemoveContainerRequest { container_id: never.clone() })
                .await
                .unwrap();
        }
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_seccomp_profile_of_the_node() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "seccomp").await;
        let file = host.directory.path().join("profile.json");
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
        std::fs::write(&file, profile).unwrap();
        let security =
            |localhost_ref: String, kind: security_profile::ProfileType| LinuxContainerSecurityContext {
                seccomp: Some(SecurityProfile { profile_type: kind as i32, localhost_ref }),
                ..Default::default()
            };
        use security_profile::ProfileType;
        let path = file.display().to_string();
        for (number, (context, code)) in [
            (security(path.clone(), ProfileType::Localhost), 1),
            (security(format!("localhost/{path}"), ProfileType::Localhost), 1),
            (security(String::new(), ProfileType::Unconfined), 0),
            (security(String::new(), ProfileType::RuntimeDefault), 0),
            (
                LinuxContainerSecurityContext {
                    privileged: false,
                    ..security(path, ProfileType::Unconfined)
                },
                0,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let config = with(pod.script(&format!("c{number}"), "mkdir /made 2>/dev/null"), context.clone());
            let (status, _) = pod.run_container(&mut host, config).await;
            assert_eq!(status.exit_code, code, "{context:?}");
        }
        let missing = security("/no/such/profile.json".to_owned(), ProfileType::Localhost);
        assert!(pod.create(&mut host, with(pod.script("missing", "true"), missing)).await.is_err());
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
