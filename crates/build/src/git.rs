//! Git repositories as sources: of `ADD`, and as the context of a whole build. Git itself fetches them: it has people's keys
//! and credentials.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

/// `https://example.org/project.git#v1:sub/directory`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub url: String,
    /// A branch, tag or commit; the repository's own choice if not said.
    pub revision: Option<String>,
    /// Only this directory of it.
    pub directory: PathBuf,
}

/// What was fetched: gone when it is dropped.
#[derive(Debug)]
pub struct Checkout {
    holder: TempDir,
    /// In it.
    directory: PathBuf,
}

/// `None` for what is no repository.
pub fn parse(text: &str) -> Option<Reference> {
    let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
    let web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
    // Other files are fetched of the web too, so there the name tells.
    let is_one = (web && url.ends_with(".git"))
        || ["git://", "ssh://"].iter().any(|scheme| url.starts_with(scheme))
        || (url.starts_with("git@") && url.contains(':'));
    let (revision, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    is_one.then(|| Reference {
        url: url.to_owned(),
        revision: Some(revision.to_owned()).filter(|r| !r.is_empty()),
        directory: directory.trim_start_matches('/').into(),
    })
}

impl Reference {
    /// Fetches the repository, with its submodules; `history` leaves `.git` there.
    pub async fn fetch(&self, history: bool) -> Result<Checkout, String> {
        let holder = TempDir::new().map_err(|e| format!("make a directory for {}: {e}", self.url))?;
        let revision = self.revision.as_deref().unwrap_or("HEAD");
        let option = |text: &str| text.starts_with('-');
        let climbs = self.directory.components().any(|c| !matches!(c, Component::Normal(_)));
        if option(&self.url) || option(revision) || climbs {
            return Err(format!("{}: {revision:?} or {:?} is not taken", self.url, self.directory));
        }
        self.git(&holder, &["init", "--quiet", "--template="]).await?;
        let fetch = ["fetch", "--quiet", "--depth=1", &self.url, revision];
        let checkout = match self.git(&holder, &fetch).await {
            Ok(()) => "FETCH_HEAD",
            // Not every server hands out any commit: then all there is, and the commit out of it.
            Err(_) if revision.len() >= 7 && revision.bytes().all(|b| b.is_ascii_hexdigit()) => {
                let all = ["fetch", "--quiet", "--tags", &self.url, "+refs/heads/*:refs/remotes/origin/*"];
                self.git(&holder, &all).await?;
                revision
            }
            Err(error) => return Err(error),
        };
        self.git(&holder, &["checkout", "--quiet", "--detach", checkout]).await?;
        let submodules = ["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"];
        self.git(&holder, &submodules).await?;
        if !history {
            remove_history(holder.path()).map_err(|e| format!("{}: {e}", self.url))?;
        }
        let directory = holder.path().join(&self.directory);
        // A link there would lead wherever the repository wants.
        if !fs::canonicalize(&directory).is_ok_and(|d| d.starts_with(holder.path()) && d.is_dir()) {
            return Err(format!("{} has no directory {}", self.url, self.directory.display()));
        }
        Ok(Checkout { holder, directory: self.directory.clone() })
    }

    async fn git(&self, holder: &TempDir, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("git")
            // Nothing that comes with a repository is executed; a server that stalls is given up.
            .args(["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never"])
            .args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"])
            .args(arguments)
            .current_dir(holder.path())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|e| format!("{} is fetched with git, which cannot be run: {e}", self.url))?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: git {}: {}", self.url, arguments.first().unwrap_or(&""), told.trim()))
    }
}

impl Checkout {
    pub fn path(&self) -> PathBuf {
        self.holder.path().join(&self.directory)
    }
}

/// Of the repository and of its submodules.
fn remove_history(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        match (entry.file_name() == ".git", kind.is_dir()) {
            (true, true) => fs::remove_dir_all(entry.path())?,
            (true, false) => fs::remove_file(entry.path())?,
            (false, true) => remove_history(&entry.path())?,
            (false, false) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |text: &str, expected: Option<(&str, Option<&str>, &str)>| {
            let found = parse(text);
            let found = found
                .as_ref()
                .map(|r| (r.url.as_str(), r.revision.as_deref(), r.directory.to_str().unwrap_or_default()));
            assert_eq!(found, expected, "{text}");
        };
        check("https://e.org/a.git", Some(("https://e.org/a.git", None, "")));
        check("https://e.org/a.git#v1", Some(("https://e.org/a.git", Some("v1"), "")));
        check("git@e.org:a/b#main:/sub/d", Some(("git@e.org:a/b", Some("main"), "sub/d")));
        check("ssh://git@e.org/a#:sub", Some(("ssh://git@e.org/a", None, "sub")));
        for other in
            ["https://e.org/a.tar.gz", "https://e.org/a", "a.git", "file:///a.git", "ext::sh -c x", "./d"]
        {
            check(other, None);
        }
    }

    #[tokio::test]
    async fn a_repository_is_fetched_at_a_revision() {
        let origin = TempDir::new().unwrap();
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=n", "-c", "user.email=e@e.org", "-c", "init.defaultBranch=main"];
            let output = std::process::Command::new("git")
                .args(identity)
                .args(arguments)
                .current_dir(&origin)
                .output()
                .expect("git (package git) runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        fs::create_dir(origin.path().join("sub")).unwrap();
        let commit = |text: &str| {
            fs::write(origin.path().join("sub/file"), text).unwrap();
            git(&["add", "-A"]);
            git(&["commit", "--quiet", "-m", text]);
            git(&["rev-parse", "HEAD"])
        };
        let first = commit("one");
        git(&["tag", "v1"]);
        std::os::unix::fs::symlink("/etc", origin.path().join("out")).unwrap();
        commit("two");
        let at = |revision: Option<&str>, directory: &str| Reference {
            url: origin.path().display().to_string(),
            revision: revision.map(str::to_owned),
            directory: directory.into(),
        };
        for (revision, expected) in [(None, "two"), (Some("v1"), "one"), (Some(first.as_str()), "one")] {
            let checkout = at(revision, "sub").fetch(false).await.unwrap();
            assert_eq!(fs::read_to_string(checkout.path().join("file")).unwrap(), expected, "{revision:?}");
            assert!(!checkout.holder.path().join(".git").exists());
        }
        let whole = at(None, "").fetch(true).await.unwrap();
        assert!(whole.path().join(".git").is_dir());
        for (revision, directory, part) in [
            (Some("none"), "", "none"),
            (Some("--upload-pack=x"), "", "is not taken"),
            (None, "nowhere", "has no directory nowhere"),
            (None, "out", "has no directory out"),
            (None, "../x", "is not taken"),
        ] {
            let error = at(revision, directory).fetch(false).await.unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
