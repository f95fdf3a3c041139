//! `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf` and `/dev/shm` of a pod.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_cri::v1::{DnsConfig, NamespaceMode, PodSandboxConfig};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{Error, Result, spec};

const SHM_OPTIONS: &std::ffi::CStr = c"mode=1777,size=65536k";

pub fn make(dir: &Path, config: &PodSandboxConfig) -> Result<()> {
    let owner = spec::userns::Mapping::of(config)?.map(|m| m.root()).transpose()?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        // Whatever this process's umask is: every user of the pod reads them.
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&path, mode).map_err(Error::io("set permissions of", &path))?;
        let Some((uid, gid)) = owner else { return Ok(()) };
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", &path))
    };
    let options = spec::namespace_options(config);
    write("hostname", &format!("{}\n", spec::hostname(config)))?;
    // The kubelet mounts the pod's own /etc/hosts; this one is for clients that do not.
    write("hosts", &hosts(config))?;
    let resolv_conf = match &config.dns_config {
        Some(dns) if *dns != DnsConfig::default() => resolv_conf(dns),
        _ => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    write("resolv.conf", &resolv_conf)?;
    let shm = dir.join("shm");
    fs::create_dir_all(&shm).map_err(Error::io("make", &shm))?;
    if options.ipc() == NamespaceMode::Node {
        mount_bind(Path::new("/dev/shm"), &shm)
    } else {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("shm", &shm, "tmpfs", flags, SHM_OPTIONS).map_err(Error::errno("mount tmpfs on", &shm))
    }
}

fn mount_bind(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_bind_recursive(from, to).map_err(Error::errno("bind mount on", to))
}

/// Unmounts what [`make`] mounted; it may be gone.
pub fn unmount_all(dir: &Path) -> Result<()> {
    let shm = dir.join("shm");
    match unmount(&shm, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::errno("unmount", &shm)(e)),
    }
}

fn hosts(config: &PodSandboxConfig) -> String {
    let own = if spec::namespace_options(config).network() == NamespaceMode::Node {
        return fs::read_to_string("/etc/hosts").unwrap_or_default();
    } else {
        &config.hostname
    };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{own}\n")
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_service() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let dns = DnsConfig {
            servers: list(&["10.96.0.10", "1.1.1.1"]),
            searches: list(&["a.svc", "svc"]),
            options: list(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.svc svc\nnameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()), "");
    }
}
