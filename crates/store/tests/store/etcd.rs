//! etcd clusters of a test's own, which end with it. Also used by the API server's tests.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

/// Counts clusters and members of this process.
static NEXT: AtomicU8 = AtomicU8::new(1);

pub struct Cluster {
    files: TempDir,
    members: Vec<Member>,
    tls: Option<Tls>,
}

struct Member {
    address: Ipv4Addr,
    process: Option<Child>,
}

/// Files for members that want TLS, with client certificates.
#[derive(Clone)]
pub struct Tls {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Cluster {
    /// Starts `size` members; they may take a moment until they answer.
    pub fn start(size: usize) -> Self {
        Self::with(size, tempfile::tempdir().unwrap(), |_, _| None)
    }

    /// As [`Self::start`], with what `tls` makes for these addresses in this directory.
    pub fn with(size: usize, files: TempDir, tls: impl FnOnce(&Path, &[Ipv4Addr]) -> Option<Tls>) -> Self {
        // Addresses of their own, so that the ports can be the usual ones, whoever else runs tests.
        let process = std::process::id();
        let [.., high, low] = process.to_be_bytes();
        let addresses: Vec<Ipv4Addr> = (0..size)
            .map(|_| Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed)))
            .collect();
        let tls = tls(files.path(), &addresses);
        let members = addresses.into_iter().map(|address| Member { address, process: None }).collect();
        let mut cluster = Self { files, members, tls };
        (0..size).for_each(|member| cluster.restart(member));
        cluster
    }

    pub fn servers(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.server(member)).collect()
    }

    pub fn server(&self, member: usize) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:2379", self.members[member].address)
    }

    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Kills a member as by a power failure.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts a member that was killed.
    pub fn restart(&mut self, member: usize) {
        let peer = |address: Ipv4Addr| format!("http://{address}:2380");
        let everyone: Vec<String> = (self.members.iter().enumerate())
            .map(|(index, member)| format!("m{index}={}", peer(member.address)))
            .collect();
        let address = self.members[member].address;
        let client = self.server(member);
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{member}"), "--log-level", "error", "--logger", "zap"])
            .arg("--data-dir")
            .arg(self.data(member))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(address), "--initial-advertise-peer-urls", &peer(address)])
            .args(["--initial-cluster", &everyone.join(","), "--initial-cluster-state", "new"]);
        if let Some(tls) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.authority);
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.members[member].process = Some(process.expect("etcd starts; it is in the package etcd-server"));
    }

    /// Removes what a killed member holds.
    pub fn forget(&self, member: usize) {
        std::fs::remove_dir_all(self.data(member)).unwrap();
    }

    /// Stops a member without its connections noticing, until [`Self::resume`].
    pub fn freeze(&self, member: usize) {
        self.signal(member, "-STOP");
    }

    pub fn resume(&self, member: usize) {
        self.signal(member, "-CONT");
    }

    fn signal(&self, member: usize, signal: &str) {
        let process = self.members[member].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    fn data(&self, member: usize) -> PathBuf {
        self.files.path().join(format!("m{member}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|member| self.kill(member));
    }
}
