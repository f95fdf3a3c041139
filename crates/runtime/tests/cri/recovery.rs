//! The runtime is killed and comes back.

use std::fs;

use k8s_cri::v1::*;

use crate::containers::{Pod, exec, status};
use crate::host::{Host, with_host};

async fn pid(host: &mut Host, id: &str) -> i64 {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let info = host.runtime.container_status(request).await.unwrap().into_inner().info;
    serde_json::from_str::<serde_json::Value>(&info["info"]).unwrap()["pid"].as_i64().unwrap()
}

#[test]
fn containers_outlive_the_runtime() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "survivor").await;
        let fifo = host.directory.path().join("go");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        )
        .unwrap();
        let mut config = pod.script("ender", "echo before; cat /go; echo after; exit 5");
        config.mounts = vec![Mount {
            container_path: "/go".into(),
            host_path: fifo.display().to_string(),
            ..Default::default()
        }];
        let ender = pod.start(&mut host, config).await;
        let stayer = pod.start(&mut host, pod.script("stayer", "exec sleep 1000")).await;
        let before = pid(&mut host, &stayer).await;

        host.kill_server();
        // While nobody is there, one of them goes on and ends; its shim writes that down.
        fs::write(&fifo, "").unwrap();
        let exit = host.run_dir().join("containers").join(&ender).join("exit");
        while !exit.exists() {
            tokio::task::yield_now().await;
        }
        host.start_again().await;

        let ended = status(&mut host, &ender).await;
        assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 5));
        assert!(pod.log("ender").contains(" stdout F after"), "{}", pod.log("ender"));
        let running = status(&mut host, &stayer).await;
        assert_eq!(running.state(), ContainerState::ContainerRunning);
        assert_eq!(pid(&mut host, &stayer).await, before);
        assert_eq!(exec(&mut host, &stayer, &["echo", "still here"]).await.unwrap().1, "still here\n");
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_dead_shim_ends_its_pod() {
    with_host(|mut host| async move {
        let pod = Pod::run(&mut host, "shimless").await;
        let id = pod.start(&mut host, pod.script("main", "exec sleep 1000")).await;
        let mut events = host.runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
        let record =
            fs::read_to_string(host.directory.path().join(format!("root/sandboxes/{}.json", pod.sandbox)))
                .unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let shim =
            rustix::process::Pid::from_raw(i32::try_from(record["shim_pid"].as_i64().unwrap()).unwrap())
                .unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        while let Some(event) = events.message().await.unwrap() {
            if event.container_id == id
                && event.container_event_type() == ContainerEventType::ContainerStoppedEvent
            {
                break;
            }
        }
        let ended = status(&mut host, &id).await;
        assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 255));
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.sandbox.clone(), verbose: false };
        let sandbox = host.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
        assert_eq!(sandbox.state(), PodSandboxState::SandboxNotready);
        pod.remove(&mut host).await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}
