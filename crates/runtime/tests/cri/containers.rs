//! Containers through their lives.

use std::fs;
use std::path::PathBuf;

use k8s_cri::v1::*;
use tonic::Code;

use crate::host::{Host, IMAGE, with_host};

/// A pod with convenience for what tests do with it.
pub struct Pod {
    pub sandbox: String,
    pub config: PodSandboxConfig,
}

impl Pod {
    pub async fn run(host: &mut Host, name: &str) -> Self {
        let config = Self::config(host, name);
        Self::run_with(host, config).await
    }

    pub fn config(host: &Host, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: host.directory.path().join("logs").join(name).display().to_string(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/pod-{name}", host.cgroup),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn run_with(host: &mut Host, config: PodSandboxConfig) -> Self {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let sandbox = host.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        Self { sandbox, config }
    }

    pub fn script(&self, name: &str, script: &str) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: format!("{name}.log"),
            ..Default::default()
        }
    }

    pub async fn create(&self, host: &mut Host, config: ContainerConfig) -> Result<String, tonic::Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: self.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        Ok(host.runtime.create_container(request).await?.into_inner().container_id)
    }

    pub async fn start(&self, host: &mut Host, config: ContainerConfig) -> String {
        let id = self.create(host, config).await.unwrap();
        host.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
        id
    }

    /// Runs a script to its end.
    pub async fn run_script(&self, host: &mut Host, name: &str, script: &str) -> (ContainerStatus, String) {
        let config = self.script(name, script);
        self.run_container(host, config).await
    }

    pub async fn run_container(&self, host: &mut Host, config: ContainerConfig) -> (ContainerStatus, String) {
        let name = config.metadata.as_ref().unwrap().name.clone();
        let mut events = host.runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
        let id = self.start(host, config).await;
        while let Some(event) = events.message().await.unwrap() {
            if event.container_id == id
                && event.container_event_type() == ContainerEventType::ContainerStoppedEvent
            {
                break;
            }
        }
        (status(host, &id).await, self.log(&name))
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        PathBuf::from(&self.config.log_directory).join(format!("{name}.log"))
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    pub async fn remove(self, host: &mut Host) {
        let request = StopPodSandboxRequest { pod_sandbox_id: self.sandbox.clone() };
        host.runtime.stop_pod_sandbox(request).await.unwrap();
        host.runtime
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: self.sandbox })
            .await
            .unwrap();
        let name = self.config.metadata.map(|m| m.name).unwrap_or_default();
        host.remove_pod_cgroup(&format!("pod-{name}"));
    }
}

pub async fn status(host: &mut Host, id: &str) -> ContainerStatus {
    let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
    host.runtime.container_status(request).await.unwrap().into_inner().status.unwrap()
}

pub async fn exec(
    host: &mut Host,
    id: &str,
    command: &[&str],
) -> Result<(i32, String, String), tonic::Status> {
    let cmd = command.iter().map(|c| (*c).to_owned()).collect();
    let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: 20 };
    let output = host.runtime.exec_sync(request).await?.into_inner();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.exit_code, text(output.stdout), text(output.stderr)))
}

/// Stream and text of each line, or of what ends without one.
fn contents(log: &str) -> Vec<(&str, &str)> {
    fn parts(line: &str) -> Option<(&str, &str)> {
        let rest = line.split_once(' ')?.1;
        rest.split_once(" F ").or_else(|| rest.split_once(" P "))
    }
    log.lines().filter_map(parts).collect()
}

