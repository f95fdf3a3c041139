//! Network namespaces for tests: real kernel, real packets, nothing left behind.
//!
//! A [`Namespace`] is held by its open file alone; when the last holder goes, the kernel removes it with
//! every interface and rule in it, even when the test process is killed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace of the test's own, with its loopback up.
pub struct Namespace {
    file: File,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests of the network need root");
            File::open("/proc/thread-self/ns/net").expect("namespace file")
        });
        let namespace = Self { file: file.join().expect("thread") };
        namespace.command("ip link set lo up");
        namespace
    }

    /// A path that opens this namespace, for as long as it exists.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("setns");
                work()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a shell command inside, and gives what it printed; it must succeed.
    #[track_caller]
    pub fn command(&self, command: &str) -> String {
        let output = self.try_command(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell command inside.
    pub fn try_command(&self, command: &str) -> Output {
        self.run(|| Command::new("sh").args(["-c", command]).output().expect("sh"))
    }
}
