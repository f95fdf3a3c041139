//! TaintNodesByCondition: a new node takes no pods until the node controller has seen it ready.

use serde_json::{Value, json};

use super::AdmissionRequest;
use super::objects::{at, items};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub fn mutate(request: &mut AdmissionRequest<'_>) {
    if !request.creates("", "nodes") {
        return;
    }
    let is_taint = |taint: &Value| {
        taint["key"].as_str() == Some(NOT_READY) && taint["effect"].as_str() == Some("NoSchedule")
    };
    if items(&request.object["spec"]["taints"]).any(is_taint) {
        return;
    }
    let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
    match at(&mut request.object, &["spec", "taints"]) {
        Value::Array(taints) => taints.push(taint),
        place => *place = json!([taint]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn new_nodes_are_tainted_once() {
        let check = |spec: Value, expected: Value| {
            let node = json!({"metadata": {"name": "n"}, "spec": spec});
            let case = Case::create("", "nodes", node);
            let node = case
                .run(|request| {
                    mutate(request);
                    Ok(())
                })
                .expect("admitted");
            assert_eq!(node["spec"]["taints"], expected);
        };
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let other = json!({"key": "a", "effect": "NoExecute"});
        check(json!({}), json!([taint]));
        check(json!({"taints": [other]}), json!([other, taint]));
        check(json!({"taints": [taint]}), json!([taint]));
    }
}
