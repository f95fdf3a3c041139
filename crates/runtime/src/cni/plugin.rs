//! Running one plugin.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::Pod;
use crate::{Error, Result};

/// A plugin that takes longer is killed: the kubelet gives a sandbox four minutes in all.
const PATIENCE: Duration = Duration::from_secs(100);
/// An answer is some kilobytes.
const LARGEST_ANSWER: u64 = 1 << 20;

pub struct Call<'a> {
    pub command: &'a str,
    pub binary: PathBuf,
    pub pod: &'a Pod,
    pub interface: &'a str,
    pub path: &'a [PathBuf],
    pub input: Value,
}

pub fn find(directories: &[PathBuf], kind: &str) -> Result<PathBuf> {
    let found = directories.iter().map(|d| d.join(kind)).find(|p| p.is_file());
    found.ok_or_else(|| {
        let shown: Vec<String> = directories.iter().map(|d| d.display().to_string()).collect();
        Error::Cni(format!("plugin {kind:?} is not in {}", shown.join(" or ")))
    })
}

/// The plugin's answer; null where it gives none.
pub async fn run(call: &Call<'_>) -> Result<Value> {
    let fail =
        |what: &str| Error::Cni(format!("plugin {} {} failed: {what}", name(&call.binary), call.command));
    let answered = tokio::time::timeout(PATIENCE, converse(call)).await;
    let (ok, stdout, stderr) = match answered {
        Ok(result) => result.map_err(|e| fail(&e.to_string()))?,
        Err(_) => return Err(fail(&format!("no answer in {} s", PATIENCE.as_secs()))),
    };
    let answer: Option<Value> = serde_json::from_slice(&stdout).ok();
    if !ok {
        let told = answer.as_ref().and_then(error_of);
        return Err(fail(&told.unwrap_or_else(|| String::from_utf8_lossy(&stderr).trim().to_owned())));
    }
    match answer {
        Some(answer) => Ok(answer),
        None if stdout.iter().all(u8::is_ascii_whitespace) => Ok(Value::Null),
        None => Err(fail("its answer is not JSON")),
    }
}

async fn converse(call: &Call<'_>) -> std::io::Result<(bool, Vec<u8>, Vec<u8>)> {
    let directories: Vec<String> = call.path.iter().map(|d| d.display().to_string()).collect();
    let pod = call.pod;
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.id, pod.uid
    );
    let mut command = Command::new(&call.binary);
    command
        .env("CNI_COMMAND", call.command)
        .env("CNI_CONTAINERID", &pod.id)
        .env("CNI_NETNS", &pod.netns)
        .env("CNI_IFNAME", call.interface)
        .env("CNI_ARGS", arguments)
        .env("CNI_PATH", directories.join(":"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = call.input.to_string();
    let write = async {
        if let Some(stdin) = &mut stdin {
            // One that ends without having read it says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin);
    };
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let read_answer = async {
        match stdout {
            Some(stdout) => stdout.take(LARGEST_ANSWER).read_to_end(&mut answer).await.map(drop),
            None => Ok(()),
        }
    };
    let read_complaint = async {
        match stderr {
            Some(stderr) => stderr.take(LARGEST_ANSWER).read_to_end(&mut complaint).await.map(drop),
            None => Ok(()),
        }
    };
    let ((), answered, complained) = tokio::join!(write, read_answer, read_complaint);
    answered.and(complained)?;
    let status = child.wait().await?;
    Ok((status.success(), answer, complaint))
}

/// `{"code": 11, "msg": "...", "details": "..."}`.
fn error_of(answer: &Value) -> Option<String> {
    let message = answer["msg"].as_str()?;
    match answer["details"].as_str().filter(|d| !d.is_empty()) {
        Some(details) => Some(format!("{message}; {details}")),
        None => Some(message.to_owned()),
    }
}

fn name(binary: &Path) -> String {
    binary.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
