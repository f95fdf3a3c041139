//! A file system that stops answering: whoever touches it is in D state, where no signal reaches, and nobody else is.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_cri::v1::*;
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use tonic::Code;

use crate::containers::{Pod, exec, status};
use crate::host::with_host;

/// How often; more with `CORTEN_FAULTS=100`.
const ROUNDS: u32 = 1;

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// An empty directory, served by a thread of this process over `/dev/fuse` until it is told to stop answering.
struct Served {
    silent: Arc<AtomicBool>,
    at: PathBuf,
}

impl Served {
    fn mount(at: &Path) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", device.as_raw_fd());
        let options = CStr::from_bytes_with_nul(options.as_bytes()).unwrap();
        rustix::mount::mount("test", at, "fuse", MountFlags::empty(), options).unwrap();
        let silent = Arc::new(AtomicBool::new(false));
        let quiet = silent.clone();
        std::thread::spawn(move || serve(&device, &quiet));
        Self { silent, at: at.to_owned() }
    }

    fn hang(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }
}

impl Drop for Served {
    /// Whatever waits is told that nobody will answer; and it is gone.
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::FORCE);
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

fn serve(device: &File, silent: &AtomicBool) {
    let mut request = vec![0; 1 << 20];
    loop {
        let mut device = device;
        let Ok(length @ 40..) = device.read(&mut request) else { return };
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let unique = request[8..16].to_vec();
        if length < 40 || silent.load(Ordering::SeqCst) {
            continue;
        }
        let (error, body) = match word(4) {
            // Version 7.31, and room for writes.
            INIT => {
                let mut body = [7_u32, 31, 0, 0, 0, 4096, 1].map(u32::to_ne_bytes).concat();
                body.resize(64, 0);
                (0, body)
            }
            // Valid for no time; the inode is a directory.
            GETATTR => {
                let mut body = vec![0; 104];
                body[16..24].copy_from_slice(&1_u64.to_ne_bytes());
                body[76..80].copy_from_slice(&0o040_755_u32.to_ne_bytes());
                body[80..84].copy_from_slice(&2_u32.to_ne_bytes());
                (0, body)
            }
            LOOKUP => (-ENOENT, Vec::new()),
            _ => (-ENOSYS, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap();
        let answer = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique, &body].concat();
        let _ = device.write_all(&answer);
    }
}

/// Whether the process waits for the file system. Once killed, no further signal reaches it there.
fn is_stuck(pid: i64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|at| at.contains("request_wait_answer"))
}

#[test]
fn a_container_that_cannot_die_holds_up_nobody() {
    let rounds = std::env::var("CORTEN_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    with_host(|mut host| async move {
        for round in 0..rounds {
            let place = host.directory.path().join("hangs");
            std::fs::create_dir_all(&place).unwrap();
            let served = Served::mount(&place);
            let pod = Pod::run(&mut host, "stuck").await;
            let script = "while ! [ -e /now ]; do sleep 0.05; done; [ -e /v/x ]";
            let mut config = pod.script("main", script);
            config.mounts = vec![Mount {
                container_path: "/v".into(),
                host_path: place.display().to_string(),
                ..Default::default()
            }];
            let id = pod.start(&mut host, config.clone()).await;
            served.hang();
            exec(&mut host, &id, &["sh", "-c", ": > /now"]).await.unwrap();
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
            let verbose = host.runtime.container_status(request).await.unwrap().into_inner();
            let info: serde_json::Value = serde_json::from_str(&verbose.info["info"]).unwrap();
            while !is_stuck(info["pid"].as_i64().unwrap()) {
                tokio::task::yield_now().await;
            }
            // It is killed, and does not end; whoever asks is told so.
            let stop = StopContainerRequest { container_id: id.clone(), timeout: 0 };
            let mut patient = host.runtime.clone();
            let stopping = tokio::spawn(async move { patient.stop_container(stop).await });
            // Nor does one start that would mount it: only looking at it hangs.
            let mut late = config.clone();
            late.metadata = Some(ContainerMetadata { name: "late".into(), attempt: 0 });
            let request = CreateContainerRequest {
                pod_sandbox_id: pod.sandbox.clone(),
                config: Some(late),
                sandbox_config: Some(pod.config.clone()),
            };
            let mut patient = host.runtime.clone();
            let creating = tokio::spawn(async move { patient.create_container(request).await });
            // Others do not notice.
            let other = Pod::run(&mut host, "other").await;
            let (ended, log) = other.run_script(&mut host, "main", "echo fine").await;
            assert_eq!(ended.exit_code, 0);
            assert!(log.contains("fine"));
            other.remove(&mut host).await;
            assert_eq!(stopping.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded, "{round}");
            assert_eq!(status(&mut host, &id).await.state(), ContainerState::ContainerRunning);
            drop(served);
            // Whatever it made of it: it is over.
            let _ = creating.await.unwrap();
            let stop = StopContainerRequest { container_id: id.clone(), timeout: 0 };
            host.runtime.stop_container(stop).await.unwrap();
            assert_eq!(status(&mut host, &id).await.state(), ContainerState::ContainerExited);
            pod.remove(&mut host).await;
            assert_eq!(host.leftovers(), Vec::<String>::new(), "round {round}");
        }
    });
}
