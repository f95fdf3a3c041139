//! DefaultTolerationSeconds: pods stay for five minutes on a node that is not ready or unreachable, unless they
//! say otherwise.

use serde_json::{Value, json};

use super::objects::{at, items};
use super::{AdmissionRequest, Operation};

const SECONDS: u32 = 300;
const KEYS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub fn mutate(request: &mut AdmissionRequest<'_>) {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || !request.is("", "pods") {
        return;
    }
    for key in KEYS {
        let says = |toleration: &Value| {
            let is = |field: &str, wanted: &str| {
                let value = toleration[field].as_str().unwrap_or_default();
                value.is_empty() || value == wanted
            };
            is("key", key) && is("effect", "NoExecute")
        };
        if items(&request.object["spec"]["tolerations"]).any(says) {
            continue;
        }
        let toleration =
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
        match at(&mut request.object, &["spec", "tolerations"]) {
            Value::Array(tolerations) => tolerations.push(toleration),
            place => *place = json!([toleration]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let check = |tolerations: Value, added: &[&str]| {
            let given = tolerations.as_array().map_or(0, Vec::len);
            let case = Case::create("", "pods", json!({"spec": {"tolerations": tolerations}}));
            let pod = case
                .run(|request| {
                    mutate(request);
                    Ok(())
                })
                .expect("admitted");
            let keys: Vec<&str> = items(&pod["spec"]["tolerations"])
                .skip(given)
                .filter_map(|toleration| toleration["key"].as_str())
                .collect();
            assert_eq!(keys, added, "{tolerations}");
        };
        check(json!(null), &KEYS);
        check(json!([{"key": "a", "operator": "Exists"}]), &KEYS);
        check(json!([{"key": KEYS[0], "effect": "NoExecute", "operator": "Exists"}]), &KEYS[1..]);
        check(json!([{"key": KEYS[0], "effect": "NoSchedule", "operator": "Exists"}]), &KEYS);
        check(json!([{"operator": "Exists"}]), &[]);
    }
}
