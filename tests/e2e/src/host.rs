//! One test host: what `corten cluster` makes nodes of, alone, and tied to the test's life.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cluster::host::{self, Attended, Spec, Uplink};
use tempfile::TempDir;

use crate::corten;

/// Namespaces with a directory. Dropped, it is gone with everything in it; so it is when the test is gone in whatever way.
pub struct Host {
    attended: Option<Attended>,
    directory: TempDir,
    cgroup: String,
}

/// What a command said.
#[derive(Debug)]
pub struct Output {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Host {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("/corten-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory =
            tempfile::Builder::new().prefix("corten-test-").tempdir().expect("a directory can be made");
        let spec = Spec {
            hostname: "test-host".to_owned(),
            uplink: Uplink::Nowhere {
                address: Ipv4Addr::new(198, 18, 0, 2),
                prefix: 24,
                gateway: Ipv4Addr::new(198, 18, 0, 1),
            },
            root: None,
            programs: Vec::new(),
            cgroup: cgroup.clone(),
            attended: true,
        };
        let mut init = Command::new(corten());
        init.args(["cluster", "host"]).stderr(Stdio::null());
        let host = host::Host::start(init, &spec).expect("hosts can be made (tests need root)");
        Self { attended: Some(host.go().expect("the host goes on")), directory, cgroup }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The cgroup that this host's pods are to be under.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    fn first_process(&self) -> String {
        self.attended.as_ref().map(|host| host.identity.pid.to_string()).unwrap_or_default()
    }

    /// A command to be run inside the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--target", &self.first_process(), "--"])
            // Entering the mount namespace leads to its root.
            .args(["env".as_ref(), "--chdir".as_ref(), self.directory().as_os_str(), program.as_ref()])
            .env("HOME", self.directory());
        command
    }

    /// Runs a command inside the host to its end.
    pub fn run(&self, program: &str, arguments: &[&str], stdin: &str) -> Output {
        finish(self.command(program).args(arguments), stdin)
    }

    /// Writes a file that commands of the host can name.
    pub fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory().join(name);
        std::fs::write(&path, contents).expect("a file can be written");
        path
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(host) = self.attended.take() {
            let _ = host.end();
        }
    }
}

/// Runs a command to its end, with that standard input.
pub(crate) fn finish(command: &mut Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let mut input = child.stdin.take().expect("it was piped");
    let text = stdin.to_owned();
    // A command may end before it has read everything.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("a child can be waited for");
    let _ = writer.join();
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
