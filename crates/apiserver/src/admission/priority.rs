//! Priority: the number behind a pod's `priorityClassName`.

use api::status::Status;
use serde_json::{Value, json};

use super::objects::{self, Objects, PRIORITY_CLASSES, at};
use super::{AdmissionRequest, Operation};

const DEFAULT_POLICY: &str = "PreemptLowerPriority";

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if !request.is("", "pods") {
        return Ok(());
    }
    match request.operation {
        Operation::Create => assign(request, objects),
        Operation::Update => {
            // A PUT that leaves them out keeps them.
            for field in ["priority", "preemptionPolicy"] {
                let old = &request.old_object["spec"][field];
                if request.object["spec"][field].is_null() && !old.is_null() {
                    *at(&mut request.object, &["spec", field]) = old.clone();
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn assign(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let spec = &request.object["spec"];
    let wanted = spec["priorityClassName"].as_str().unwrap_or_default();
    let class = if wanted.is_empty() {
        global_default(objects)
    } else {
        let class = objects.get(PRIORITY_CLASSES, "", wanted);
        if class.is_none() {
            return Err(request.forbidden(format!("no PriorityClass with name {wanted} was found")));
        }
        class
    };
    let (name, value, policy) = match &class {
        Some(class) => (
            objects::name(class),
            class["value"].as_i64().unwrap_or(0),
            class["preemptionPolicy"].as_str().unwrap_or(DEFAULT_POLICY),
        ),
        None => ("", 0, DEFAULT_POLICY),
    };
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != value) {
        return Err(request.forbidden(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        )));
    }
    if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return Err(request.forbidden(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )));
    }
    let (name, policy) = (json!(name), json!(policy));
    let pod = &mut request.object;
    if name != "" {
        *at(pod, &["spec", "priorityClassName"]) = name;
    }
    *at(pod, &["spec", "priority"]) = json!(value);
    *at(pod, &["spec", "preemptionPolicy"]) = policy;
    Ok(())
}

/// The class for pods that name none; where there are several, the lowest.
fn global_default(objects: &dyn Objects) -> Option<std::sync::Arc<Value>> {
    objects
        .list(PRIORITY_CLASSES, "")
        .into_iter()
        .filter(|class| class["globalDefault"].as_bool() == Some(true))
        .min_by_key(|class| class["value"].as_i64())
}

pub fn validate(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let is_class = request.is("scheduling.k8s.io", "priorityclasses");
    if !writes || !is_class || request.object["globalDefault"].as_bool() != Some(true) {
        return Ok(());
    }
    match global_default(objects) {
        Some(other) if objects::name(&other) != request.object_name() => Err(request.forbidden(format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            objects::name(&other)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn fixture() -> Fixture {
        Fixture::new().add(PRIORITY_CLASSES, json!({"metadata": {"name": "high"}, "value": 1000})).add(
            PRIORITY_CLASSES,
            json!({"metadata": {"name": "calm"}, "value": 5, "preemptionPolicy": "Never"}),
        )
    }

    fn pod(spec: Value) -> Case {
        Case::create("", "pods", json!({"metadata": {"name": "x"}, "spec": spec}))
    }

    #[test]
    fn numbers() {
        let with_default = fixture()
            .add(PRIORITY_CLASSES, json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true}));
        let check = |fixture: &Fixture, spec: Value, name: Value, value: i64, policy: &str| {
            let pod = pod(spec).run(|request| mutate(request, fixture)).expect("admitted");
            let spec = &pod["spec"];
            assert_eq!((&spec["priorityClassName"], &spec["priority"]), (&name, &json!(value)));
            assert_eq!(spec["preemptionPolicy"], policy);
        };
        check(&fixture(), json!({}), Value::Null, 0, DEFAULT_POLICY);
        check(&fixture(), json!({"priorityClassName": "high"}), json!("high"), 1000, DEFAULT_POLICY);
        check(&fixture(), json!({"priorityClassName": "calm", "priority": 5}), json!("calm"), 5, "Never");
        check(&with_default, json!({}), json!("usual"), 7, DEFAULT_POLICY);
    }

    #[test]
    fn refusals() {
        let check = |spec: Value, expected: &str| {
            let refusal = pod(spec).refusal(|request| mutate(request, &fixture()));
            assert!(refusal.contains(expected), "{refusal}");
        };
        check(json!({"priorityClassName": "none"}), "no PriorityClass with name none was found");
        check(json!({"priorityClassName": "high", "priority": 1}), "computed 1000 from");
        check(
            json!({"priorityClassName": "calm", "preemptionPolicy": DEFAULT_POLICY}),
            "computed Never from",
        );
    }

    #[test]
    fn one_global_default() {
        let class = |name: &str| json!({"metadata": {"name": name}, "value": 1, "globalDefault": true});
        let fixture = Fixture::new().add(PRIORITY_CLASSES, class("a"));
        let case = Case::create("scheduling.k8s.io", "priorityclasses", class("b"));
        assert!(case.refusal(|request| validate(request, &fixture)).contains("PriorityClass a is already"));
        let case = Case::update("scheduling.k8s.io", "priorityclasses", class("a"), class("a"));
        assert_eq!(case.refusal(|request| validate(request, &fixture)), "");
    }
}
