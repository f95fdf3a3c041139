//! Which admission plugins run: those of a default server less those that are turned off, and what else is asked for.

use std::collections::HashSet;

/// Those that run by themselves.
const DEFAULT: [&str; 25] = [
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceLifecycle",
    "NodeDeclaredFeatureValidator",
    "NodeRestriction",
    "PersistentVolumeClaimResize",
    "PodSecurity",
    "PodTopologyLabels",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "AlwaysAdmit",
];

/// Those that have to be asked for.
const OPTIONAL: [&str; 12] = [
    "AlwaysDeny",
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PluginsError {
    #[error("admission plugin {0:?} is unknown")]
    Unknown(String),
    #[error("admission plugin {0:?} is both enabled and disabled")]
    Both(String),
}

/// The plugins that run.
#[derive(Clone, Debug)]
pub struct Plugins(HashSet<&'static str>);

impl Default for Plugins {
    fn default() -> Self {
        Self(DEFAULT.into_iter().collect())
    }
}

impl Plugins {
    pub fn new(enabled: &[String], disabled: &[String]) -> Result<Self, PluginsError> {
        let mut plugins = Self::default();
        for name in disabled {
            plugins.0.remove(known(name)?);
        }
        for name in enabled {
            if disabled.contains(name) {
                return Err(PluginsError::Both(name.clone()));
            }
            plugins.0.insert(known(name)?);
        }
        Ok(plugins)
    }

    pub fn run(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

fn known(name: &str) -> Result<&'static str, PluginsError> {
    let found = DEFAULT.iter().chain(&OPTIONAL).find(|known| **known == name);
    found.copied().ok_or_else(|| PluginsError::Unknown(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs() {
        let plugins = |enabled: &[&str], disabled: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            Plugins::new(&owned(enabled), &owned(disabled))
        };
        let chosen = plugins(&["NodeRestriction", "AlwaysPullImages"], &["PodSecurity"]).unwrap();
        let runs = ["NodeRestriction", "AlwaysPullImages", "PodSecurity", "PodNodeSelector", "Priority"]
            .map(|name| chosen.run(name));
        assert_eq!(runs, [true, true, false, false, true]);
        assert_eq!(plugins(&["Foo"], &[]).unwrap_err(), PluginsError::Unknown("Foo".to_owned()));
        let both = PluginsError::Both("Priority".to_owned());
        assert_eq!(plugins(&["Priority"], &["Priority"]).unwrap_err(), both);
    }
}
