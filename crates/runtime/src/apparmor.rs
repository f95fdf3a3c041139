//! AppArmor profiles of containers: one of our own for those that name none, those of the node by name.
//!
//! The kernel takes profiles compiled only, so `apparmor_parser` does that, once, when the first container wants ours. A
//! machine with neither AppArmor in its kernel nor that program has no profiles: containers that ask for none run
//! without, one that names a profile does not run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use k8s_cri::v1::LinuxContainerSecurityContext;
use k8s_cri::v1::security_profile::ProfileType;
use parking_lot::Mutex;
use tracing::warn;

use crate::{Error, Result};

/// What containers run under that name no profile.
pub const DEFAULT: &str = "corten-default";

pub struct AppArmor {
    /// Where the kernel tells of profiles; none without AppArmor.
    kernel: Option<PathBuf>,
    parser: Option<PathBuf>,
    /// Where the text of our profile is written for the parser.
    text: PathBuf,
    /// Whether our profile has been loaded, or why that failed.
    loaded: Mutex<Option<std::result::Result<(), String>>>,
}

/// A container's wish, of either of the fields that there are for it.
enum Wish {
    Nothing,
    Unconfined,
    Default,
    Named(String),
}

impl AppArmor {
    pub fn detect(directory: &Path) -> Self {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let kernel = PathBuf::from("/sys/kernel/security/apparmor");
        let kernel = enabled.is_ok_and(|e| e.starts_with('Y')).then_some(kernel).filter(|k| k.exists());
        let parsers = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"].map(PathBuf::from);
        Self::with(kernel, parsers.into_iter().find(|p| p.exists()), directory)
    }

    fn with(kernel: Option<PathBuf>, parser: Option<PathBuf>, directory: &Path) -> Self {
        Self { kernel, parser, text: directory.join("apparmor-default"), loaded: Mutex::default() }
    }

    /// What there is, for people.
    pub fn describe(&self) -> serde_json::Value {
        let loaded = self.loaded.lock();
        serde_json::json!({
            "enabled": self.kernel.is_some(),
            "parser": self.parser,
            "defaultProfile": DEFAULT,
            "loaded": matches!(*loaded, Some(Ok(()))),
            "problem": loaded.as_ref().and_then(|l| l.as_ref().err()),
        })
    }

    /// The profile to run a container under; none for the one that the runtime itself is under. Runs a program the
    /// first time.
    pub fn profile(&self, context: &LinuxContainerSecurityContext) -> Result<Option<String>> {
        let wish = wish(context);
        let ours = || self.load_default().map(|()| Some(DEFAULT.to_owned()));
        match (wish, &self.kernel) {
            (Wish::Unconfined, _) => Ok(None),
            (Wish::Nothing | Wish::Default, _) if context.privileged => Ok(None),
            (Wish::Nothing | Wish::Default, None) => Ok(None),
            (Wish::Nothing | Wish::Default, Some(_)) if self.parser.is_none() => Ok(None),
            // It never asked for it, and must run where AppArmor is but may not be used, as in another container.
            (Wish::Nothing, Some(_)) => Ok(ours().unwrap_or_default()),
            (Wish::Default, Some(_)) => ours(),
            (Wish::Named(name), None) => Err(Error::InvalidArgument(format!(
                "AppArmor profile {name:?} cannot be applied: AppArmor is not enabled on this machine"
            ))),
            (Wish::Named(name), Some(kernel)) => {
                if is_loaded(kernel, &name)? {
                    return Ok(Some(name));
                }
                Err(Error::InvalidArgument(format!(
                    "apparmor profile not found {name}: load it on this machine with apparmor_parser"
                )))
            }
        }
    }

    fn load_default(&self) -> Result<()> {
        let mut loaded = self.loaded.lock();
        let outcome = loaded.get_or_insert_with(|| {
            let outcome = self.load();
            if let Err(problem) = &outcome {
                warn!(profile = DEFAULT, problem, "containers run without an AppArmor profile of ours");
            }
            outcome
        });
        outcome.clone().map_err(|problem| {
            Error::FailedPrecondition(format!("AppArmor profile {DEFAULT} cannot be loaded: {problem}"))
        })
    }

