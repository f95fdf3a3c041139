//! PodSecurity: the Pod Security Standards, by labels of the namespace.
//!
//! `pod-security.kubernetes.io/enforce` refuses pods, `warn` and `audit` only tell, also for the templates of
//! workloads. The standards are lists of checks: [`baseline`] keeps pods from known ways to the host,
//! [`restricted`] asks for hardening besides.

mod baseline;
mod configuration;
mod existing;
mod restricted;
mod subject;

use api::status::Status;
use serde_json::Value;

use super::objects::{self, NAMESPACES, Objects, label};
use super::{AdmissionRequest, Operation};
use crate::audit;
pub use configuration::PodSecurity;
use subject::Pod;

/// The standards, each stricter than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    /// What of the standard the pod violates, each as `what (details)`.
    fn violations(self, pod: &Pod<'_>) -> Vec<String> {
        match self {
            Self::Privileged => Vec::new(),
            Self::Baseline => baseline::CHECKS.iter().filter_map(|check| check(pod)).collect(),
            Self::Restricted => restricted::CHECKS.iter().filter_map(|check| check(pod)).collect(),
        }
    }
}

/// A level with the version label that messages repeat.
struct Policy {
    level: Level,
    version: String,
}

impl Policy {
    fn violation(&self, pod: &Pod<'_>) -> Option<String> {
        let violations = self.level.violations(pod);
        if violations.is_empty() {
            return None;
        }
        Some(format!("violate PodSecurity {:?}: {}", self.name(), violations.join(", ")))
    }

    /// `restricted:latest`
    fn name(&self) -> String {
        format!("{}:{}", self.level.name(), self.version)
    }
}

impl PodSecurity {
    pub fn validate(&self, request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes {
            return Ok(());
        }
        if request.is("", "namespaces") {
            check_labels(request)?;
            if self.exempts(request, None).is_none() {
                existing::warn(self, request, objects);
            }
            return Ok(());
        }
        let is_pod = request.is("", "pods") || request.is_subresource("", "pods", "ephemeralcontainers");
        let path: &[&str] = match (request.resource.group.as_str(), request.resource.resource.as_str()) {
            ("", "pods") if is_pod => &[],
            ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
            | ("batch", "jobs")
            | ("", "replicationcontrollers")
                if request.subresource.is_empty() =>
            {
                &["spec", "template"]
            }
            ("batch", "cronjobs") if request.subresource.is_empty() => {
                &["spec", "jobTemplate", "spec", "template"]
            }
            ("", "podtemplates") => &["template"],
            _ => return Ok(()),
        };
        let Some(namespace) = objects.get(NAMESPACES, "", request.namespace) else {
            return Ok(());
        };
        let [enforce, warn, audited] =
            [self.enforced(&namespace), self.warned(&namespace), self.audited(&namespace)];
        if [&enforce, &warn, &audited].into_iter().all(|policy| policy.level == Level::Privileged) {
            return Ok(());
        }
        let within = |object: &'_ Value| -> Value {
            let found = path.iter().try_fold(object, |value, key| value.get(key));
            found.cloned().unwrap_or(Value::Null)
        };
        let template = within(&request.object);
        if request.operation == Operation::Update && is_same(&within(request.old_object), &template) {
            return Ok(());
        }
        let pod = Pod::new(&template);
        if let Some(why) = self.exempts(request, Some(&pod)) {
            audit::annotate("pod-security.kubernetes.io/exempt", why);
            return Ok(());
        }
        if is_pod {
            audit::annotate("pod-security.kubernetes.io/enforce-policy", enforce.name());
        }
        if let Some(violation) = audited.violation(&pod) {
            audit::annotate("pod-security.kubernetes.io/audit-violations", format!("would {violation}"));
        }
        if is_pod && let Some(violation) = enforce.violation(&pod) {
            return Err(request.forbidden(violation.replacen("violate", "violates", 1)));
        }
        if let Some(violation) = warn.violation(&pod) {
            request.warnings.push(format!("would {violation}"));
        }
        Ok(())
    }
}

/// Whether an update leaves everything as it is that the checks look at.
fn is_same(old: &Value, new: &Value) -> bool {
    old["spec"] == new["spec"] && old["metadata"]["annotations"] == new["metadata"]["annotations"]
}

