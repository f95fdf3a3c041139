//! A runtime of a test's own, in namespaces of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

pub const IMAGE: &str = "test.local/busybox:1";

pub struct Host {
    pub directory: tempfile::TempDir,
    pub cgroup: String,
    server: Child,
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

/// Runs a test with a runtime. The test's thread, and all it starts, are in new namespaces.
pub fn with_host<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F) {
    with_prepared_host(|| (), test);
}

/// As [`with_host`], as on a machine with cgroup v2 alone.
pub fn with_unified_host<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F) {
    let prepare = || {
        let mounted = Command::new("mount").args(["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]).status();
        assert!(mounted.unwrap().success());
    };
    with_prepared_host(prepare, test);
}

fn with_prepared_host<F: Future<Output = ()>>(prepare: impl FnOnce(), test: impl FnOnce(Host) -> F) {
    // SAFETY: file descriptors are not unshared; other threads go on in the namespaces they were in.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }
        .expect("tests of the runtime need root");
    let up = Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    prepare();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    threads.block_on(async { test(Host::start().await).await });
}

impl Host {
    async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("cri-test-").tempdir().unwrap();
        let store = images::Store::open(&directory.path().join("root/images")).unwrap();
        let archive = super::image::archive(IMAGE);
        store.import_from(archive.as_slice(), "test", None, &images::no_progress()).unwrap();
        let cgroup = format!("/cri-test-{}", directory.path().file_name().unwrap().to_string_lossy());
        let server = serve(directory.path(), &cgroup, &[]);
        let channel = connect(directory.path()).await;
        let mut runtime = RuntimeServiceClient::new(channel.clone());
        let network_config = Some(NetworkConfig { pod_cidr: "10.244.7.0/24".into() });
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
        runtime.update_runtime_config(request).await.unwrap();
        Self { directory, cgroup, server, runtime, images: ImageServiceClient::new(channel) }
    }

    pub async fn start_again(&mut self) {
        self.start_with(&[]).await;
    }

    /// Again, with further arguments.
    pub async fn restart_with(&mut self, arguments: &[String]) {
        self.kill_server();
        self.start_with(arguments).await;
    }

    async fn start_with(&mut self, arguments: &[String]) {
        self.server = serve(self.directory.path(), &self.cgroup, arguments);
        self.runtime = RuntimeServiceClient::new(connect(self.directory.path()).await);
    }

    pub fn kill_server(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// A kubelet makes the groups of pods, and removes them.
    pub fn remove_pod_cgroup(&self, pod: &str) {
        for group in self.cgroup_directories() {
            let _ = fs::remove_dir(group.join(pod));
        }
    }

    fn cgroup_directories(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
        mounts.map(|mount| Path::new(mount).join(self.cgroup.trim_start_matches('/'))).collect()
    }

    /// At most so many processes in a pod's group, as a kubelet has it.
    pub fn limit_processes(&self, pod: &str, count: u32) {
        for group in self.cgroup_directories() {
            let group = group.join(pod);
            if fs::create_dir_all(&group).is_ok() && group.join("pids.max").exists() {
                fs::write(group.join("pids.max"), count.to_string()).unwrap();
            }
        }
    }

    /// Shims of this runtime.
    pub fn processes(&self) -> Vec<String> {
        let here = self.directory.path().display().to_string();
        let shim = |process: &Path| {
            let directory = fs::read_link(process.join("cwd")).ok()?.display().to_string();
            let name = fs::read_to_string(process.join("comm")).ok()?;
            (name.starts_with("corten-shim") && directory.starts_with(&here)).then_some(directory)
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| shim(&e.path())).collect()
    }

    /// What would be left behind of pods: mounts, control groups, interfaces, files.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let here = self.directory.path().display().to_string();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        // The run directory is a mount of its own as long as the runtime runs.
        let own = format!("{here}/run");
        left.extend(
            mounts
                .lines()
                .filter_map(|l| l.split(' ').nth(4))
                .filter(|m| m.starts_with(&here) && *m != own)
                .map(str::to_owned),
        );
        let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        left.extend(links.lines().filter(|l| l.trim_start().starts_with("veth")).map(str::to_owned));
        for directory in [
            "root/sandboxes",
            "root/containers",
            "run/sandboxes",
            "run/containers",
            "run/oci",
            "root/net/leases",
        ] {
            let entries = fs::read_dir(self.directory.path().join(directory)).into_iter().flatten();
            left.extend(entries.flatten().map(|e| e.path().display().to_string()));
        }
        for group in self.cgroup_directories() {
            let entries = fs::read_dir(group).into_iter().flatten().flatten();
            left.extend(
                entries
                    .filter(|e| e.path().is_dir() && e.file_name() != "shims")
                    .map(|e| e.path().display().to_string()),
            );
        }
        left
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // Those of a test that failed; one that passed has none left.
        for record in
            fs::read_dir(self.directory.path().join("root/sandboxes")).into_iter().flatten().flatten()
        {
            let record: serde_json::Value =
                serde_json::from_slice(&fs::read(record.path()).unwrap_or_default()).unwrap_or_default();
            let shim = record["shim_pid"]
                .as_i64()
                .and_then(|p| i32::try_from(p).ok())
                .and_then(rustix::process::Pid::from_raw);
            if let Some(shim) = shim.filter(|_| record["ready"] == true) {
                let _ = rustix::process::kill_process(shim, rustix::process::Signal::KILL);
            }
        }
        for group in self.cgroup_directories() {
            let _ = fs::remove_dir(group.join("shims"));
            let _ = fs::remove_dir(group);
        }
        // The runtime's own mounts, or the directory could not be removed.
        let _ = unmount(self.run_dir(), UnmountFlags::DETACH);
    }
}

fn serve(directory: &Path, cgroup: &str, arguments: &[String]) -> Child {
    let program = Path::new(env!("CARGO_BIN_EXE_corten-runtime"));
    let shim = program.with_file_name("corten-shim");
    assert!(shim.exists(), "{} is missing: build it with `cargo build -p shim`", shim.display());
    Command::new(program)
        .args([directory.join("root"), directory.join("run")])
        .arg(cgroup)
        .arg(shim)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the socket to be there.
async fn connect(directory: &Path) -> Channel {
    let path = directory.join("run/cri.sock");
    let channel = async || {
        let path = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://cri").connect_with_connector(connector).await
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match channel().await {
            Ok(channel) => return channel,
            Err(error) if std::time::Instant::now() > deadline => panic!("{}: {error}", path.display()),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}
