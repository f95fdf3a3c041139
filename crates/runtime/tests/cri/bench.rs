//! What a pod costs: `cargo test --release -p runtime --test cri -- --ignored --nocapture bench`.

use std::fs;
use std::time::Instant;

use k8s_cri::v1::*;

use crate::containers::Pod;
use crate::host::with_host;

const PODS: u32 = 50;

/// Milliseconds of CPU that this machine has spent, on whatever.
fn busy() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> =
        stat.lines().next().unwrap().split_ascii_whitespace().skip(1).map(|f| f.parse().unwrap()).collect();
    // All but idle and waiting for disks; in hundredths of a second.
    (fields.iter().sum::<u64>() - fields[3] - fields[4]) * 10
}

#[test]
#[ignore = "a measurement"]
fn bench_pods_one_after_the_other() {
    with_host(|mut host| async move {
        // The first pays for what is made once.
        let warm = Pod::run(&mut host, "warm").await;
        warm.start(&mut host, warm.script("main", "exec sleep 1000")).await;
        warm.remove(&mut host).await;
        let mut times = [(0.0, 0); 5];
        for n in 0..PODS {
            let mut marks = vec![(Instant::now(), busy())];
            let pod = Pod::run(&mut host, &format!("pod-{n}")).await;
            marks.push((Instant::now(), busy()));
            let mut config = pod.script("main", "exec sleep 1000");
            config.linux = Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 100,
                    memory_limit_in_bytes: 64 << 20,
                    ..Default::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    seccomp: Some(SecurityProfile::default()),
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
            });
            let id = pod.create(&mut host, config).await.unwrap();
            marks.push((Instant::now(), busy()));
            host.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
            marks.push((Instant::now(), busy()));
            let stop = StopContainerRequest { container_id: id.clone(), timeout: 0 };
            host.runtime.stop_container(stop).await.unwrap();
            host.runtime.remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
            marks.push((Instant::now(), busy()));
            pod.remove(&mut host).await;
            marks.push((Instant::now(), busy()));
            for (total, pair) in times.iter_mut().zip(marks.windows(2)) {
                total.0 += (pair[1].0 - pair[0].0).as_secs_f64() * 1000.0;
                total.1 += pair[1].1 - pair[0].1;
            }
        }
        let phases = ["run sandbox", "create", "start", "stop and remove", "stop and remove sandbox"];
        for (what, (wall, cpu)) in phases.iter().zip(times) {
            let pods = f64::from(PODS);
            let cpu = f64::from(u32::try_from(cpu).unwrap()) / pods;
            println!("{what}: {:.2} ms, {cpu:.2} ms of CPU", wall / pods);
        }
    });
}
