//! RuntimeClass: what running with another runtime costs (`overhead`) and where it is possible (`scheduling`).

use api::quantity::Quantity;
use api::status::Status;
use serde_json::Value;

use super::AdmissionRequest;
use super::objects::{Objects, RUNTIME_CLASSES, at, items};

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let Some(class) = class(request, objects)? else {
        return Ok(());
    };
    let overhead = &class["overhead"]["podFixed"];
    if overhead.is_object() && request.object["spec"]["overhead"].is_null() {
        *at(&mut request.object, &["spec", "overhead"]) = overhead.clone();
    }
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let have = &request.object["spec"]["nodeSelector"][key];
        if !have.is_null() && have != value {
            return Err(request.forbidden(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                have.as_str().unwrap_or_default()
            )));
        }
        *at(&mut request.object, &["spec", "nodeSelector", key]) = value.clone();
    }
    for toleration in items(&scheduling["tolerations"]) {
        if items(&request.object["spec"]["tolerations"]).any(|have| have == toleration) {
            continue;
        }
        match at(&mut request.object, &["spec", "tolerations"]) {
            Value::Array(tolerations) => tolerations.push(toleration.clone()),
            place => *place = Value::Array(vec![toleration.clone()]),
        }
    }
    Ok(())
}

pub fn validate(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let overhead = &request.object["spec"]["overhead"];
    let has_overhead = overhead.as_object().is_some_and(|overhead| !overhead.is_empty());
    match class(request, objects)? {
        Some(class) if class["overhead"]["podFixed"].is_object() => {
            if has_overhead && same(overhead, &class["overhead"]["podFixed"]) {
                return Ok(());
            }
            Err(request
                .forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
        }
        _ if has_overhead => Err(request
            .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")),
        _ => Ok(()),
    }
}

fn class(
    request: &AdmissionRequest<'_>,
    objects: &dyn Objects,
) -> Result<Option<std::sync::Arc<Value>>, Status> {
    if !request.creates("", "pods") {
        return Ok(None);
    }
    let Some(name) = request.object["spec"]["runtimeClassName"].as_str() else {
        return Ok(None);
    };
    match objects.get(RUNTIME_CLASSES, "", name) {
        Some(class) => Ok(Some(class)),
        None => Err(request.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// Whether two lists of quantities say the same, in whatever form.
fn same(a: &Value, b: &Value) -> bool {
    let read = |list: &Value| -> Option<std::collections::BTreeMap<String, Quantity>> {
        list.as_object()?
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.parse().ok()?)))
            .collect()
    };
    match (read(a), read(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn fixture() -> Fixture {
        Fixture::new().add(
            RUNTIME_CLASSES,
            json!({
                "metadata": {"name": "vm"}, "overhead": {"podFixed": {"memory": "1Gi"}},
                "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]},
            }),
        )
    }

    fn pod(spec: Value) -> Case {
        Case::create("", "pods", json!({"metadata": {"name": "x"}, "spec": spec}))
    }

    #[test]
    fn applied() {
        let case = pod(
            json!({"runtimeClassName": "vm", "nodeSelector": {"a": "b"}, "tolerations": [{"key": "kvm"}]}),
        );
        let pod = case.run(|request| mutate(request, &fixture())).expect("admitted");
        assert_eq!(
            pod["spec"],
            json!({"runtimeClassName": "vm", "nodeSelector": {"a": "b", "kvm": "yes"}, "tolerations": [{"key": "kvm"}],
                   "overhead": {"memory": "1Gi"}})
        );
        let untouched = self::pod(json!({}));
        assert_eq!(untouched.run(|request| mutate(request, &fixture())).expect("admitted"), untouched.object);
    }

    #[test]
    fn refusals() {
        let check = |spec: Value, expected: &str| {
            let refusal = pod(spec).refusal(|request| {
                mutate(request, &fixture())?;
                validate(request, &fixture())
            });
            assert!(refusal.contains(expected) && (refusal.is_empty() == expected.is_empty()), "{refusal}");
        };
        check(json!({"runtimeClassName": "vm"}), "");
        check(json!({"runtimeClassName": "vm", "overhead": {"memory": "1024Mi"}}), "");
        check(json!({"runtimeClassName": "gone"}), r#"RuntimeClass "gone" not found"#);
        check(json!({"runtimeClassName": "vm", "overhead": {"memory": "2Gi"}}), "doesn't match");
        check(json!({"overhead": {"memory": "2Gi"}}), "without corresponding RuntimeClass");
        check(json!({"runtimeClassName": "vm", "nodeSelector": {"kvm": "no"}}), "conflict");
    }
}