/// Labels that mean nothing are refused where they are set.
fn check_labels(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    use api::field::{FieldErrors, Path};
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata");
    let path = path.child("labels");
    for mode in ["enforce", "audit", "warn"] {
        let key = format!("pod-security.kubernetes.io/{mode}");
        let (new, old) = (label(&request.object, &key), label(request.old_object, &key));
        if let Some(text) = new.filter(|text| new != old && Level::parse(text).is_none()) {
            let detail = "must be one of privileged, baseline, restricted";
            errors.invalid(&path.key(&key), text, detail);
        }
        let key = format!("{key}-version");
        let (new, old) = (label(&request.object, &key), label(request.old_object, &key));
        if let Some(text) = new.filter(|text| new != old && !is_version(text)) {
            let detail = "must be \"latest\" or \"v1.x\"";
            errors.invalid(&path.key(&key), text, detail);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("", "Namespace", objects::name(&request.object), &errors))
}

fn is_version(text: &str) -> bool {
    let minor = text.strip_prefix("v1.").unwrap_or_default();
    text == "latest"
        || (!minor.is_empty() && minor.len() < 5 && minor.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn fixture(labels: Value) -> Fixture {
        Fixture::new().add(NAMESPACES, json!({"metadata": {"name": "ns", "labels": labels}}))
    }

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": "x"}, "spec": spec})
    }

    fn bare() -> Value {
        json!({"containers": [{"name": "a"}]})
    }

    fn hardened() -> Value {
        json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        })
    }

    #[test]
    fn enforced() {
        let check = |level: &str, spec: Value, expected: &str| {
            let fixture = fixture(json!({"pod-security.kubernetes.io/enforce": level}));
            let case = Case::create("", "pods", pod(spec));
            assert_eq!(case.refusal(|request| PodSecurity::default().validate(request, &fixture)), expected);
        };
        check("restricted", hardened(), "");
        check("baseline", bare(), "");
        check("privileged", json!({"hostNetwork": true}), "");
        check(
            "restricted",
            bare(),
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
             (container \"a\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities \
             (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or \
             container \"a\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        );
        check(
            "baseline",
            json!({"hostNetwork": true, "hostPID": true, "containers": [{"name": "a", "securityContext": {"privileged": true}}]}),
            "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true, \
             hostPID=true), privileged (container \"a\" must not set securityContext.privileged=true)",
        );
    }

    #[test]
    fn warned() {
        let fixture = fixture(json!({"pod-security.kubernetes.io/warn": "restricted",
                                     "pod-security.kubernetes.io/warn-version": "v1.36",
                                     "pod-security.kubernetes.io/enforce": "baseline"}));
        let warnings = |case: &Case| {
            case.run_with_warnings(|request| PodSecurity::default().validate(request, &fixture))
                .expect("admitted")
                .1
        };
        let told = warnings(&Case::create("", "pods", pod(bare())));
        assert!(
            told[0].starts_with("would violate PodSecurity \"restricted:v1.36\": allowPrivilege"),
            "{told:?}"
        );
        assert!(warnings(&Case::create("", "pods", pod(hardened()))).is_empty());
        let deployment = |spec: Value| json!({"metadata": {"namespace": "ns", "name": "d"}, "spec": {"template": {"spec": spec}}});
        let host = deployment(json!({"hostNetwork": true}));
        assert_eq!(warnings(&Case::create("apps", "deployments", host.clone())).len(), 1);
        // Nothing new: nothing told.
        assert!(warnings(&Case::update("apps", "deployments", host.clone(), host)).is_empty());
    }

    #[test]
    fn labels() {
        let check = |labels: Value, expected: &str| {
            let case = Case::create("", "namespaces", json!({"metadata": {"name": "x", "labels": labels}}));
            let refusal = case.refusal(|request| PodSecurity::default().validate(request, &Fixture::new()));
            assert!(refusal.contains(expected) && (refusal.is_empty() == expected.is_empty()), "{refusal}");
        };
        check(
            json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30"}),
            "",
        );
        check(json!({"pod-security.kubernetes.io/enforce": "strict"}), "must be one of");
        check(json!({"pod-security.kubernetes.io/warn-version": "1.30"}), "must be \"latest\"");
    }
}
