//! What holds where a namespace says nothing, and who is exempt: `PodSecurityConfiguration`.

use serde_json::Value;

use super::subject::Pod;
use super::{Level, Policy, is_version};
use crate::admission::AdmissionRequest;
use crate::admission::objects::{items, label};

/// The plugin with its configuration. Without one, namespaces that say nothing are privileged.
pub struct PodSecurity {
    enforce: Policy,
    audit: Policy,
    warn: Policy,
    users: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

impl Default for PodSecurity {
    fn default() -> Self {
        let privileged = || Policy { level: Level::Privileged, version: "latest".to_owned() };
        Self {
            enforce: privileged(),
            audit: privileged(),
            warn: privileged(),
            users: Vec::new(),
            namespaces: Vec::new(),
            runtime_classes: Vec::new(),
        }
    }
}

impl PodSecurity {
    pub fn read(config: &Value) -> Result<Self, String> {
        let defaults = &config["defaults"];
        let policy = |mode: &str| {
            let level = defaults[mode].as_str().unwrap_or("privileged");
            let version = defaults[format!("{mode}-version")].as_str().unwrap_or("latest");
            let level = Level::parse(level).ok_or_else(|| {
                format!("defaults.{mode}: {level:?} is none of privileged, baseline, restricted")
            })?;
            match is_version(version) {
                true => Ok(Policy { level, version: version.to_owned() }),
                false => Err(format!("defaults.{mode}-version: {version:?} is neither latest nor v1.x")),
            }
        };
        let exempt = |field: &str| {
            items(&config["exemptions"][field]).filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(Self {
            enforce: policy("enforce")?,
            audit: policy("audit")?,
            warn: policy("warn")?,
            users: exempt("usernames"),
            namespaces: exempt("namespaces"),
            runtime_classes: exempt("runtimeClasses"),
        })
    }

    /// The mode of a namespace. An unreadable level is the strictest one, as upstream has it.
    fn mode(namespace: &Value, mode: &str, default: &Policy) -> Policy {
        let key = format!("pod-security.kubernetes.io/{mode}");
        let level = label(namespace, &key)
            .map_or(default.level, |text| Level::parse(text).unwrap_or(Level::Restricted));
        let version = label(namespace, &format!("{key}-version")).unwrap_or(&default.version);
        Policy { level, version: version.to_owned() }
    }

    pub(super) fn enforced(&self, namespace: &Value) -> Policy {
        Self::mode(namespace, "enforce", &self.enforce)
    }

    pub(super) fn audited(&self, namespace: &Value) -> Policy {
        Self::mode(namespace, "audit", &self.audit)
    }

    /// Who enforces a standard is warned of it, too, unless the namespace says otherwise: by the templates of
    /// workloads, whose pods would be refused.
    pub(super) fn warned(&self, namespace: &Value) -> Policy {
        let said = |name: &str| label(namespace, &format!("pod-security.kubernetes.io/{name}")).is_some();
        let mut warn = Self::mode(namespace, "warn", &self.warn);
        let enforce = self.enforced(namespace);
        if said("enforce") && !said("warn") && enforce.level > warn.level {
            warn.level = enforce.level;
            if !said("warn-version") {
                warn.version = enforce.version;
            }
        }
        warn
    }

    /// What exempts a request, as audit events tell it.
    pub(super) fn exempts(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Pod<'_>>,
    ) -> Option<&'static str> {
        let has = |list: &[String], name: &str| list.iter().any(|exempt| exempt == name);
        if has(&self.namespaces, request.namespace) {
            return Some("namespace");
        }
        if has(&self.users, &request.user.name) {
            return Some("user");
        }
        let class = pod.and_then(|pod| pod.spec["runtimeClassName"].as_str());
        class.filter(|class| has(&self.runtime_classes, class)).map(|_| "runtimeClass")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::objects::NAMESPACES;
    use super::super::super::objects::tests::Fixture;
    use super::super::super::testing::Case;
    use super::*;

    #[test]
    fn defaults_hold_where_a_namespace_says_nothing() {
        let plugin = PodSecurity::read(&json!({
            "defaults": {"enforce": "baseline", "enforce-version": "v1.30"},
            "exemptions": {"usernames": ["root"], "namespaces": ["free"], "runtimeClasses": ["vm"]},
        }))
        .unwrap();
        let refused = |namespace: &str, labels: Value, user: &str, class: &str| {
            let objects =
                Fixture::new().add(NAMESPACES, json!({"metadata": {"name": namespace, "labels": labels}}));
            let spec = json!({"hostNetwork": true, "runtimeClassName": class, "containers": [{"name": "c"}]});
            let pod = json!({"metadata": {"name": "p", "namespace": namespace}, "spec": spec});
            let mut case = Case::create("", "pods", pod);
            case.user.name = user.into();
            case.refusal(|request| plugin.validate(request, &objects))
        };
        let why = refused("n", json!({}), "alice", "");
        assert!(why.contains("violates PodSecurity \"baseline:v1.30\": host namespaces"), "{why}");
        let privileged = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        assert_eq!(refused("n", privileged, "alice", ""), "");
        assert_eq!(refused("n", json!({}), "root", ""), "");
        assert_eq!(refused("n", json!({}), "alice", "vm"), "");
        assert_eq!(refused("free", json!({}), "alice", ""), "");
        let bad = |defaults: Value| PodSecurity::read(&json!({"defaults": defaults})).map(drop).unwrap_err();
        assert!(bad(json!({"warn": "x"})).starts_with("defaults.warn: \"x\" is none of"));
        assert!(bad(json!({"warn-version": "1"})).starts_with("defaults.warn-version: \"1\" is neither"));
    }

    #[test]
    fn who_enforces_is_warned() {
        let plugin = PodSecurity::default();
        let warned = |labels: Value| plugin.warned(&json!({"metadata": {"labels": labels}})).name();
        let key = |name: &str| format!("pod-security.kubernetes.io/{name}");
        let enforce = json!({key("enforce"): "baseline", key("enforce-version"): "v1.30"});
        assert_eq!(warned(enforce.clone()), "baseline:v1.30");
        let mut own = enforce.clone();
        own[key("warn-version")] = json!("v1.31");
        assert_eq!(warned(own), "baseline:v1.31");
        let mut own = enforce;
        own[key("warn")] = json!("privileged");
        assert_eq!(warned(own), "privileged:latest");
    }
}
