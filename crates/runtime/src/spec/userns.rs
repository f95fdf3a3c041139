//! User namespaces of pods: which ids of the host stand for which ids of the pod.

use k8s_cri::v1::{IdMapping, NamespaceMode, PodSandboxConfig};

use crate::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

impl Mapping {
    /// None for a pod in the host's user namespace.
    pub fn of(config: &PodSandboxConfig) -> Result<Option<Self>> {
        let Some(wanted) = super::namespace_options(config).userns_options else { return Ok(None) };
        let invalid = |message: &str| Err(Error::InvalidArgument(format!("user namespace: {message}")));
        match wanted.mode() {
            NamespaceMode::Node if wanted.uids.is_empty() && wanted.gids.is_empty() => Ok(None),
            NamespaceMode::Node => invalid("ids are mapped, but the mode is NODE"),
            NamespaceMode::Pod if wanted.uids.is_empty() || wanted.gids.is_empty() => {
                invalid("mode POD needs mappings of user and group ids")
            }
            NamespaceMode::Pod if wanted.uids.iter().chain(&wanted.gids).any(|m| m.length == 0) => {
                invalid("a mapping has no length")
            }
            NamespaceMode::Pod => Ok(Some(Self { uids: wanted.uids, gids: wanted.gids })),
            _ => invalid("the mode must be POD or NODE"),
        }
    }

    /// Who the pod's root is on the host: user and group.
    pub fn root(&self) -> Result<(u32, u32)> {
        let of = |mappings: &[IdMapping]| {
            let root = mappings.iter().find(|m| m.container_id == 0);
            root.map(|m| m.host_id)
                .ok_or_else(|| Error::InvalidArgument("user namespace: id 0 is not mapped".to_owned()))
        };
        Ok((of(&self.uids)?, of(&self.gids)?))
    }

    pub fn shim_arguments(&self) -> [String; 4] {
        let ranges = |mappings: &[IdMapping]| {
            let range = |m: &IdMapping| format!("{}:{}:{}", m.container_id, m.host_id, m.length);
            mappings.iter().map(range).collect::<Vec<_>>().join(",")
        };
        ["--uids".to_owned(), ranges(&self.uids), "--gids".to_owned(), ranges(&self.gids)]
    }
}

#[cfg(test)]
mod tests {
    use k8s_cri::v1::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption, UserNamespace};

    use super::*;

    fn config(mode: NamespaceMode, ranges: &[(u32, u32, u32)]) -> PodSandboxConfig {
        let ids: Vec<IdMapping> = ranges
            .iter()
            .map(|&(container_id, host_id, length)| IdMapping { host_id, container_id, length })
            .collect();
        let userns_options = Some(UserNamespace { mode: mode as i32, uids: ids.clone(), gids: ids });
        let namespace_options = Some(NamespaceOption { userns_options, ..Default::default() });
        let security_context = Some(LinuxSandboxSecurityContext { namespace_options, ..Default::default() });
        let linux = Some(LinuxPodSandboxConfig { security_context, ..Default::default() });
        PodSandboxConfig { linux, ..Default::default() }
    }

    #[test]
    fn what_is_asked_for() {
        let check = |mode, ranges: &[(u32, u32, u32)], expected: Option<bool>| {
            let found = Mapping::of(&config(mode, ranges)).ok().map(|m| m.is_some());
            assert_eq!(found, expected, "{mode:?} {ranges:?}");
        };
        check(NamespaceMode::Node, &[], Some(false));
        check(NamespaceMode::Node, &[(0, 70000, 65536)], None);
        check(NamespaceMode::Pod, &[], None);
        check(NamespaceMode::Pod, &[(0, 70000, 0)], None);
        check(NamespaceMode::Container, &[(0, 70000, 65536)], None);
        check(NamespaceMode::Pod, &[(0, 70000, 65536)], Some(true));
        assert_eq!(Mapping::of(&PodSandboxConfig::default()).ok(), Some(None));
        let mapping = Mapping::of(&config(NamespaceMode::Pod, &[(5, 1, 2), (0, 70000, 5)])).unwrap().unwrap();
        assert_eq!(mapping.root().unwrap(), (70000, 70000));
        assert_eq!(mapping.shim_arguments()[1], "5:1:2,0:70000:5");
        assert!(Mapping { uids: vec![], gids: vec![] }.root().is_err());
    }
}
