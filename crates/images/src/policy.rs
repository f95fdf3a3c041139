//! Which images may be pulled: `policy.json` of the containers project, and programs that verify signatures.
//!
//! The file's `insecureAcceptAnything` and `reject` are carried out here. Verifying a signature is the work of programs,
//! called as containerd calls its image verifiers: `PROGRAM -name NAME -digest DIGEST -stdin-media-type TYPE` with the
//! descriptor on standard input; exit code 0 lets the image in, anything else keeps it out, what is printed tells why.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use oci_client::Reference;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Error;
use crate::reference::{named, repository};

const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_REASON: usize = 1024;
const DESCRIPTOR: &str = "application/vnd.oci.descriptor.v1+json";

/// Where the policy is.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The first of these that is there.
    pub files: Vec<PathBuf>,
    /// Directories of programs, all of which are asked.
    pub verifiers: Vec<PathBuf>,
}

impl Default for Policy {
    fn default() -> Self {
        let paths = |names: [&str; 2]| names.map(PathBuf::from).into();
        Self {
            files: paths(["/etc/corten/policy.json", "/etc/containers/policy.json"]),
            verifiers: paths(["/etc/corten/image-verifiers", "/opt/containerd/image-verifier/bin"]),
        }
    }
}

#[derive(Deserialize)]
struct File {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: HashMap<String, HashMap<String, Vec<Requirement>>>,
}

#[derive(Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

impl Policy {
    /// Whether an image may be pulled: `digest` is what its name led to.
    pub(crate) async fn check(
        &self,
        reference: &Reference,
        digest: &str,
        size: u64,
        kind: &str,
    ) -> Result<(), Error> {
        let refused = |reason: String| Error::Policy { reference: named(reference), reason };
        let verifiers = self.programs().map_err(|e| refused(format!("list the verifiers: {e}")))?;
        if let Some(path) = self.files.iter().find(|p| p.exists()) {
            let shown = path.display();
            let text = fs::read_to_string(path).map_err(|e| refused(format!("read {shown}: {e}")))?;
            let file: File = serde_json::from_str(&text).map_err(|e| refused(format!("{shown}: {e}")))?;
            let (scope, requirements) = file.requirements(reference);
            for requirement in requirements {
                match requirement.kind.as_str() {
                    "insecureAcceptAnything" => {}
                    "reject" => return Err(refused(format!("{shown} rejects {scope}"))),
                    _ if !verifiers.is_empty() => {}
                    other => {
                        let directory = self.verifiers.first().map(|d| d.display().to_string());
                        return Err(refused(format!(
                            "{shown} asks for {other} of {scope}, for which there is no verifier in {}",
                            directory.unwrap_or_default()
                        )));
                    }
                }
            }
        }
        let name = named(reference);
        let descriptor = serde_json::json!({"mediaType": kind, "digest": digest, "size": size}).to_string();
        for program in verifiers {
            ask(&program, &name, digest, &descriptor).await.map_err(refused)?;
        }
        Ok(())
    }

    fn programs(&self) -> io::Result<Vec<PathBuf>> {
        let mut programs = Vec::new();
        for directory in &self.verifiers {
            match fs::read_dir(directory) {
                Ok(entries) => programs.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_file())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // A policy that cannot be read is none that lets everything in.
                Err(e) => return Err(e),
            }
        }
        programs.sort();
        Ok(programs)
    }
}

impl File {
    /// Those of the narrowest scope that has the image.
    fn requirements(&self, reference: &Reference) -> (String, &[Requirement]) {
        let of_default = || ("the default".to_owned(), self.default.as_slice());
        let Some(scopes) = self.transports.get("docker") else { return of_default() };
        let mut candidates = vec![named(reference)];
        let mut part = repository(reference);
        candidates.push(part.clone());
        while let Some((shorter, _)) = part.rsplit_once('/') {
            candidates.push(shorter.to_owned());
            part = shorter.to_owned();
        }
        let mut host = reference.registry();
        while let Some((_, parent)) = host.split_once('.') {
            candidates.push(format!("*.{parent}"));
            host = parent;
        }
        candidates.push(String::new());
        let found = candidates.into_iter().find_map(|c| scopes.get(&c).map(|r| (c, r.as_slice())));
        match found {
            Some((scope, requirements)) if scope.is_empty() => ("any registry".to_owned(), requirements),
            Some(found) => found,
            None => of_default(),
        }
    }
}

async fn ask(program: &Path, name: &str, digest: &str, descriptor: &str) -> Result<(), String> {
    let shown = program.display();
    let asked = tokio::time::timeout(PATIENCE, run(program, name, digest, descriptor)).await;
    let output = asked
        .map_err(|_| format!("{shown} did not answer within {} s", PATIENCE.as_secs()))?
        .map_err(|e| format!("run {shown}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stdout);
    let reason: String = reason.trim().chars().take(LONGEST_REASON).collect();
    Err(format!("{shown} refuses it: {reason}"))
}

async fn run(program: &Path, name: &str, digest: &str, descriptor: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(["-name", name, "-digest", digest, "-stdin-media-type", DESCRIPTOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it need not.
        let _ = stdin.write_all(descriptor.as_bytes()).await;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn check(policy: &Policy, reference: &str, expected: Result<(), &str>) {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reference: Reference = reference.parse().unwrap();
        let found = threads.block_on(policy.check(&reference, "sha256:0", 1, "m")).map_err(|e| e.to_string());
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert!(error.starts_with("SignatureValidationFailed"), "{error}");
                assert!(error.contains(part), "{error}");
            }
            (found, expected) => panic!("{reference}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn scopes_and_verifiers() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.json");
        let verifiers = directory.path().join("verifiers");
        let policy = Policy { files: vec![file.clone()], verifiers: vec![verifiers.clone()] };
        check(&policy, "docker.io/library/a:1", Ok(()));
        fs::write(
            &file,
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {
                "good.io": [{"type": "insecureAcceptAnything"}],
                "good.io/bad": [{"type": "reject"}],
                "good.io/bad/but:fine": [{"type": "insecureAcceptAnything"}],
                "*.wild.io": [{"type": "insecureAcceptAnything"}],
                "signed.io": [{"type": "sigstoreSigned"}]}}}"#,
        )
        .unwrap();
        check(&policy, "docker.io/library/a:1", Err("rejects the default"));
        check(&policy, "good.io/a:1", Ok(()));
        check(&policy, "good.io/bad/x:1", Err("rejects good.io/bad"));
        check(&policy, "good.io/bad/but:fine", Ok(()));
        check(&policy, "a.b.wild.io/x:1", Ok(()));
        check(&policy, "signed.io/x:1", Err("sigstoreSigned"));
        fs::create_dir(&verifiers).unwrap();
        let program = verifiers.join("one");
        fs::write(&program, "#!/bin/sh\ncase \"$*\" in *evil*) echo no $4; exit 1;; esac\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        check(&policy, "signed.io/x:1", Ok(()));
        check(&policy, "signed.io/evil:1", Err("refuses it: no sha256:0"));
        fs::write(&file, "nonsense").unwrap();
        check(&policy, "good.io/a:1", Err("policy.json"));
    }
}
