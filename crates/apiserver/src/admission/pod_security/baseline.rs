//! The baseline standard: no known way from the pod to the host.

use serde_json::Value;

use super::subject::{Pod, named, quoted, sorted, violation};
use crate::admission::objects::items;

pub type Check = fn(&Pod<'_>) -> Option<String>;

/// In the order in which messages tell them: by name.
pub const CHECKS: [Check; 12] = [
    app_armor,
    capabilities,
    host_namespaces,
    host_path_volumes,
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    seccomp,
    se_linux,
    sysctls,
    windows_host_process,
];

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub fn host_namespaces(pod: &Pod<'_>) -> Option<String> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.spec[**field].as_bool() == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| format!("host namespaces ({})", shared.join(", ")))
}

pub fn privileged(pod: &Pod<'_>) -> Option<String> {
    let bad =
        pod.containers_with(|container| container["securityContext"]["privileged"].as_bool() == Some(true));
    let detail = format!("{} must not set securityContext.privileged=true", named("container", &bad));
    (!bad.is_empty()).then(|| format!("privileged ({detail})"))
}

fn capabilities(pod: &Pod<'_>) -> Option<String> {
    let (bad, added) = added_beyond(pod, &DEFAULT_CAPABILITIES);
    (!bad.is_empty()).then(|| {
        format!(
            "non-default capabilities ({} must not include {} in securityContext.capabilities.add)",
            named("container", &bad),
            quoted(&added)
        )
    })
}

/// Containers that add capabilities beyond `allowed`, and those capabilities.
pub fn added_beyond<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, Vec<String>) {
    let beyond = |container: &Value| -> Vec<String> {
        items(&container["securityContext"]["capabilities"]["add"])
            .filter_map(Value::as_str)
            .filter(|capability| !allowed.contains(capability))
            .map(str::to_owned)
            .collect()
    };
    let bad = pod.containers_with(|container| !beyond(container).is_empty());
    (bad, sorted(pod.containers().flat_map(beyond).collect()))
}

pub fn host_path_volumes(pod: &Pod<'_>) -> Option<String> {
    let bad: Vec<&str> = pod
        .volumes()
        .filter(|volume| volume["hostPath"].is_object())
        .map(|volume| volume["name"].as_str().unwrap_or_default())
        .collect();
    (!bad.is_empty()).then(|| format!("hostPath volumes ({})", named("volume", &bad)))
}

pub fn host_ports(pod: &Pod<'_>) -> Option<String> {
    let used = |container: &Value| -> Vec<u64> {
        items(&container["ports"])
            .filter_map(|port| port["hostPort"].as_u64())
            .filter(|port| *port != 0)
            .collect()
    };
    let bad = pod.containers_with(|container| !used(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    let mut ports: Vec<u64> = pod.containers().flat_map(used).collect();
    ports.sort_unstable();
    ports.dedup();
    let (uses, plural) =
        (if bad.len() == 1 { "uses" } else { "use" }, if ports.len() == 1 { "" } else { "s" });
    let ports: Vec<String> = ports.iter().map(u64::to_string).collect();
    Some(format!("hostPort ({} {uses} hostPort{plural} {})", named("container", &bad), ports.join(", ")))
}

/// Probes and hooks that the kubelet would send elsewhere than to the pod.
pub fn host_probes(pod: &Pod<'_>) -> Option<String> {
    let hosts = |container: &Value| -> Vec<String> {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        probes
            .into_iter()
            .chain(hooks)
            .flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]])
            .filter_map(Value::as_str)
            .filter(|host| !matches!(*host, "" | "127.0.0.1" | "::1" | "localhost"))
            .map(str::to_owned)
            .collect()
    };
    let bad = pod.containers_with(|container| !hosts(container).is_empty());
    let all = sorted(pod.containers().flat_map(hosts).collect());
    (!bad.is_empty()).then(|| {
        format!(
            "probe or lifecycle host ({} must not set host to {})",
            named("container", &bad),
            quoted(&all)
        )
    })
}

pub fn proc_mount(pod: &Pod<'_>) -> Option<String> {
    let other = |container: &Value| {
        let kind = container["securityContext"]["procMount"].as_str();
        kind.filter(|kind| !matches!(*kind, "" | "Default")).map(str::to_owned)
    };
    let bad = pod.containers_with(|container| other(container).is_some());
    let kinds = sorted(pod.containers().filter_map(other).collect());
    (!bad.is_empty()).then(|| {
        let containers = named("container", &bad);
        format!("procMount ({containers} must not set securityContext.procMount to {})", quoted(&kinds))
    })
}

fn seccomp(pod: &Pod<'_>) -> Option<String> {
    violation("seccompProfile", unconfined(pod))
}

/// Who asks to run without a seccomp filter.
pub fn unconfined(pod: &Pod<'_>) -> Vec<String> {
    let says = |context: &Value| context["seccompProfile"]["type"].as_str() == Some("Unconfined");
    let tail = "must not set securityContext.seccompProfile.type to \"Unconfined\"";
    let mut details = Vec::new();
    if says(pod.context()) {
        details.push(format!("pod {tail}"));
    }
    let bad = pod.containers_with(|container| says(&container["securityContext"]));
    if !bad.is_empty() {
        details.push(format!("{} {tail}", named("container", &bad)));
    }
    details
}

