//! Plugins that have to be asked for, each a few lines: AlwaysDeny, AlwaysPullImages, DenyServiceExternalIPs,
//! ExtendedResourceToleration, LimitPodHardAntiAffinityTopology, PodNodeSelector.

use std::collections::BTreeSet;

use api::selector::LabelSelector;
use api::status::Status;
use serde_json::{Value, json};

use super::objects::{NAMESPACES, Objects, annotation, at, items};
use super::{AdmissionRequest, Operation};
use crate::bootstrap;

/// AlwaysDeny: nothing is changed but by the server itself, which could not start otherwise.
pub fn deny(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    if request.user.name == bootstrap::USER {
        return Ok(());
    }
    Err(request.forbidden("admission control is denying all modifications"))
}

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn writes_pods(request: &AdmissionRequest<'_>) -> bool {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    writes && (request.is("", "pods") || request.is_subresource("", "pods", "ephemeralcontainers"))
}

/// AlwaysPullImages: whoever is given an image shows that he may have it, each time. Images that stay stay as they are.
pub fn always_pull(request: &mut AdmissionRequest<'_>) {
    if !writes_pods(request) {
        return;
    }
    let old = request.old_object.clone();
    for list in LISTS {
        let Some(containers) = request.object["spec"][list].as_array_mut() else { continue };
        for container in containers.iter_mut().filter(|container| container.is_object()) {
            let same = |before: &&Value| before["name"] == container["name"];
            let before = items(&old["spec"][list]).find(same);
            if before.is_none_or(|before| before["image"] != container["image"]) {
                container["imagePullPolicy"] = json!("Always");
            }
        }
    }
    for volume in request.object["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        let reference = &volume["image"]["reference"];
        if reference.as_str().is_some_and(|reference| !reference.is_empty()) && old.is_null() {
            volume["image"]["pullPolicy"] = json!("Always");
        }
    }
}

/// DenyServiceExternalIPs: nobody takes addresses for a Service that it does not have already.
pub fn deny_external_ips(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is("", "services") {
        return Ok(());
    }
    let of = |object: &Value| -> BTreeSet<String> {
        items(&object["spec"]["externalIPs"]).filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if of(&request.object).is_subset(&of(request.old_object)) {
        return Ok(());
    }
    Err(request.forbidden("Use of external IPs is denied by admission control."))
}

/// ExtendedResourceToleration: pods that ask for a vendor's resource tolerate the taint of nodes that are kept for it.
pub fn tolerate_extended(request: &mut AdmissionRequest<'_>) {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is("", "pods") {
        return;
    }
    let spec = &request.object["spec"];
    let containers = ["containers", "initContainers"].into_iter().flat_map(|list| items(&spec[list]));
    let asked: BTreeSet<String> = containers
        .filter_map(|container| container["resources"]["requests"].as_object())
        .flat_map(|requests| requests.keys())
        .filter(|name| name.contains('/') && !name.contains("kubernetes.io/"))
        .cloned()
        .collect();
    for name in asked {
        let toleration = json!({"key": name, "operator": "Exists"});
        let known = |own: &Value| {
            own["key"] == name.as_str()
                && own["operator"] == "Exists"
                && own["effect"].as_str().is_none_or(str::is_empty)
        };
        if items(&request.object["spec"]["tolerations"]).any(known) {
            continue;
        }
        match at(&mut request.object, &["spec", "tolerations"]) {
            Value::Array(tolerations) => tolerations.push(toleration),
            place => *place = json!([toleration]),
        }
    }
}

/// LimitPodHardAntiAffinityTopology: a pod keeps others from its node at most, not from its zone.
pub fn limit_anti_affinity(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    const NODE: &str = "kubernetes.io/hostname";
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is("", "pods") {
        return Ok(());
    }
    let required = &request.object["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match items(required).find(|term| term["topologyKey"] != NODE) {
        None => Ok(()),
        Some(term) => Err(request.forbidden(format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {} but only key {NODE} is allowed",
            term["topologyKey"].as_str().unwrap_or_default()
        ))),
    }
}

/// PodNodeSelector: pods of a namespace go to the nodes that it names.
pub fn select_nodes(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let Some(namespace) = objects.get(NAMESPACES, "", request.namespace) else { return Ok(()) };
    let text = annotation(&namespace, "scheduler.alpha.kubernetes.io/node-selector");
    let wanted: Vec<(&str, &str)> = text
        .split(',')
        .filter(|pair| !pair.trim().is_empty())
        .filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.trim(), value.trim())))
        .collect();
    if LabelSelector::parse(text).is_err() {
        return Err(request.forbidden("the node selector of its namespace is malformed"));
    }
    for (key, value) in wanted {
        match request.object["spec"]["nodeSelector"][key].as_str() {
            Some(own) if own != value => {
                let why = "pod node label selector conflicts with its namespace node label selector";
                return Err(request.forbidden(why));
            }
            Some(_) => {}
            None => *at(&mut request.object, &["spec", "nodeSelector", key]) = json!(value),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn pod(spec: Value) -> Case {
        Case::create("", "pods", json!({"metadata": {"name": "p"}, "spec": spec}))
    }

    #[test]
    fn pods_are_changed() {
        let containers = json!([{"name": "c", "image": "i", "imagePullPolicy": "Never",
            "resources": {"requests": {"example.com/gpu": "1", "cpu": "1"}}}]);
        let volumes = json!([{"name": "v", "image": {"reference": "r"}}, {"name": "e", "emptyDir": {}}]);
        let changed = pod(json!({"containers": containers, "volumes": volumes}))
            .run(|request| {
                always_pull(request);
                tolerate_extended(request);
                Ok(())
            })
            .unwrap();
        let spec = &changed["spec"];
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(spec["volumes"][0]["image"]["pullPolicy"], "Always");
        assert_eq!(spec["volumes"][1]["image"], Value::Null);
        assert_eq!(spec["tolerations"], json!([{"key": "example.com/gpu", "operator": "Exists"}]));
    }

    #[test]
    fn nodes_of_a_namespace() {
        let key = "scheduler.alpha.kubernetes.io/node-selector";
        let namespace = json!({"metadata": {"name": "default", "annotations": {key: "a=b, c=d"}}});
        let objects = Fixture::new().add(NAMESPACES, namespace);
        let select = |own: Value| {
            let case = pod(json!({"nodeSelector": own}));
            case.run(|request| {
                request.namespace = "default";
                select_nodes(request, &objects)
            })
        };
        assert_eq!(select(json!({"a": "b"})).unwrap()["spec"]["nodeSelector"], json!({"a": "b", "c": "d"}));
        let why = select(json!({"a": "x"})).unwrap_err().message;
        assert!(
            why.ends_with("pod node label selector conflicts with its namespace node label selector"),
            "{why}"
        );
    }

    #[test]
    fn what_is_refused() {
        let service = |external: Value| {
            Case::create(
                "",
                "services",
                json!({"metadata": {"name": "s"}, "spec": {"externalIPs": external}}),
            )
        };
        let refused = |case: Case| case.refusal(|request| deny_external_ips(request));
        assert_eq!(refused(service(Value::Null)), "");
        assert!(
            refused(service(json!(["1.2.3.4"])))
                .ends_with("Use of external IPs is denied by admission control.")
        );
        let apart = |key: &str| {
            let term = json!({"topologyKey": key});
            pod(json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
                .refusal(|request| limit_anti_affinity(request))
        };
        assert_eq!(apart("kubernetes.io/hostname"), "");
        assert!(
            apart("zone").contains("has TopologyKey zone but only key kubernetes.io/hostname is allowed")
        );
    }
}
