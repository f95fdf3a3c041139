//! Connections to pods, services and nodes (`exec`, `attach`, `portforward`, `proxy`) are admitted too: what they ask
//! for is the object.

use std::sync::Arc;

use api::gvk::{GroupVersionKind, GroupVersionResource};
use api::status::Status;
use serde_json::{Value, json};

use super::{AdmissionRequest, Operation};
use crate::UserInfo;
use crate::request::{RequestInfo, query_pairs};
use crate::state::State;

pub async fn admit(
    state: &Arc<State>,
    user: &UserInfo,
    info: &RequestInfo,
    query: &str,
) -> Result<(), Status> {
    let Some(kind) = options_kind(info) else { return Ok(()) };
    let kind = GroupVersionKind::new("", "v1", kind);
    let mut request = AdmissionRequest {
        user,
        operation: Operation::Connect,
        resource: &GroupVersionResource::new(&info.group, &info.version, &info.resource),
        kind: &kind,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        object: options(&kind, info, query),
        old_object: &Value::Null,
        dry_run: false,
        options: &Value::Null,
        warnings: Vec::new(),
    };
    state.admission.mutate(&mut request, state).await?;
    state.admission.validate(&mut request, state).await
}

fn options_kind(info: &RequestInfo) -> Option<&'static str> {
    Some(match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "exec") => "PodExecOptions",
        ("pods", "attach") => "PodAttachOptions",
        ("pods", "portforward") => "PodPortForwardOptions",
        ("pods", "proxy") => "PodProxyOptions",
        ("services", "proxy") => "ServiceProxyOptions",
        ("nodes", "proxy") => "NodeProxyOptions",
        _ => return None,
    })
}

fn options(kind: &GroupVersionKind, info: &RequestInfo, query: &str) -> Value {
    let mut options = json!({"apiVersion": "v1", "kind": kind.kind});
    if info.subresource == "proxy" {
        options["path"] = info.rest.as_str().into();
        return options;
    }
    for (key, value) in query_pairs(query) {
        match &*key {
            "stdin" | "stdout" | "stderr" | "tty" => {
                options[&*key] = (&*value != "0" && !value.eq_ignore_ascii_case("false")).into();
            }
            "container" => options["container"] = (&*value).into(),
            "command" | "ports" => {
                if !options[&*key].is_array() {
                    options[&*key] = json!([]);
                }
                let element = match value.parse::<u16>() {
                    Ok(port) if &*key == "ports" => port.into(),
                    _ => Value::from(&*value),
                };
                if let Some(list) = options[&*key].as_array_mut() {
                    list.push(element);
                }
            }
            _ => {}
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn the_query_is_the_object() {
        let check = |path: &str, query: &str, expected: Value| {
            let info = RequestInfo::parse(&Method::POST, path, query);
            let kind = GroupVersionKind::new("", "v1", options_kind(&info).unwrap_or_default());
            let mut wanted = json!({"apiVersion": "v1", "kind": kind.kind});
            for (key, value) in expected.as_object().unwrap() {
                wanted[key] = value.clone();
            }
            assert_eq!(options(&kind, &info, query), wanted);
        };
        const POD: &str = "/api/v1/namespaces/n/pods/p";
        check(
            &format!("{POD}/exec"),
            "container=c&command=sh&command=-c&stdin=true&tty=false",
            json!({"container": "c", "command": ["sh", "-c"], "stdin": true, "tty": false}),
        );
        check(&format!("{POD}/portforward"), "ports=80&ports=81", json!({"ports": [80, 81]}));
        check(&format!("{POD}/proxy/a/b"), "", json!({"path": "a/b"}));
    }
}