pub fn app_armor(pod: &Pod<'_>) -> Option<String> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let says = |context: &Value| context["appArmorProfile"]["type"].as_str() == Some("Unconfined");
    let tail = "must not set AppArmor profile type to \"Unconfined\"";
    let mut details = Vec::new();
    if says(pod.context()) {
        details.push(format!("pod {tail}"));
    }
    let bad = pod.containers_with(|container| says(&container["securityContext"]));
    if !bad.is_empty() {
        details.push(format!("{} {tail}", named("container", &bad)));
    }
    for (key, profile) in pod.metadata["annotations"].as_object().into_iter().flatten() {
        let profile = profile.as_str().unwrap_or_default();
        let allowed = matches!(profile, "" | "runtime/default") || profile.starts_with("localhost/");
        if key.starts_with(PREFIX) && !allowed {
            details.push(format!("annotation \"{key}={profile}\""));
        }
    }
    let plural = if details.len() == 1 { "" } else { "s" };
    violation(&format!("forbidden AppArmor profile{plural}"), details)
}

pub fn se_linux(pod: &Pod<'_>) -> Option<String> {
    const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let contexts = || {
        let of_containers = pod.containers().map(|container| &container["securityContext"]);
        of_containers.chain([pod.context()]).map(|context| &context["seLinuxOptions"])
    };
    let types: Vec<String> = contexts()
        .filter_map(|options| options["type"].as_str())
        .filter(|kind| !TYPES.contains(kind))
        .map(str::to_owned)
        .collect();
    let sets =
        |field: &str| contexts().any(|options| options[field].as_str().is_some_and(|text| !text.is_empty()));
    let mut details = Vec::new();
    if !types.is_empty() {
        let types = sorted(types);
        let plural = if types.len() == 1 { "" } else { "s" };
        details.push(format!("type{plural} {}", quoted(&types)));
    }
    for field in ["user", "role"] {
        if sets(field) {
            details.push(format!("{field} may not be set"));
        }
    }
    violation("seLinuxOptions", details)
}

pub fn sysctls(pod: &Pod<'_>) -> Option<String> {
    let bad: Vec<String> = items(&pod.context()["sysctls"])
        .filter_map(|sysctl| sysctl["name"].as_str())
        .filter(|name| !api::sysctl::SAFE.contains(name))
        .map(str::to_owned)
        .collect();
    let plural = if bad.len() == 1 { "" } else { "s" };
    (!bad.is_empty()).then(|| format!("forbidden sysctl{plural} ({})", bad.join(", ")))
}

pub fn windows_host_process(pod: &Pod<'_>) -> Option<String> {
    let says = |context: &Value| context["windowsOptions"]["hostProcess"].as_bool() == Some(true);
    let tail = "must not set securityContext.windowsOptions.hostProcess=true";
    let mut details = Vec::new();
    if says(pod.context()) {
        details.push(format!("pod {tail}"));
    }
    let bad = pod.containers_with(|container| says(&container["securityContext"]));
    if !bad.is_empty() {
        details.push(format!("{} {tail}", named("container", &bad)));
    }
    violation("hostProcess", details)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(check: Check, spec: Value, expected: &str) {
        let object = json!({"metadata": {"annotations": {
            "container.apparmor.security.beta.kubernetes.io/a": "unconfined"}}, "spec": spec});
        assert_eq!(check(&Pod::new(&object)).unwrap_or_default(), expected);
    }

    fn container(context: Value) -> Value {
        json!({"containers": [{"name": "a", "securityContext": context}]})
    }

    #[test]
    fn what_is_refused() {
        check(host_namespaces, json!({"hostIPC": true}), "host namespaces (hostIPC=true)");
        check(host_namespaces, json!({"hostIPC": false}), "");
        check(
            capabilities,
            container(json!({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}})),
            "non-default capabilities (container \"a\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
        );
        check(capabilities, container(json!({"capabilities": {"add": ["CHOWN"]}})), "");
        check(
            host_path_volumes,
            json!({"volumes": [{"name": "v", "hostPath": {}}]}),
            "hostPath volumes (volume \"v\")",
        );
        check(
            host_ports,
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 81}, {"hostPort": 0}]}]}),
            "hostPort (containers \"a\", \"b\" use hostPorts 80, 81)",
        );
        check(
            host_probes,
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "8.8.8.8"}}}]}),
            "probe or lifecycle host (container \"a\" must not set host to \"8.8.8.8\")",
        );
        check(
            proc_mount,
            container(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        );
        check(
            seccomp,
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        );
        check(
            se_linux,
            container(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "seLinuxOptions (type \"spc_t\"; user may not be set)",
        );
        check(
            sysctls,
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctl (kernel.msgmax)",
        );
        check(
            windows_host_process,
            container(json!({"windowsOptions": {"hostProcess": true}})),
            "hostProcess (container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
        );
        check(
            app_armor,
            json!({}),
            "forbidden AppArmor profile (annotation \"container.apparmor.security.beta.kubernetes.io/a=unconfined\")",
        );
        check(privileged, json!("junk"), "");
    }
}
