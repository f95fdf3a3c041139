//! `pods/binding`: how a scheduler says on which node a pod is to run. Admission sees the Binding that it sends, not
//! what becomes of the pod.

use api::gvk::GroupVersionKind;
use api::status::Status;
use http::StatusCode;
use serde_json::{Value, json};

use crate::handlers::call::Call;
use crate::handlers::decode;
use crate::options::{FieldValidation, WriteOptions};
use crate::server::respond::{self, Answer};
use crate::write::update::Change;
use crate::write::{Writer, meta};

const PODS: (&str, &str) = ("", "pods");

/// Also answers a POST to `bindings`, where the name is in the body alone.
pub async fn binding(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let binding = decode::typed(call, body, &gvk, None, FieldValidation::Ignore)?;
    let given = meta::text(&binding, "name").to_owned();
    let name = if call.info.subresource.is_empty() { given.clone() } else { call.info.name.clone() };
    let name = name.as_str();
    if !given.is_empty() && given != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or_default();
    let node = target["name"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() || !matches!(kind, "" | "Node") {
        return Err(Status::failure(
            422,
            "Invalid",
            format!("Binding \"{name}\" is invalid: target: Required value: must name a Node"),
        ));
    }
    let binding = super::admitted(call, &gvk, binding, options.dry_run).await?;
    let catalog = call.state.catalog();
    let pods = catalog.get("", "v1", "pods").ok_or_else(Status::unknown_resource)?;
    let writer =
        Writer { served: pods, name, subresource: "binding", ..call.writer(&options, "CreateOptions") };
    let make = |pod: &Value| bound(pod, name, &node, &binding);
    // Where a pod runs is nobody's field: no entry tells who bound it.
    writer.update(&Change { make: &make, managed: true, whole: false }).await?;
    let mut status = Status::success();
    status.code = 201;
    respond::value(StatusCode::CREATED, &status.to_value(), call.accept.format, call.pretty)
}

fn bound(pod: &Value, name: &str, node: &str, binding: &Value) -> Result<Value, Status> {
    let uid = meta::text(binding, "uid");
    if !uid.is_empty() && uid != meta::text(pod, "uid") {
        return Err(Status::conflict(
            PODS,
            name,
            format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::text(pod, "uid")
            ),
        ));
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return Err(Status::conflict(
            PODS,
            name,
            format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    if let Some(current) = pod["spec"]["nodeName"].as_str().filter(|current| !current.is_empty()) {
        return Err(Status::conflict(
            PODS,
            name,
            format!("pod {name} is already assigned to node {current:?}"),
        ));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return Err(Status::conflict(PODS, name, format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = json!(node);
    // No room is kept for it any more: it has it.
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        set(&mut pod, "annotations", key, value, true);
    }
    // Plugins say there where the node is; what the pod says of itself stays.
    for (key, value) in binding["metadata"]["labels"].as_object().into_iter().flatten() {
        set(&mut pod, "labels", key, value, false);
    }
    set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}));
    Ok(pod)
}

fn set(pod: &mut Value, field: &str, key: &str, value: &Value, over: bool) {
    let entries = meta::of(pod).entry(field).or_insert_with(|| json!({}));
    if let Some(entries) = entries.as_object_mut()
        && (over || !entries.contains_key(key))
    {
        entries.insert(key.to_owned(), value.clone());
    }
}

/// Sets a condition; the time of its transition only moves when its status does.
pub fn set_condition(pod: &mut Value, mut condition: Value) {
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else {
        return;
    };
    let known = conditions.iter().position(|known| known["type"] == condition["type"]);
    let old = known.map(|index| conditions.swap_remove(index));
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = match old {
        Some(old) if old["status"] == condition["status"] => old["lastTransitionTime"].clone(),
        _ => json!(meta::now()),
    };
    conditions.push(condition);
}
