//! `nfs`: a directory of another machine, mounted by mount(8), which needs its helper `mount.nfs` (Debian's `nfs-common`).

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::NFSVolumeSource;
use tokio::process::Command;

use super::{Source, VolumeError, mounts};

/// The helper itself gives up on a server that is silent after two minutes.
const PATIENCE: Duration = Duration::from_secs(150);

/// `name` is the volume's own: of the pod, or of the persistent volume.
pub async fn set_up(
    source: &Source<'_>,
    nfs: &NFSVolumeSource,
    name: &str,
    options: &[String],
) -> Result<PathBuf, VolumeError> {
    let path = source.dir.join("volumes").join("kubernetes.io~nfs").join(name);
    let known =
        mounts::Mounts::read().map_err(|error| VolumeError::io("read the mounts at", &path, error))?;
    // Not asked of the directory itself: its server may hang.
    if known.below(&path).any(|point| point == path) {
        return Ok(path);
    }
    std::fs::create_dir_all(&path).map_err(|error| VolumeError::io("create", &path, error))?;
    run("mount", &arguments(nfs, options, &path)).await?;
    Ok(path)
}

fn arguments(nfs: &NFSVolumeSource, options: &[String], target: &Path) -> Vec<String> {
    let server = match nfs.server.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => nfs.server.clone(),
    };
    let read_only = (nfs.read_only == Some(true)).then(|| "ro".to_owned());
    let options: Vec<String> = read_only.into_iter().chain(options.iter().cloned()).collect();
    let mut arguments = vec!["-t".to_owned(), "nfs".to_owned()];
    if !options.is_empty() {
        arguments.extend(["-o".to_owned(), options.join(",")]);
    }
    // What a user names begins neither with a dash, nor does it become an option.
    arguments.extend(["--".to_owned(), format!("{server}:{}", nfs.path), target.display().to_string()]);
    arguments
}

async fn run(program: &str, arguments: &[String]) -> Result<(), VolumeError> {
    let told = |what: String| {
        VolumeError::Invalid(format!(
            "mount failed: {what}\nMounting command: {program}\nMounting arguments: {}",
            arguments.join(" ")
        ))
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(told(format!("{}: {said}", output.status)))
        }
        Ok(Err(error)) => Err(told(error.to_string())),
        Err(_) => Err(told(format!("no end after {} s", PATIENCE.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mount_is_told() {
        let check = |server: &str, read_only: Option<bool>, options: &[&str], expected: &str| {
            let nfs = NFSVolumeSource { server: server.into(), path: "/export".into(), read_only };
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            assert_eq!(arguments(&nfs, &options, Path::new("/v")).join(" "), expected, "{server}");
        };
        check("files.example", None, &[], "-t nfs -- files.example:/export /v");
        check("10.0.0.1", Some(true), &["vers=4.2"], "-t nfs -o ro,vers=4.2 -- 10.0.0.1:/export /v");
        check("fd00::1", Some(false), &["hard", "ro"], "-t nfs -o hard,ro -- [fd00::1]:/export /v");
    }

    #[tokio::test]
    async fn what_mount_says_is_told() {
        assert!(run("true", &[]).await.is_ok());
        let script = ["-c", "echo no route >&2; exit 32"].map(str::to_owned);
        let error = run("sh", &script).await.unwrap_err().to_string();
        for part in ["exit status: 32", "no route", "Mounting arguments: -c"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(run("/none/such", &[]).await.is_err());
    }
}
