//! The runtime is killed at any moment, comes back, and nothing is left of what it was at.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_cri::v1::*;

use crate::containers::Pod;
use crate::host::{Host, with_host};

/// How often; the whole of it in more rounds: `CORTEN_FAULTS=100`.
const ROUNDS: u64 = 24;
/// A pod's whole life takes about so long; kills are spread over it.
const LIFE: Duration = Duration::from_millis(240);

/// A pod from its beginning to its end, as far as it comes.
async fn live(mut host: Clients, config: PodSandboxConfig) -> Result<(), tonic::Status> {
    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let sandbox = host.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let pod = Pod { sandbox: sandbox.clone(), config: config.clone() };
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(pod.script("main", "exec sleep 1000")),
        sandbox_config: Some(config),
    };
    let container_id = host.runtime.create_container(request).await?.into_inner().container_id;
    host.runtime.start_container(StartContainerRequest { container_id: container_id.clone() }).await?;
    let request =
        ExecSyncRequest { container_id: container_id.clone(), cmd: vec!["true".into()], timeout: 20 };
    host.runtime.exec_sync(request).await?;
    host.runtime
        .stop_container(StopContainerRequest { container_id: container_id.clone(), timeout: 0 })
        .await?;
    host.runtime.remove_container(RemoveContainerRequest { container_id }).await?;
    host.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await?;
    host.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await?;
    Ok(())
}

struct Clients {
    runtime: runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>,
}

/// As a kubelet does: everything there is goes.
async fn remove_all(host: &mut Host) {
    let request = ListPodSandboxRequest::default();
    for sandbox in host.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items {
        let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        host.runtime.stop_pod_sandbox(request).await.unwrap();
        let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
        host.runtime.remove_pod_sandbox(request).await.unwrap();
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    let rounds = std::env::var("CORTEN_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    with_host(|mut host| async move {
        for round in 0..rounds {
            let config = Pod::config(&host, &format!("round-{round}"));
            let life = tokio::spawn(live(Clients { runtime: host.runtime.clone() }, config));
            // Where it is killed is what differs; whatever it is at, the outcome must be the same.
            tokio::time::sleep(LIFE.mul_f64(round as f64 / rounds as f64)).await;
            host.kill_server();
            // It fails, or was through already.
            let _ = life.await.unwrap();
            host.start_again().await;
            remove_all(&mut host).await;
            host.remove_pod_cgroup(&format!("pod-round-{round}"));
            assert_eq!(host.leftovers(), Vec::<String>::new(), "round {round}");
        }
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

#[test]
fn what_another_boot_left_is_cleaned_up() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "booted").await;
        let id = pod.start(&mut host, pod.script("main", "exec sleep 1000")).await;
        let recorded = host.directory.path().join(format!("root/containers/{id}/container.json"));
        // That it runs is written down a moment after it is told.
        while !fs::read_to_string(&recorded).unwrap().contains("Running") {
            tokio::task::yield_now().await;
        }
        host.kill_server();
        // Processes, mounts and interfaces are gone after a boot; records and leases are not.
        let record = host.directory.path().join(format!("root/sandboxes/{}.json", pod.sandbox));
        let mut saved: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        let shim = saved["shim_pid"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap();
        let shim = rustix::process::Pid::from_raw(shim).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        saved["boot_id"] = "another".into();
        fs::write(&record, saved.to_string()).unwrap();
        host.start_again().await;
        let status = crate::containers::status(&mut host, &id).await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 255));
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
        let sandbox = host.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
        assert_eq!(sandbox.state(), PodSandboxState::SandboxNotready);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn bombs_and_full_disks_harm_only_their_pod() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "hostile").await;
        let mut bomb = pod.script("bomb", "f() { f | f & }; f; exec sleep 1000");
        bomb.linux = Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container as i32,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
        host.limit_processes("pod-hostile", 64);
        let bomb = pod.start(&mut host, bomb).await;
        // In another pod: a log directory without room: the container goes on, what cannot be written is lost.
        let other = Pod::run(&mut host, "other").await;
        let logs = other.config.log_directory.clone();
        fs::create_dir_all(&logs).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &logs, "tmpfs", flags, c"size=16k").unwrap();
        let (status, _) = other
            .run_script(&mut host, "chatty", "head -c 300000 /dev/zero | tr '\\0' x; echo; exit 5")
            .await;
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 5));
        host.runtime.stop_container(StopContainerRequest { container_id: bomb, timeout: 0 }).await.unwrap();
        rustix::mount::unmount(&logs, rustix::mount::UnmountFlags::DETACH).unwrap();
        pod.remove(&mut host).await;
        other.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}

/// A filesystem of its own, of this size, that is full.
fn full_disk(directory: &Path, size: &CStr) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", directory, "tmpfs", flags, size).unwrap();
    let filler = directory.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    filler
}

#[test]
fn a_disk_that_is_full_is_told_and_may_be_emptied() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "crowded").await;
        let containers = host.directory.path().join("root/containers");
        let filler = full_disk(&containers, c"size=256k");
        let error = pod.create(&mut host, pod.script("main", "exec sleep 1000")).await.unwrap_err();
        assert!(error.message().contains("No space left on device"), "{error}");
        assert_eq!(fs::read_dir(&containers).unwrap().count(), 1, "the filler alone");
        fs::remove_file(filler).unwrap();
        let id = pod.start(&mut host, pod.script("main", "exec sleep 1000")).await;
        host.runtime.remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
        pod.remove(&mut host).await;
        rustix::mount::unmount(&containers, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(host.leftovers(), Vec::<String>::new());

        // An image of megabytes that is unpacked where there is no room.
        let images = host.directory.path().join("small");
        let filler = full_disk(&images, c"size=1m");
        fs::write(&filler, "").unwrap();
        let archive = crate::image::archive("test.local/large:1");
        let import = || {
            let store = images::Store::open(&images.join("store")).unwrap();
            let result = store.import_from(archive.as_slice(), "test", None, &images::no_progress());
            (result.map(|images| images.len()), store.list().unwrap().len())
        };
        let (result, present) = import();
        let error = result.unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(present, 0);
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount_remount(&images, flags, "size=64m").unwrap();
        let (result, present) = import();
        assert_eq!((result.unwrap(), present), (1, 1));
        rustix::mount::unmount(&images, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn what_somebody_has_frozen_can_be_stopped() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "frozen").await;
        let id = pod.start(&mut host, pod.script("main", "exec sleep 1000")).await;
        let group = Path::new("/sys/fs/cgroup/freezer")
            .join(host.cgroup.trim_start_matches('/'))
            .join(format!("pod-frozen/{id}/freezer.state"));
        // With version 2 what is frozen dies all the same.
        if group.exists() {
            fs::write(group, "FROZEN").unwrap();
        }
        let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
        host.runtime.stop_container(request).await.unwrap();
        assert_eq!(crate::containers::status(&mut host, &id).await.exit_code, 137);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
