//! What the CRI says of its calls, one by one.

use std::fs;

use futures::TryStreamExt;
use k8s_cri::v1::*;
use tonic::Code;

use crate::containers::{Pod, exec, status};
use crate::host::{Host, IMAGE, with_host};

async fn listed(host: &mut Host, filter: ContainerFilter) -> Vec<String> {
    let request = ListContainersRequest { filter: Some(filter) };
    let containers = host.runtime.list_containers(request).await.unwrap().into_inner().containers;
    containers.into_iter().map(|c| c.metadata.unwrap().name).collect()
}

#[test]
fn lists_are_filtered_and_streamed() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "lists").await;
        let other = Pod::run(&mut host, "other").await;
        let mut config = pod.script("a", "exec sleep 1000");
        config.labels = [("app".to_owned(), "a".to_owned())].into();
        let a = pod.start(&mut host, config).await;
        let b = pod.create(&mut host, pod.script("b", "true")).await.unwrap();
        other.create(&mut host, other.script("c", "true")).await.unwrap();
        let none = ContainerFilter::default;
        let of = |state: ContainerState| Some(ContainerStateValue { state: state as i32 });
        for (filter, expected) in [
            (ContainerFilter { id: a.clone(), ..none() }, &["a"][..]),
            (ContainerFilter { id: b[..12].to_owned(), ..none() }, &["b"]),
            (ContainerFilter { state: of(ContainerState::ContainerRunning), ..none() }, &["a"]),
            (ContainerFilter { pod_sandbox_id: other.sandbox.clone(), ..none() }, &["c"]),
            (ContainerFilter { label_selector: [("app".into(), "a".into())].into(), ..none() }, &["a"]),
            (ContainerFilter { label_selector: [("app".into(), "x".into())].into(), ..none() }, &[]),
            (
                ContainerFilter {
                    pod_sandbox_id: pod.sandbox.clone(),
                    state: of(ContainerState::ContainerExited),
                    ..none()
                },
                &[],
            ),
        ] {
            assert_eq!(listed(&mut host, filter.clone()).await, expected, "{filter:?}");
        }
        let filter = PodSandboxFilter {
            label_selector: [("app".into(), "lists".into())].into(),
            ..Default::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter.clone()) };
        let items = host.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
        assert_eq!(items.iter().map(|s| &s.id).collect::<Vec<_>>(), [&pod.sandbox]);
        let request = StreamPodSandboxesRequest { filter: Some(filter) };
        let pages = host.runtime.stream_pod_sandboxes(request).await.unwrap().into_inner();
        let pages: Vec<_> = pages.try_collect().await.unwrap();
        assert_eq!(pages.into_iter().flat_map(|p| p.pod_sandboxes).collect::<Vec<_>>(), items);
        let pages = host.runtime.stream_containers(StreamContainersRequest::default()).await.unwrap();
        let pages: Vec<_> = pages.into_inner().try_collect().await.unwrap();
        assert_eq!(pages.iter().map(|p| p.containers.len()).sum::<usize>(), 3);

        let stats = host.runtime.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
        let stats = stats.into_inner().stats;
        assert_eq!(stats.len(), 1, "only what runs");
        let (cpu, memory) = (stats[0].cpu.as_ref().unwrap(), stats[0].memory.as_ref().unwrap());
        assert!(cpu.timestamp > 0 && cpu.usage_core_nano_seconds.is_some());
        assert!(memory.working_set_bytes.unwrap().value > 0);
        assert!(stats[0].writable_layer.as_ref().unwrap().inodes_used.is_some());
        let request = ContainerStatsRequest { container_id: a.clone() };
        let again = host.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap();
        assert!(again.cpu.unwrap().usage_nano_cores.is_some(), "the second time there is a rate");
        let request = PodSandboxStatsRequest { pod_sandbox_id: pod.sandbox.clone() };
        let linux = host.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
        let linux = linux.linux.unwrap();
        assert_eq!(linux.network.unwrap().default_interface.unwrap().name, "eth0");
        assert_eq!(linux.process.unwrap().process_count.unwrap().value, 1);
        let described =
            host.runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await.unwrap().into_inner();
        let metrics = host
            .runtime
            .list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {})
            .await
            .unwrap()
            .into_inner();
        let metrics: Vec<&Metric> = metrics
            .pod_metrics
            .iter()
            .flat_map(|p| p.metrics.iter().chain(p.container_metrics.iter().flat_map(|c| &c.metrics)))
            .collect();
        assert!(!metrics.is_empty());
        for metric in metrics {
            let described = described.descriptors.iter().find(|d| d.name == metric.name).unwrap();
            assert_eq!(described.label_keys.len(), metric.label_values.len(), "{}", metric.name);
        }
        pod.remove(&mut host).await;
        other.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_container_is_described_as_it_was_asked_for() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "told").await;
        let request = ImageStatusRequest {
            image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
            verbose: true,
        };
        let image = host.images.image_status(request).await.unwrap().into_inner();
        assert!(image.info["info"].contains("imageSpec"));
        let image = image.image.unwrap();
        let volume = host.directory.path().display().to_string();
        let mut config = pod.script("main", "trap 'exit 4' USR1; echo up; while :; do sleep 0.05; done");
        // As a kubelet: by id, with what the user wrote beside it.
        config.image = Some(ImageSpec {
            image: image.id.clone(),
            user_specified_image: IMAGE.into(),
            ..Default::default()
        });
        config.stop_signal = Signal::Sigusr1 as i32;
        config.metadata = Some(ContainerMetadata { name: "main".into(), attempt: 3 });
        config.annotations = [("a".to_owned(), "b".to_owned())].into();
        config.labels = [("l".to_owned(), "m".to_owned())].into();
        config.mounts = vec![Mount {
            container_path: "/v".into(),
            host_path: volume,
            readonly: true,
            ..Default::default()
        }];
        config.linux = Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: 32 << 20,
                cpu_shares: 100,
                ..Default::default()
            }),
            ..Default::default()
        });
        let id = pod.start(&mut host, config.clone()).await;
        let told = status(&mut host, &id).await;
        assert_eq!((told.annotations, told.labels), (config.annotations, config.labels));
        assert_eq!((told.mounts, told.metadata), (config.mounts, config.metadata));
        assert_eq!((told.image_id.as_str(), told.image.unwrap().image.as_str()), (image.id.as_str(), IMAGE));
        assert_eq!(told.stop_signal, Signal::Sigusr1 as i32);
        assert_eq!(told.log_path, pod.log_path("main").display().to_string());
        assert!(told.created_at > 0 && told.started_at >= told.created_at);
        let request = ContainerStatusRequest { container_id: id[..13].to_owned(), verbose: true };
        let verbose = host.runtime.container_status(request).await.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&verbose.info["info"]).unwrap();
        assert!(info["pid"].as_i64().unwrap() > 1);
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: true };
        let verbose = host.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&verbose.info["info"]).unwrap();
        assert!(info["pid"].as_i64().unwrap() > 1);
        assert_eq!(verbose.containers_statuses.len(), 1);

        // Limits change while it runs; what is not said stays.
        let linux = LinuxContainerResources { memory_limit_in_bytes: 48 << 20, ..Default::default() };
        let request = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(linux),
            ..Default::default()
        };
        host.runtime.update_container_resources(request).await.unwrap();
        let limits = status(&mut host, &id).await.resources.unwrap().linux.unwrap();
        assert_eq!((limits.memory_limit_in_bytes, limits.cpu_shares), (48 << 20, 100));
        let bad = LinuxContainerResources { cpuset_cpus: "4095".into(), ..Default::default() };
        let request = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(bad),
            ..Default::default()
        };
        assert!(host.runtime.update_container_resources(request).await.is_err());
        let limits = status(&mut host, &id).await.resources.unwrap().linux.unwrap();
        assert_eq!(limits.cpuset_cpus, "", "what failed is not told as if it held");
        let linux = LinuxContainerResources { cpu_shares: 7, ..Default::default() };
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.sandbox.clone(),
            resources: Some(linux),
            ..Default::default()
        };
        host.runtime.update_pod_sandbox_resources(request).await.unwrap();

        // The log is rotated: what is written from then on is in the new file.
        while !pod.log("main").contains("up") {
            tokio::task::yield_now().await;
        }
        fs::rename(pod.log_path("main"), pod.log_path("main").with_extension("old")).unwrap();
        host.runtime
            .reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() })
            .await
            .unwrap();
        assert!(pod.log_path("main").exists());

        let request = CheckpointContainerRequest { container_id: id.clone(), ..Default::default() };
        let error = host.runtime.checkpoint_container(request).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        host.runtime
            .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 20 })
            .await
            .unwrap();
        assert_eq!(status(&mut host, &id).await.exit_code, 4, "stopped by its own signal");
        let request = ReopenContainerLogRequest { container_id: id.clone() };
        assert!(host.runtime.reopen_container_log(request).await.is_err());
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn exec_sync_ends_with_its_process_and_is_bounded() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "execs").await;
        let id = pod.start(&mut host, pod.script("main", "exec sleep 1000")).await;
        // What it leaves running has its output open still.
        let left = exec(&mut host, &id, &["sh", "-c", "sleep 1000 & echo done"]).await.unwrap();
        assert_eq!(left, (0, "done\n".to_owned(), String::new()));
        let request = ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", "head -c 20000000 /dev/zero; exit 3"].map(str::to_owned).into(),
            timeout: 60,
        };
        // More than a client takes by default.
        let mut runtime = host.runtime.clone().max_decoding_message_size(64 << 20);
        let output = runtime.exec_sync(request).await.unwrap().into_inner();
        assert_eq!((output.exit_code, output.stdout.len()), (3, 16 << 20));
        let request = ExecSyncRequest { container_id: id.clone(), ..Default::default() };
        assert_eq!(host.runtime.exec_sync(request).await.unwrap_err().code(), Code::InvalidArgument);
        let request = ExecRequest { container_id: id.clone(), cmd: vec!["sh".into()], ..Default::default() };
        assert_eq!(host.runtime.exec(request.clone()).await.unwrap_err().code(), Code::InvalidArgument);
        let both = ExecRequest { tty: true, stdout: true, stderr: true, ..request.clone() };
        assert_eq!(host.runtime.exec(both).await.unwrap_err().code(), Code::InvalidArgument);
        let url = host.runtime.exec(ExecRequest { stdout: true, ..request }).await.unwrap().into_inner().url;
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        let missing =
            ExecRequest { container_id: "nope".into(), cmd: vec!["x".into()], ..Default::default() };
        assert_eq!(host.runtime.exec(missing).await.unwrap_err().code(), Code::NotFound);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_short_grace_period_does_not_wait_for_a_long_one() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "grace").await;
        let id = pod
            .start(&mut host, pod.script("main", "trap '' TERM; echo up; while :; do sleep 0.05; done"))
            .await;
        while !pod.log("main").contains("up") {
            tokio::task::yield_now().await;
        }
        let mut patient = host.runtime.clone();
        let request = StopContainerRequest { container_id: id.clone(), timeout: 3600 };
        let patient = tokio::spawn(async move { patient.stop_container(request).await });
        host.runtime
            .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 0 })
            .await
            .unwrap();
        patient.await.unwrap().unwrap();
        assert_eq!(status(&mut host, &id).await.exit_code, 137);
        // Running containers are removed by force, sandboxes with them.
        pod.start(&mut host, pod.script("again", "exec sleep 1000")).await;
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() };
        host.runtime.remove_pod_sandbox(request).await.unwrap();
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
        assert_eq!(host.runtime.pod_sandbox_status(request).await.unwrap_err().code(), Code::NotFound);
        host.remove_pod_cgroup("pod-grace");
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn images_by_all_their_names() {
    with_host(|mut host| async move {
        let spec = |image: &str| Some(ImageSpec { image: image.into(), ..Default::default() });
        let list = host.images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
        assert_eq!(list.len(), 1);
        let image = list[0].clone();
        assert!(image.size > 0 && image.repo_tags == [IMAGE], "{image:?}");
        let digits = image.id.strip_prefix("sha256:").unwrap();
        for (name, found) in [
            (IMAGE, true),
            (image.id.as_str(), true),
            (digits, true),
            (&digits[..12], true),
            (&image.id[..20], true),
            ("test.local/none:1", false),
            ("sha256:0000000000000000000000000000000000000000000000000000000000000000", false),
        ] {
            let request = ImageStatusRequest { image: spec(name), verbose: false };
            let told = host.images.image_status(request).await.unwrap().into_inner().image;
            assert_eq!(told.is_some(), found, "{name}");
            let filter = Some(ImageFilter { image: spec(name) });
            let pages =
                host.images.stream_images(StreamImagesRequest { filter: filter.clone() }).await.unwrap();
            let pages: Vec<_> = pages.into_inner().try_collect().await.unwrap();
            assert_eq!(pages.len(), usize::from(found), "{name}");
            let list =
                host.images.list_images(ListImagesRequest { filter }).await.unwrap().into_inner().images;
            assert_eq!(list.len(), usize::from(found), "{name}");
        }
        let usage = host.images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
        let filesystem = &usage.image_filesystems[0];
        assert!(filesystem.used_bytes.unwrap().value > 0 && filesystem.inodes_used.unwrap().value > 10);
        assert!(usage.container_filesystems.is_empty(), "one filesystem has both");
        let unknown = ImageSpec { image: IMAGE.into(), runtime_handler: "kata".into(), ..Default::default() };
        let request = PullImageRequest { image: Some(unknown), ..Default::default() };
        assert_eq!(host.images.pull_image(request).await.unwrap_err().code(), Code::InvalidArgument);
        for name in [&digits[..12], IMAGE, "test.local/none:1"] {
            host.images.remove_image(RemoveImageRequest { image: spec(name) }).await.unwrap();
        }
        let list = host.images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
        assert!(list.is_empty());
    });
}
