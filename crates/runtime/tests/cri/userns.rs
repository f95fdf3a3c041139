//! Pods in user namespaces: root inside, nobody outside.

use std::fs;
use std::os::unix::fs::MetadataExt;

use k8s_cri::v1::*;

use crate::containers::{Pod, exec};
use crate::host::with_host;

const BASE: u32 = 500_000;

fn mapping() -> Vec<IdMapping> {
    vec![IdMapping { host_id: BASE, container_id: 0, length: 65536 }]
}

fn options(pid: NamespaceMode) -> NamespaceOption {
    let userns_options =
        Some(UserNamespace { mode: NamespaceMode::Pod as i32, uids: mapping(), gids: mapping() });
    NamespaceOption { pid: pid as i32, userns_options, ..Default::default() }
}

#[test]
fn root_of_a_pod_is_nobody_on_the_host() {
    with_host(|mut host| async move {
        for pid in [NamespaceMode::Container, NamespaceMode::Pod] {
            let name = format!("mapped-{}", pid as i32);
            let mut config = Pod::config(&host, &name);
            config.linux.get_or_insert_default().security_context = Some(LinuxSandboxSecurityContext {
                namespace_options: Some(options(pid)),
                ..Default::default()
            });
            let pod = Pod::run_with(&mut host, config).await;
            let volume = host.directory.path().join(&name);
            fs::create_dir(&volume).unwrap();
            fs::write(volume.join("file"), "owned by root of the host").unwrap();
            let mut config = pod.script("main", "exec sleep 1000");
            config.mounts = vec![Mount {
                container_path: "/volume".into(),
                host_path: volume.display().to_string(),
                uid_mappings: mapping(),
                gid_mappings: mapping(),
                ..Default::default()
            }];
            config.linux = Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(options(pid)),
                    masked_paths: vec!["/proc/keys".into()],
                    readonly_paths: vec!["/proc/sys".into()],
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
                ..Default::default()
            });
            let id = pod.start(&mut host, config.clone()).await;
            let map = format!("0 {BASE} 65536\n");
            for (script, expected) in [
                ("echo $(cat /proc/self/uid_map)", map.as_str()),
                ("id -u; id -G", "0\n0\n"),
                ("stat -c '%u:%g' /bin/busybox /volume/file /etc/hosts", "0:0\n0:0\n0:0\n"),
                ("touch /volume/new /new && stat -c '%u' /volume/new /new", "0\n0\n"),
                ("echo x > /dev/null && head -c 1 /dev/zero | tr '\\0' y", "y"),
                ("echo x >> /etc/hosts; hostname", &format!("{name}\n")),
                ("cat /proc/keys; touch /proc/sys/x 2>/dev/null || echo read-only", "read-only\n"),
                ("mkdir /m; mount -t tmpfs none /m 2>/dev/null || echo no", "no\n"),
            ] {
                let (_, out, error) = exec(&mut host, &id, &["sh", "-c", script]).await.unwrap();
                assert_eq!(out, expected, "{script}: {error}");
            }
            // A file that the pod made in a volume is the host's root's; its processes are nobody's.
            assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
            let info = host.runtime.container_status(request).await.unwrap().into_inner().info;
            let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
            let process = fs::metadata(format!("/proc/{}/status", info["pid"])).unwrap();
            assert_eq!((process.uid(), process.gid()), (BASE, BASE));
            let mut tty = config.clone();
            tty.metadata = Some(ContainerMetadata { name: "tty".into(), attempt: 0 });
            tty.command = ["sh", "-c", "test -t 1 && echo terminal"].map(str::to_owned).into();
            tty.log_path = "tty.log".into();
            tty.tty = true;
            let (status, log) = pod.run_container(&mut host, tty).await;
            assert!(status.exit_code == 0 && log.contains("terminal"), "{status:?} {log}");
            let mut broken = config;
            broken.metadata = Some(ContainerMetadata { name: "broken".into(), attempt: 0 });
            broken.command = vec!["/no/such".into()];
            let id = pod.create(&mut host, broken).await.unwrap();
            let request = StartContainerRequest { container_id: id };
            let error = host.runtime.start_container(request).await.unwrap_err();
            assert!(error.message().contains("/no/such"), "{error}");
            pod.remove(&mut host).await;
        }
        let status = host.runtime.status(StatusRequest::default()).await.unwrap().into_inner();
        assert!(status.runtime_handlers[0].features.unwrap().user_namespaces);
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
