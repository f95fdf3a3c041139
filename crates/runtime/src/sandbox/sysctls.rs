//! The sysctls of a pod: only such as the kernel keeps for each namespace, and only where the pod has that namespace to
//! itself. Anything else would change the node.

use k8s_cri::v1::{NamespaceMode, PodSandboxConfig};

use crate::{Error, Result, spec};

/// Beside `fs.mqueue.*`.
const OF_IPC: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

pub fn check(config: &PodSandboxConfig) -> Result<()> {
    let options = spec::namespace_options(config);
    let own_network = options.network() != NamespaceMode::Node;
    let own_ipc = options.ipc() != NamespaceMode::Node;
    for key in config.linux.iter().flat_map(|l| l.sysctls.keys()) {
        let mut parts = key.split(['.', '/']);
        let (namespace, own) = match (parts.next(), parts.next(), parts.next()) {
            (Some("net"), Some(_), _) => ("network", own_network),
            (Some("kernel"), Some(name), None) if OF_IPC.contains(&name) => ("IPC", own_ipc),
            (Some("fs"), Some("mqueue"), Some(_)) => ("IPC", own_ipc),
            // Made together with the network namespace.
            (Some("kernel"), Some("domainname"), None) => ("UTS", own_network),
            _ => {
                let message = format!("sysctl {key:?} is not kept for each namespace: a pod cannot set it");
                return Err(Error::InvalidArgument(message));
            }
        };
        if !own {
            let message =
                format!("sysctl {key:?} cannot be set by a pod in the node's {namespace} namespace");
            return Err(Error::InvalidArgument(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_cri::v1::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption};

    use super::*;

    fn check_one(key: &str, network: NamespaceMode, ipc: NamespaceMode) -> bool {
        let options =
            NamespaceOption { network: network as i32, ipc: ipc as i32, ..NamespaceOption::default() };
        let context = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let linux = LinuxPodSandboxConfig {
            sysctls: [(key.to_owned(), "1".to_owned())].into(),
            security_context: Some(context),
            ..Default::default()
        };
        check(&PodSandboxConfig { linux: Some(linux), ..Default::default() }).is_ok()
    }

    #[test]
    fn only_what_is_the_pods_own() {
        use NamespaceMode::{Node, Pod};
        for (key, both, host_network, host_ipc) in [
            ("net.core.somaxconn", true, false, true),
            ("net/ipv4/conf/eth0.1/forwarding", true, false, true),
            ("kernel.shm_rmid_forced", true, true, false),
            ("kernel.sem", true, true, false),
            ("fs.mqueue.msg_max", true, true, false),
            ("kernel.domainname", true, false, true),
            ("kernel.panic", false, false, false),
            ("vm.swappiness", false, false, false),
            ("kernel.hostname", false, false, false),
            ("net", false, false, false),
            ("", false, false, false),
        ] {
            let found = [check_one(key, Pod, Pod), check_one(key, Node, Pod), check_one(key, Pod, Node)];
            assert_eq!(found, [both, host_network, host_ipc], "{key}");
        }
    }
}