    /// Anew with each start of ours, so that it is this version's.
    fn load(&self) -> std::result::Result<(), String> {
        let Some(parser) = &self.parser else { return Err("there is no apparmor_parser".to_owned()) };
        let abi = Path::new("/etc/apparmor.d/abi/3.0").exists();
        let base = Path::new("/etc/apparmor.d/abstractions/base").exists();
        let tunables = Path::new("/etc/apparmor.d/tunables/global").exists();
        fs::write(&self.text, text(own_profile().as_deref(), abi, tunables, base))
            .map_err(|e| format!("write {}: {e}", self.text.display()))?;
        let output = Command::new(parser)
            .args(["--replace", "--skip-cache"])
            .arg(&self.text)
            .output()
            .map_err(|e| format!("run {}: {e}", parser.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }
}

#[expect(deprecated, reason = "older clients set the one field, newer ones the other")]
fn wish(context: &LinuxContainerSecurityContext) -> Wish {
    let named = |name: &str| Wish::Named(name.strip_prefix("localhost/").unwrap_or(name).to_owned());
    if let Some(profile) = &context.apparmor {
        return match profile.profile_type() {
            ProfileType::RuntimeDefault => Wish::Default,
            ProfileType::Unconfined => Wish::Unconfined,
            ProfileType::Localhost => named(&profile.localhost_ref),
        };
    }
    match context.apparmor_profile.as_str() {
        "" => Wish::Nothing,
        "runtime/default" => Wish::Default,
        "unconfined" => Wish::Unconfined,
        name => named(name),
    }
}

/// The kernel lists them as `NAME (MODE)`.
fn is_loaded(kernel: &Path, name: &str) -> Result<bool> {
    let list = kernel.join("profiles");
    let text = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
    Ok(text.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name)))
}

/// The profile that this process, and so every shim, is under; none for `unconfined`.
fn own_profile() -> Option<String> {
    let read = |path| -> io::Result<String> { fs::read_to_string(path) };
    let current =
        read("/proc/self/attr/apparmor/current").or_else(|_| read("/proc/self/attr/current")).ok()?;
    let name = current.trim().rsplit_once(" (").map_or(current.trim(), |(name, _)| name);
    Some(name.to_owned()).filter(|name| !name.is_empty() && name != "unconfined")
}

