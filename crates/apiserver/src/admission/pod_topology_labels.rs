//! PodTopologyLabels: a pod that is bound to a node carries the node's zone and region, where the downward API
//! finds them.

use serde_json::Value;

use super::objects::{NODES, Objects, at, label};
use super::{AdmissionRequest, Operation};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) {
    let binds = request.operation == Operation::Create && request.is_subresource("", "pods", "binding");
    let node = match (binds, request.creates("", "pods")) {
        (true, _) => &request.object["target"]["name"],
        (_, true) => &request.object["spec"]["nodeName"],
        _ => return,
    };
    let Some(node) = node.as_str().filter(|name| !name.is_empty()) else { return };
    let Some(node) = objects.get(NODES, "", node) else {
        return;
    };
    for key in LABELS {
        if let Some(value) = label(&node, key) {
            *at(&mut request.object, &["metadata", "labels", key]) = Value::from(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn labels_come_with_the_node() {
        let fixture = Fixture::new()
            .add(NODES, json!({"metadata": {"name": "n1", "labels": {LABELS[0]: "z1", "other": "x"}}}));
        let check = |subresource: &'static str, object: Value, expected: Value| {
            let mut object = object;
            object["metadata"] = json!({"labels": {"app": "a"}});
            let case = Case { subresource, ..Case::create("", "pods", object) };
            let object = case
                .run(|request| {
                    mutate(request, &fixture);
                    Ok(())
                })
                .expect("admitted");
            assert_eq!(object["metadata"]["labels"], expected);
        };
        let with_zone = json!({"app": "a", LABELS[0]: "z1"});
        check("binding", json!({"target": {"name": "n1"}}), with_zone.clone());
        check("binding", json!({"target": {"name": "gone"}}), json!({"app": "a"}));
        check("binding", json!({}), json!({"app": "a"}));
        check("", json!({"spec": {"nodeName": "n1"}}), with_zone);
        check("", json!({"spec": {}}), json!({"app": "a"}));
        check("status", json!({"spec": {"nodeName": "n1"}}), json!({"app": "a"}));
    }
}
