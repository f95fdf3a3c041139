//! What the API server is told of this API: its resources, and the types of their objects.

use serde_json::{Value, json};

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";
pub const API_VERSION: &str = "metrics.k8s.io/v1beta1";

pub fn group() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version})
}

pub fn resources() -> Value {
    let one = |plural: &str, kind: &str, namespaced: bool| {
        json!({
            "name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"],
        })
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION,
        "resources": [one("nodes", "NodeMetrics", false), one("pods", "PodMetrics", true)],
    })
}

pub fn openapi_index() -> Value {
    let url = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    json!({"paths": {format!("apis/{GROUP}/{VERSION}"): {"serverRelativeURL": url}}})
}

pub fn openapi() -> Value {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let name = |kind: &str| format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{kind}");
    let reference = |to: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{to}")}]});
    let text = |description: &str| json!({"type": "string", "description": description});
    let amounts = json!({
        "type": "object", "additionalProperties": {"type": "string"},
        "description": "What is used, by the name of the resource: `cpu` over the window, `memory` as the working set.",
    });
    let object = |kind: &str, description: &str, field: &str, schema: Value| {
        json!({
            "type": "object", "description": description,
            "required": ["timestamp", "window", field],
            "properties": {
                "kind": text("The kind of the object."),
                "apiVersion": text("The version of its schema."),
                "metadata": reference(&format!("{META}.ObjectMeta")),
                "timestamp": {"type": "string", "format": "date-time", "description": "The end of the window."},
                "window": text("The time over which the use was measured."),
                field: schema,
            },
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": kind}],
        })
    };
    let list = |kind: &str| {
        json!({
            "type": "object", "description": format!("A list of {kind}."), "required": ["items"],
            "properties": {
                "kind": text("The kind of the object."),
                "apiVersion": text("The version of its schema."),
                "metadata": reference(&format!("{META}.ListMeta")),
                "items": {"type": "array", "items": reference(&name(kind)), "description": "The objects."},
            },
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": format!("{kind}List")}],
        })
    };
    let containers = json!({
        "type": "array", "items": reference(&name("ContainerMetrics")),
        "description": "What each container uses.",
    });
    let plain = |description: &str| json!({"type": "object", "description": description});
    let get = |kind: String, action: &str, singular: &str| {
        let schema = json!({"$ref": format!("#/components/schemas/{}", name(&kind))});
        json!({"get": {
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": GROUP, "version": VERSION, "kind": singular},
        }})
    };
    let base = format!("/apis/{API_VERSION}");
    let (node, pod) = ("NodeMetrics", "PodMetrics");
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes resource metrics", "version": VERSION},
        "paths": {
            format!("{base}/nodes"): get(format!("{node}List"), "list", node),
            format!("{base}/nodes/{{name}}"): get(node.to_owned(), "get", node),
            format!("{base}/pods"): get(format!("{pod}List"), "list", pod),
            format!("{base}/namespaces/{{namespace}}/pods"): get(format!("{pod}List"), "list", pod),
            format!("{base}/namespaces/{{namespace}}/pods/{{name}}"): get(pod.to_owned(), "get", pod),
        },
        "components": {"schemas": {
            name(node): object(node, "What a node uses.", "usage", amounts.clone()),
            name(pod): object(pod, "What the containers of a pod use.", "containers", containers),
            name("ContainerMetrics"): {
                "type": "object", "description": "What a container uses.", "required": ["name", "usage"],
                "properties": {"name": text("The name of the container."), "usage": amounts},
            },
            name("NodeMetricsList"): list(node),
            name("PodMetricsList"): list(pod),
            format!("{META}.ObjectMeta"): plain("Standard object's metadata."),
            format!("{META}.ListMeta"): plain("Standard list metadata."),
        }},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every type that is referred to is there.
    #[test]
    fn the_document_is_whole() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|member| references(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let (document, mut found) = (openapi(), Vec::new());
        references(&document, &mut found);
        assert!(found.len() > 6);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}