/// What a process in a container may do as far as AppArmor is asked. Whatever else holds it back (capabilities, seccomp,
/// namespaces), this takes from root what would reach the node: mounts, and writes to the kernel's own files.
fn text(own: Option<&str>, abi: bool, tunables: bool, base: bool) -> String {
    // Not without quotes: names may have spaces.
    let shims = own.map(|own| format!("  signal (receive) peer=\"{own}\",\n")).unwrap_or_default();
    let line = |wanted: bool, line: &str| if wanted { format!("{line}\n") } else { String::new() };
    let mut text =
        String::from("# Written by Corten for containers that name no profile; see docs/runtime.md.\n");
    // A parser that is newer than this text must not begin to ask for rules that it does not have.
    text += &line(abi, "abi <abi/3.0>,");
    text += &if tunables { line(true, "include <tunables/global>") } else { line(true, "@{PROC}=/proc/") };
    text += &format!("profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{\n");
    text += &line(base, "  include <abstractions/base>");
    text += "  file,\n  network,\n  capability,\n  umount,\n";
    text += "  signal (receive) peer=unconfined,\n";
    text += &shims;
    text += &format!("  signal (send,receive) peer={DEFAULT},\n");
    text += &format!("  ptrace (trace,read,tracedby,readby) peer={DEFAULT},\n");
    text += "  deny mount,\n";
    for denied in [
        // Of what is directly below /proc, and of sysctls all but those that belong to a pod.
        "@{PROC}/* w",
        "@{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w",
        "@{PROC}/sys/[^kn]** w",
        "@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w",
        "@{PROC}/sysrq-trigger rwklx",
        "@{PROC}/mem rwklx",
        "@{PROC}/kmem rwklx",
        "@{PROC}/kcore rwklx",
        "/sys/[^f]*/** wklx",
        "/sys/f[^s]*/** wklx",
        "/sys/fs/[^c]*/** wklx",
        "/sys/fs/c[^g]*/** wklx",
        "/sys/fs/cg[^r]*/** wklx",
        "/sys/firmware/** rwklx",
        "/sys/devices/virtual/powercap/** rwklx",
        "/sys/kernel/security/** rwklx",
    ] {
        text += &format!("  deny {denied},\n");
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use k8s_cri::v1::SecurityProfile;

    use super::*;

    fn asks(kind: Option<ProfileType>, name: &str, privileged: bool) -> LinuxContainerSecurityContext {
        let profile =
            kind.map(|kind| SecurityProfile { profile_type: kind as i32, localhost_ref: name.to_owned() });
        LinuxContainerSecurityContext { apparmor: profile, privileged, ..Default::default() }
    }

    /// A kernel that knows one profile, and a parser that says whether it was given a text.
    fn machine(directory: &Path, parser: &str) -> AppArmor {
        fs::write(directory.join("profiles"), "web server (enforce)\nplain (complain)\n").unwrap();
        let program = directory.join("parser");
        fs::write(&program, format!("#!/bin/sh\necho called >> {}/calls\n{parser}\n", directory.display()))
            .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        AppArmor::with(Some(directory.to_owned()), Some(program), directory)
    }

    #[test]
    fn which_profile() {
        use ProfileType::{Localhost, RuntimeDefault, Unconfined};
        let directory = tempfile::tempdir().unwrap();
        let machine = machine(directory.path(), "grep -q 'profile corten-default' \"$3\"");
        for (context, expected) in [
            (asks(None, "", false), Ok(Some(DEFAULT))),
            (asks(Some(RuntimeDefault), "", false), Ok(Some(DEFAULT))),
            (asks(Some(Unconfined), "", false), Ok(None)),
            (asks(None, "", true), Ok(None)),
            (asks(Some(Localhost), "plain", false), Ok(Some("plain"))),
            (asks(Some(Localhost), "localhost/web server", true), Ok(Some("web server"))),
            (asks(Some(Localhost), "web", false), Err("apparmor profile not found web")),
        ] {
            match (machine.profile(&context), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{context:?}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{context:?}: {found:?} instead of {expected:?}"),
            }
        }
        let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
        assert_eq!(calls, "called\n", "loaded once");
        assert_eq!(machine.describe()["loaded"], true);
    }

    #[test]
    fn a_profile_that_cannot_be_loaded_is_missed_by_those_who_ask_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let machine = machine(directory.path(), "echo no permission >&2; exit 1");
        assert_eq!(machine.profile(&asks(None, "", false)).unwrap(), None);
        let error = machine.profile(&asks(Some(ProfileType::RuntimeDefault), "", false)).unwrap_err();
        assert!(error.to_string().contains("no permission"), "{error}");
    }

    #[test]
    fn a_machine_without() {
        let nothing = AppArmor::with(None, None, Path::new("/nowhere"));
        for kind in [None, Some(ProfileType::RuntimeDefault), Some(ProfileType::Unconfined)] {
            assert_eq!(nothing.profile(&asks(kind, "", false)).unwrap(), None, "{kind:?}");
        }
        assert!(nothing.profile(&asks(Some(ProfileType::Localhost), "x", false)).is_err());
        assert_eq!(nothing.describe()["enabled"], false);
    }

    #[test]
    fn the_text_has_what_the_machine_has() {
        let bare = text(None, false, false, false);
        assert!(!bare.contains("include") && !bare.contains("abi ") && bare.contains("@{PROC}=/proc/"));
        let full = text(Some("corten daemon"), true, true, true);
        for part in ["abi <abi/3.0>,", "include <tunables/global>", "include <abstractions/base>"] {
            assert!(full.contains(part), "{part}");
        }
        assert!(full.contains("signal (receive) peer=\"corten daemon\","));
        assert!(full.contains("  deny mount,\n") && full.ends_with("}\n"));
        assert_eq!(full.matches('{').count(), full.matches('}').count());
    }
}