#[test]
fn a_container_runs_logs_and_ends() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "one").await;
        let script = "echo out; echo err >&2; hostname; id -u; echo $FROM; echo -n rest; exit 7";
        let (status, log) = pod.run_script(&mut host, "main", script).await;
        assert_eq!(
            (status.state(), status.exit_code, status.reason.as_str()),
            (ContainerState::ContainerExited, 7, "Error")
        );
        assert!(
            status.started_at > status.created_at && status.finished_at >= status.started_at,
            "{status:?}"
        );
        let mut lines = contents(&log);
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                ("stderr", "err"),
                ("stdout", "0"),
                ("stdout", "image"),
                ("stdout", "one"),
                ("stdout", "out"),
                ("stdout", "rest")
            ]
        );
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn errors_have_their_codes() {
    with_host(|mut host| async move {
        let none = || "nope".to_owned();
        let code = host
            .runtime
            .container_status(ContainerStatusRequest { container_id: none(), verbose: false })
            .await
            .unwrap_err()
            .code();
        assert_eq!(code, Code::NotFound);
        host.runtime.stop_container(StopContainerRequest { container_id: none(), timeout: 0 }).await.unwrap();
        host.runtime.remove_container(RemoveContainerRequest { container_id: none() }).await.unwrap();
        host.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: none() }).await.unwrap();
        host.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: none() }).await.unwrap();

        let pod = Pod::run(&mut host, "two").await;
        let again = RunPodSandboxRequest { config: Some(pod.config.clone()), runtime_handler: String::new() };
        assert_eq!(host.runtime.run_pod_sandbox(again).await.unwrap_err().code(), Code::AlreadyExists);
        let mut missing = pod.script("a", "true");
        missing.image = Some(ImageSpec { image: "test.local/none:1".into(), ..Default::default() });
        assert_eq!(pod.create(&mut host, missing).await.unwrap_err().code(), Code::NotFound);
        let mut broken = pod.script("b", "true");
        broken.command = vec!["/no/such/program".into()];
        let id = pod.create(&mut host, broken).await.unwrap();
        let error = host
            .runtime
            .start_container(StartContainerRequest { container_id: id.clone() })
            .await
            .unwrap_err();
        assert!(error.message().contains("/no/such/program"), "{error}");
        let status = status(&mut host, &id).await;
        assert_eq!(
            (status.state(), status.exit_code, status.reason.as_str()),
            (ContainerState::ContainerExited, 128, "StartError")
        );
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn exec_and_users_and_volumes() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "three").await;
        let volume = host.directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "hello").unwrap();
        let mut config = pod.script("main", "(true) && exec sleep 1000");
        config.envs = vec![KeyValue { key: "POD".into(), value: "yes".into() }];
        config.mounts = vec![
            Mount {
                container_path: "/ro".into(),
                host_path: volume.display().to_string(),
                readonly: true,
                ..Default::default()
            },
            Mount {
                container_path: "/rw".into(),
                host_path: volume.display().to_string(),
                ..Default::default()
            },
        ];
        config.linux = Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                cpu_shares: 512,
                oom_score_adj: -900,
                ..Default::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                run_as_user: Some(Int64Value { value: 101 }),
                supplemental_groups: vec![7],
                no_new_privs: true,
                masked_paths: vec!["/proc/interrupts".into()],
                seccomp: Some(SecurityProfile {
                    profile_type: security_profile::ProfileType::RuntimeDefault as i32,
                    ..Default::default()
                }),
                ..Default::default()
            }),
        });
        let id = pod.start(&mut host, config).await;
        for (command, code, stdout) in [
            (
                &["sh", "-c", "id -u; id -g; id -G; echo $POD $HOME $HOSTNAME"][..],
                0,
                "101\n102\n102 7 200\nyes /tmp three\n",
            ),
            (&["cat", "/ro/file"], 0, "hello"),
            (&["sh", "-c", "touch /ro/x 2>/dev/null"], 1, ""),
            (&["sh", "-c", "touch /root-owned 2>/dev/null"], 1, ""),
            (&["sh", "-c", "exit 42"], 42, ""),
            (&["sh", "-c", "kill -9 $$"], 137, ""),
            (&["sh", "-c", "mount -t tmpfs none /tmp 2>/dev/null"], 1, ""),
            (&["sh", "-c", "unshare -U true 2>/dev/null"], 1, ""),
            (&["cat", "/etc/hostname"], 0, "three\n"),
            (&["sh", "-c", "test -e /proc/interrupts && cat /proc/interrupts"], 0, ""),
            (&["grep", "-c", "Seccomp:\t2", "/proc/self/status"], 0, "1\n"),
            (&["sh", "-c", "(true); echo forked"], 0, "forked\n"),
            (&["grep", "CapEff", "/proc/self/status"], 0, "CapEff:\t0000000000000000\n"),
        ] {
            let (actual, out, err) = exec(&mut host, &id, command).await.unwrap();
            assert_eq!((actual, out.as_str()), (code, stdout), "{command:?}: {err}");
        }
        let error = exec(&mut host, &id, &["/no/such"]).await.unwrap_err();
        assert!(error.message().contains("/no/such"), "{error}");
        let timed_out =
            ExecSyncRequest { container_id: id.clone(), cmd: vec!["sleep".into(), "100".into()], timeout: 1 };
        assert_eq!(host.runtime.exec_sync(timed_out).await.unwrap_err().code(), Code::DeadlineExceeded);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn stopping_is_polite_first() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "four").await;
        let polite = pod
            .start(
                &mut host,
                pod.script("polite", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"),
            )
            .await;
        let stubborn = pod
            .start(&mut host, pod.script("stubborn", "trap '' TERM; echo up; while :; do sleep 0.05; done"))
            .await;
        // Both say that they have set their traps.
        for name in ["polite", "stubborn"] {
            while !pod.log(name).contains("up") {
                tokio::task::yield_now().await;
            }
        }
        for (id, seconds, code) in [(polite, 20, 3), (stubborn, 1, 137)] {
            host.runtime
                .stop_container(StopContainerRequest { container_id: id.clone(), timeout: seconds })
                .await
                .unwrap();
            let status = status(&mut host, &id).await;
            assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, code));
        }
        assert!(pod.log("polite").contains("bye"));
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn out_of_memory_is_told() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "five").await;
        let mut config = pod
            .script("main", "head -c 200m /dev/zero | tail -c 150m > /dev/null; exec tail -c 150m /dev/zero");
        config.linux = Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: 24 << 20,
                memory_swap_limit_in_bytes: 24 << 20,
                ..Default::default()
            }),
            ..Default::default()
        });
        let (status, _) = pod.run_container(&mut host, config).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn pods_have_addresses_and_share_namespaces() {
    with_host(|mut host| async move {
        let mut config = Pod::config(&host, "six");
        config.port_mappings =
            vec![PortMapping { container_port: 8080, host_port: 9090, ..Default::default() }];
        let pod = Pod::run_with(&mut host, config).await;
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
        let ip = host
            .runtime
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
            .network
            .unwrap()
            .ip;
        assert!(ip.starts_with("10.244.7."), "{ip}");
        let server = pod
            .start(
                &mut host,
                pod.script("server", "echo shared > /dev/shm/x; while :; do echo hi | nc -l -p 8080; done"),
            )
            .await;
        let (status, log) = pod
            .run_script(&mut host, "client", "cat /dev/shm/x; while ! nc 127.0.0.1 8080; do :; done")
            .await;
        assert_eq!(status.exit_code, 0, "{log}");
        assert_eq!(contents(&log), [("stdout", "shared"), ("stdout", "hi")]);
        // From the node: by the pod's address, and by the port of the node.
        let ask = || {
            std::process::Command::new("/bin/busybox").args(["nc", "-w", "5", &ip, "8080"]).output().unwrap()
        };
        // Between two clients nobody listens.
        let node = (0..500).map(|_| ask()).find(|o| o.status.success()).unwrap_or_else(ask);
        assert_eq!(String::from_utf8_lossy(&node.stdout), "hi\n", "{node:?}");
        // The default of the CRI is one PID namespace for the pod, whose first process is the shim's.
        let (_, first, _) = exec(&mut host, &server, &["cat", "/proc/1/comm"]).await.unwrap();
        assert_eq!(first, "pod-init\n");
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn terminals_and_attached_stdin() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "seven").await;
        let mut config = pod.script("tty", "test -t 0 && test -t 1 && test -c /dev/console && echo terminal");
        config.tty = true;
        config.stdin = true;
        let (status, log) = pod.run_container(&mut host, config).await;
        assert_eq!((status.exit_code, contents(&log)), (0, vec![("stdout", "terminal")]));
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn hostile_images_and_privileges() {
    with_host(|mut host| async move {
        let mut config = Pod::config(&host, "eight");
        config.linux.get_or_insert_default().security_context =
            Some(LinuxSandboxSecurityContext { privileged: true, ..Default::default() });
        let pod = Pod::run_with(&mut host, config).await;
        let mut privileged = pod.script("privileged", "grep CapEff /proc/self/status; touch /proc/sys/kernel/x 2>/dev/null; test -e /dev/kmsg && echo devices");
        privileged.linux = Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext { privileged: true, ..Default::default() }),
            ..Default::default()
        });
        let (status, log) = pod.run_container(&mut host, privileged).await;
        assert_eq!(status.exit_code, 0, "{log}");
        assert!(log.contains("devices"), "{log}");
        let script = "echo x > /proc/sys/kernel/core_pattern; echo y > /x; cat /proc/keys; ls /sys/firmware; ls /dev; touch /sys/kernel/x";
        let mut readonly = pod.script("readonly", script);
        readonly.linux = Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                readonly_rootfs: true,
                masked_paths: ["/proc/keys", "/sys/firmware"].map(str::to_owned).into(),
                readonly_paths: vec!["/proc/sys".into()],
                ..Default::default()
            }),
            ..Default::default()
        });
        let (_, log) = pod.run_container(&mut host, readonly).await;
        let errors: Vec<_> = contents(&log)
            .into_iter()
            .filter(|(stream, _)| *stream == "stderr")
            .map(|(_, line)| line)
            .collect();
        assert_eq!(errors.iter().filter(|e| e.contains("Read-only file system")).count(), 3, "{log}");
        let out: Vec<_> = contents(&log)
            .into_iter()
            .filter(|(stream, _)| *stream == "stdout")
            .map(|(_, line)| line)
            .collect();
        let devices = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert_eq!(out.join(" "), devices);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn places_of_mounts_are_no_writes_of_the_container() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "quiet").await;
        let id = pod.start(&mut host, pod.script("main", "sleep 1000")).await;
        let upper = host.directory.path().join("root/containers").join(&id).join("upper");
        let written = || fs::read_dir(&upper).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert!(written().is_empty(), "{:?}", written());
        let write = ["sh", "-c", "echo here > /etc/mine && grep quiet /etc/hostname"].map(str::to_owned);
        let request = ExecSyncRequest { container_id: id, cmd: write.into(), timeout: 10 };
        let answer = host.runtime.exec_sync(request).await.unwrap().into_inner();
        assert_eq!((answer.exit_code, answer.stdout.as_slice()), (0, &b"quiet\n"[..]));
        assert_eq!(written(), ["etc"]);
        assert_eq!(fs::read_dir(upper.join("etc")).unwrap().count(), 1);
    });
}
