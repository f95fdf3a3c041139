//! PodTopologyLabels: a pod that is bound to a node carries the node's zone and region, where the downward API
//! finds them.

use serde_json::Value;

use super::objects::{NODES, Objects, at, label};
use super::{AdmissionRequest, Operation};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) {
    let binds = request.operation == Operation::Update && request.is_subresource("", "pods", "binding");
    let created_bound = request.creates("", "pods");
    if !binds && !created_bound {
        return;
    }
    let Some(node) = request.object["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) else {
        return;
    };
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
        let check = |subresource: &'static str, node: Value, expected: Value| {
            let pod = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"nodeName": node}});
            let case = Case { subresource, ..Case::update("", "pods", json!({}), pod) };
            let pod = case
                .run(|request| {
                    mutate(request, &fixture);
                    Ok(())
                })
                .expect("admitted");
            assert_eq!(pod["metadata"]["labels"], expected);
        };
        check("binding", json!("n1"), json!({"app": "a", LABELS[0]: "z1"}));
        check("binding", json!("gone"), json!({"app": "a"}));
        check("binding", json!(null), json!({"app": "a"}));
        check("status", json!("n1"), json!({"app": "a"}));
    }
}
