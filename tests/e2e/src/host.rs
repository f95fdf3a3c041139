//! One test host.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// What makes the host. It lives until standard input closes, that is until the test process is gone in whatever way;
/// then the kernel ends every process of its process namespace, and with them go mounts and interfaces.
const INIT: &str = "
set -e
mount --make-rprivate /
ip link set lo up
ip link add uplink type veth peer name downlink
ip link set uplink up
ip link set downlink up
ip address add 198.18.0.2/24 dev uplink
ip route add default via 198.18.0.1
hostname test-host
echo ready
cat >/dev/null
";

/// Namespaces with a directory. Dropped, it is gone with everything in it.
pub struct Host {
    init: Child,
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
        let mut init = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--uts",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                INIT,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs (tests need root and util-linux)");
        let mut line = String::new();
        let stdout = init.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("the host's init says something");
        assert_eq!(line, "ready\n", "the host's init failed");
        Self { init, directory, cgroup }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The cgroup that this host's pods are to be under.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The first process of the host: the child of `unshare`.
    fn first_process(&self) -> String {
        let unshare = self.init.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        children.expect("unshare lives").trim().to_owned()
    }

    /// A command to be run inside the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--mount", "--uts", "--pid", "--target", &self.first_process(), "--"])
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
        drop(self.init.stdin.take());
        let _ = self.init.wait();
        remove_cgroups(&self.cgroup);
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

/// Removes a cgroup and those below it, in every hierarchy; its processes are gone.
fn remove_cgroups(cgroup: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let mut tops = vec![root.join(&cgroup[1..])];
    for hierarchy in std::fs::read_dir(root).into_iter().flatten().flatten() {
        tops.push(hierarchy.path().join(&cgroup[1..]));
    }
    for top in tops {
        remove_tree(&top);
    }
}

fn remove_tree(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(directory);
}
