//! The restricted standard: the baseline, and what is best practice in hardening pods.

use serde_json::Value;

use super::baseline::{self, Check};
use super::subject::{Pod, named, quoted, sorted, violation};
use crate::admission::objects::items;

/// In upstream's order. Stricter checks take the place of baseline's for capabilities, seccomp and volumes.
pub const CHECKS: [Check; 15] = [
    allow_privilege_escalation,
    baseline::app_armor,
    capabilities,
    baseline::host_namespaces,
    baseline::host_ports,
    baseline::host_probes,
    baseline::privileged,
    baseline::proc_mount,
    volumes,
    run_as_non_root,
    run_as_user,
    seccomp,
    baseline::se_linux,
    baseline::sysctls,
    baseline::windows_host_process,
];

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows() {
        return None;
    }
    let bad = pod.containers_with(|container| {
        container["securityContext"]["allowPrivilegeEscalation"].as_bool() != Some(false)
    });
    (!bad.is_empty()).then(|| {
        let containers = named("container", &bad);
        format!("allowPrivilegeEscalation != false ({containers} must set securityContext.allowPrivilegeEscalation=false)")
    })
}

fn capabilities(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows() {
        return None;
    }
    let drops_all = |container: &Value| {
        items(&container["securityContext"]["capabilities"]["drop"]).any(|one| one.as_str() == Some("ALL"))
    };
    let mut details = Vec::new();
    let bad = pod.containers_with(|container| !drops_all(container));
    if !bad.is_empty() {
        let containers = named("container", &bad);
        details.push(format!("{containers} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    let (bad, added) = baseline::added_beyond(pod, &["NET_BIND_SERVICE"]);
    if !bad.is_empty() {
        let containers = named("container", &bad);
        details.push(format!(
            "{containers} must not include {} in securityContext.capabilities.add",
            quoted(&added)
        ));
    }
    violation("unrestricted capabilities", details)
}

fn volumes(pod: &Pod<'_>) -> Option<String> {
    let kind = |volume: &Value| -> Option<String> {
        let fields = volume.as_object()?;
        fields.keys().find(|field| *field != "name").cloned()
    };
    let restricted: Vec<(&str, String)> = pod
        .volumes()
        .filter_map(|volume| Some((volume["name"].as_str()?, kind(volume)?)))
        .filter(|(_, kind)| !VOLUMES.contains(&kind.as_str()))
        .collect();
    if restricted.is_empty() {
        return None;
    }
    let names: Vec<&str> = restricted.iter().map(|(name, _)| *name).collect();
    let kinds = sorted(restricted.iter().map(|(_, kind)| kind.clone()).collect());
    let (uses, plural) =
        (if names.len() == 1 { "uses" } else { "use" }, if kinds.len() == 1 { "" } else { "s" });
    Some(format!(
        "restricted volume types ({} {uses} restricted volume type{plural} {})",
        named("volume", &names),
        quoted(&kinds)
    ))
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<String> {
    let says = |context: &Value| context["runAsNonRoot"].as_bool();
    let of_pod = says(pod.context());
    let mut details = Vec::new();
    if of_pod == Some(false) {
        details.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    let explicit = pod.containers_with(|container| says(&container["securityContext"]) == Some(false));
    if !explicit.is_empty() {
        let containers = named("container", &explicit);
        details.push(format!("{containers} must not set securityContext.runAsNonRoot=false"));
    }
    let unset = pod.containers_with(|container| says(&container["securityContext"]).is_none());
    if of_pod != Some(true) && explicit.is_empty() && of_pod.is_none() && !unset.is_empty() {
        details.push(format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            named("container", &unset)
        ));
    }
    violation("runAsNonRoot != true", details)
}

fn run_as_user(pod: &Pod<'_>) -> Option<String> {
    let is_root = |context: &Value| context["runAsUser"].as_i64() == Some(0);
    let mut details = Vec::new();
    if is_root(pod.context()) {
        details.push("pod must not set runAsUser=0".to_owned());
    }
    let bad = pod.containers_with(|container| is_root(&container["securityContext"]));
    if !bad.is_empty() {
        details.push(format!("{} must not set runAsUser=0", named("container", &bad)));
    }
    violation("runAsUser=0", details)
}

fn seccomp(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows() {
        return None;
    }
    let mut details = baseline::unconfined(pod);
    let kind = |context: &Value| context["seccompProfile"]["type"].as_str().map(str::to_owned);
    let pod_is_set = matches!(kind(pod.context()).as_deref(), Some("RuntimeDefault" | "Localhost"));
    let unset = pod.containers_with(|container| kind(&container["securityContext"]).is_none());
    if !pod_is_set && details.is_empty() && !unset.is_empty() {
        details.push(format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named("container", &unset)
        ));
    }
    violation("seccompProfile", details)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(check: Check, spec: Value, expected: &str) {
        let object = json!({"spec": spec});
        assert_eq!(check(&Pod::new(&object)).unwrap_or_default(), expected);
    }

    fn container(context: Value) -> Value {
        json!({"containers": [{"name": "a", "securityContext": context}]})
    }

    #[test]
    fn what_is_refused() {
        check(
            capabilities,
            container(json!({"capabilities": {"add": ["CHOWN"]}})),
            "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \
             \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        );
        check(
            capabilities,
            container(json!({"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}})),
            "",
        );
        check(
            volumes,
            json!({"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "emptyDir": {}}]}),
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        );
        check(
            run_as_non_root,
            container(json!({"runAsNonRoot": false})),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        );
        check(run_as_non_root, container(json!({"runAsNonRoot": true})), "");
        check(
            run_as_user,
            json!({"securityContext": {"runAsUser": 0}}),
            "runAsUser=0 (pod must not set runAsUser=0)",
        );
        check(run_as_user, container(json!({"runAsUser": 1000})), "");
        check(
            seccomp,
            container(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        );
        check(seccomp, container(json!({"seccompProfile": {"type": "Localhost"}})), "");
        let windows = json!({"os": {"name": "windows"}, "containers": [{"name": "a"}]});
        check(seccomp, windows.clone(), "");
        check(capabilities, windows.clone(), "");
        check(allow_privilege_escalation, windows, "");
    }
}
