//! Starting a shim.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::{Error, Result};

pub struct Spawned {
    pub pid: i32,
    /// The first process of the PID namespace that the pod's containers share.
    pub pod_init: Option<i32>,
}

/// Starts a shim in the sandbox's directory and waits until it listens.
pub async fn spawn(binary: &Path, sandbox: &str, directory: &Path, arguments: &[String]) -> Result<Spawned> {
    let failed = |message: String| Error::Shim { sandbox: sandbox.to_owned(), message };
    let mut child = Command::new(binary)
        .arg(sandbox)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("run the shim", binary))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .await
            .map_err(|e| failed(format!("wait for its shim: {e}")))?;
    }
    let Some(pod_init) = line.strip_prefix("ready ").and_then(|n| n.trim().parse::<i32>().ok()) else {
        let mut message = String::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(4096).read_to_string(&mut message).await;
        }
        let _ = child.wait().await;
        return Err(failed(format!("start its shim: {}", message.trim())));
    };
    // The shim outlives this process; while this one lives it must reap.
    tokio::spawn(async move { child.wait().await });
    Ok(Spawned { pid, pod_init: (pod_init > 0).then_some(pod_init) })
}
