//! OCI runtimes other than ours, by RuntimeClass.

use std::path::Path;

use k8s_cri::v1::*;
use tonic::Code;

use crate::containers::{Pod, exec, status};
use crate::host::with_host;

#[test]
fn runc_runs_a_container() {
    let Some(runc) = ["/usr/bin/runc", "/usr/sbin/runc"].into_iter().find(|p| Path::new(p).exists()) else {
        // Debian's package of that name; script/test installs it.
        return eprintln!("skipped: runc is not installed");
    };
    with_host(|mut host| async move {
        host.restart_with(&[format!("runc={runc}")]).await;
        let unknown =
            RunPodSandboxRequest { config: Some(Pod::config(&host, "none")), runtime_handler: "kata".into() };
        assert_eq!(host.runtime.run_pod_sandbox(unknown).await.unwrap_err().code(), Code::InvalidArgument);

        let config = Pod::config(&host, "nine");
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: "runc".into() };
        let sandbox = host.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        let pod = Pod { sandbox, config };
        let id = pod.start(&mut host, pod.script("main", "echo by runc; exec sleep 1000")).await;
        assert_eq!(
            exec(&mut host, &id, &["hostname"]).await.unwrap(),
            (0, "nine\n".to_owned(), String::new())
        );
        host.runtime
            .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 0 })
            .await
            .unwrap();
        let ended = status(&mut host, &id).await;
        assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 137));
        assert!(pod.log("main").contains(" stdout F by runc"), "{}", pod.log("main"));

        let mut broken = pod.script("broken", "");
        broken.command = vec!["/no/such/program".into()];
        let id = pod.create(&mut host, broken).await.unwrap();
        let error =
            host.runtime.start_container(StartContainerRequest { container_id: id }).await.unwrap_err();
        assert!(error.message().contains("/no/such/program"), "{error}");
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
