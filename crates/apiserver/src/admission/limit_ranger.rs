//! LimitRanger: a namespace's LimitRanges give containers their default requests and limits, and bound them.

use api::status::Status;
use serde_json::{Value, json};

use super::objects::{LIMIT_RANGES, Objects, at, items};
use super::quota::usage::{Amounts, greediest, list as amounts};
use super::{AdmissionRequest, Operation};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The limits of one type (`Container`, `Pod`, `PersistentVolumeClaim`) in a namespace.
fn limits<'a>(ranges: &'a [std::sync::Arc<Value>], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    ranges
        .iter()
        .flat_map(|range| items(&range["spec"]["limits"]))
        .filter(move |limit| limit["type"].as_str() == Some(kind))
}

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let ranges = objects.list(LIMIT_RANGES, request.namespace);
    if ranges.is_empty() {
        return Ok(());
    }
    let mut told = Vec::new();
    for (list, title) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(containers) = request.object["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            for limit in limits(&ranges, "Container") {
                for (field, defaults) in [("requests", "defaultRequest"), ("limits", "default")] {
                    let set = fill(container, field, &limit[defaults]);
                    if !set.is_empty() {
                        let name = container["name"].as_str().unwrap_or_default();
                        let field = field.trim_end_matches('s');
                        told.push(format!("{} {field} for {title} {name}", set.join(", ")));
                    }
                }
            }
        }
    }
    if !told.is_empty() {
        let note = format!("LimitRanger plugin set: {}", told.join("; "));
        *at(&mut request.object, &["metadata", "annotations", ANNOTATION]) = json!(note);
    }
    Ok(())
}

/// Sets what is missing and returns the names of it.
fn fill(container: &mut Value, field: &str, defaults: &Value) -> Vec<String> {
    let mut set = Vec::new();
    for (resource, value) in defaults.as_object().into_iter().flatten() {
        if container["resources"][field][resource].is_null() {
            *at(container, &["resources", field, resource]) = value.clone();
            set.push(resource.clone());
        }
    }
    set
}

pub fn validate(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let ranges = || objects.list(LIMIT_RANGES, request.namespace);
    let mut problems = Vec::new();
    let resizes = request.operation == Operation::Update && request.is_subresource("", "pods", "resize");
    if request.creates("", "pods") || resizes {
        let ranges = ranges();
        let spec = &request.object["spec"];
        for container in items(&spec["containers"]).chain(items(&spec["initContainers"])) {
            let (requests, limits_of) =
                (amounts(&container["resources"]["requests"]), amounts(&container["resources"]["limits"]));
            for limit in limits(&ranges, "Container") {
                check("Container", limit, &requests, &limits_of, &mut problems);
            }
        }
        let (requests, limits_of) = (greediest(spec, "requests"), greediest(spec, "limits"));
        for limit in limits(&ranges, "Pod") {
            check("Pod", limit, &requests, &limits_of, &mut problems);
        }
    } else if request.is("", "persistentvolumeclaims")
        && matches!(request.operation, Operation::Create | Operation::Update)
        // What is going away must be able to lose its finalizers, whatever its size.
        && request.old_object["metadata"]["deletionTimestamp"].is_null()
    {
        let requests = amounts(&request.object["spec"]["resources"]["requests"]);
        for limit in limits(&ranges(), "PersistentVolumeClaim") {
            check(CLAIM, limit, &requests, &Amounts::new(), &mut problems);
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(request.forbidden(one)),
        several => Err(request.forbidden(format!("[{}]", several.join(", ")))),
    }
}

/// A type that knows requests only.
const CLAIM: &str = "PersistentVolumeClaim";

fn check(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    for (name, min) in amounts(&limit["min"]) {
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => {
                problems.push(format!("minimum {name} usage per {kind} is {min}.  No request is specified"))
            }
            (Some(request), _) if *request < min => {
                problems.push(format!("minimum {name} usage per {kind} is {min}, but request is {request}"));
            }
            (_, Some(limit)) if *limit < min => {
                problems.push(format!("minimum {name} usage per {kind} is {min}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, max) in amounts(&limit["max"]) {
        match (requests.get(&name), limits.get(&name)) {
            (None, None) if kind == CLAIM => {
                problems.push(format!("maximum {name} usage per {kind} is {max}.  No request is specified"))
            }
            (_, None) if kind != CLAIM => {
                problems.push(format!("maximum {name} usage per {kind} is {max}.  No limit is specified"))
            }
            (_, Some(limit)) if *limit > max => {
                problems.push(format!("maximum {name} usage per {kind} is {max}, but limit is {limit}"));
            }
            (Some(request), _) if *request > max => {
                problems.push(format!("maximum {name} usage per {kind} is {max}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, ratio) in amounts(&limit["maxLimitRequestRatio"]) {
        let given = |list: &Amounts| list.get(&name).copied().filter(|amount| !amount.is_zero());
        let but = match (given(requests), given(limits)) {
            (None, _) => "no request is specified or request is 0".to_owned(),
            (_, None) => "no limit is specified or limit is 0".to_owned(),
            (Some(request), Some(limit)) => match limit.as_f64() / request.as_f64() {
                actual if actual > ratio.as_f64() => format!("provided ratio is {actual:.6}"),
                _ => continue,
            },
        };
        problems.push(format!("{name} max limit to request ratio per {kind} is {ratio}, but {but}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn fixture(limit: Value) -> Fixture {
        Fixture::new().add(
            LIMIT_RANGES,
            json!({"metadata": {"namespace": "ns", "name": "l"}, "spec": {"limits": [limit]}}),
        )
    }

    fn pod(resources: Value) -> Case {
        let containers = json!([{"name": "c", "resources": resources}]);
        Case::create(
            "",
            "pods",
            json!({"metadata": {"namespace": "ns", "name": "x"}, "spec": {"containers": containers}}),
        )
    }

    #[test]
    fn defaults() {
        let fixture = fixture(
            json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m", "memory": "1Gi"}}),
        );
        let got = pod(json!({"requests": {"memory": "2Gi"}}))
            .run(|request| mutate(request, &fixture))
            .expect("admitted");
        assert_eq!(
            got["spec"]["containers"][0]["resources"],
            json!({"requests": {"memory": "2Gi", "cpu": "500m"}, "limits": {"cpu": "1"}})
        );
        assert_eq!(
            got["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
    }

    #[test]
    fn bounds() {
        let check = |limit: Value, resources: Value, expected: &str| {
            let fixture = fixture(limit);
            let refusal = pod(resources).refusal(|request| validate(request, &fixture));
            assert!(refusal.contains(expected) && (refusal.is_empty() == expected.is_empty()), "{refusal}");
        };
        let max = json!({"type": "Container", "max": {"cpu": "1"}});
        check(max.clone(), json!({"limits": {"cpu": "1000m"}}), "");
        check(
            max.clone(),
            json!({"limits": {"cpu": "2"}}),
            "maximum cpu usage per Container is 1, but limit is 2",
        );
        check(max, json!({}), "maximum cpu usage per Container is 1.  No limit is specified");
        let min = json!({"type": "Container", "min": {"memory": "1Gi"}});
        check(min.clone(), json!({"requests": {"memory": "2Gi"}}), "");
        check(
            min.clone(),
            json!({"requests": {"memory": "1Mi"}}),
            "minimum memory usage per Container is 1Gi, but request is 1Mi",
        );
        check(min, json!({}), "minimum memory usage per Container is 1Gi.  No request is specified");
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        check(ratio.clone(), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), "");
        check(ratio.clone(), json!({"requests": {"cpu": "1"}}), "no limit is specified or limit is 0");
        check(ratio.clone(), json!({"limits": {"cpu": "1"}}), "no request is specified or request is 0");
        check(ratio, json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}), "provided ratio is 3.000000");
        let pod = json!({"type": "Pod", "max": {"cpu": "1"}});
        check(pod.clone(), json!({"limits": {"cpu": "1"}}), "");
        check(pod, json!({"limits": {"cpu": "1500m"}}), "maximum cpu usage per Pod is 1, but limit is 1500m");
    }

    #[test]
    fn claims() {
        let fixture = fixture(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}));
        let claim = |size: &str| {
            let spec = json!({"resources": {"requests": {"storage": size}}});
            Case::create(
                "",
                "persistentvolumeclaims",
                json!({"metadata": {"namespace": "ns", "name": "c"}, "spec": spec}),
            )
        };
        assert_eq!(claim("1Gi").refusal(|request| validate(request, &fixture)), "");
        assert!(claim("2Gi").refusal(|request| validate(request, &fixture)).contains("but request is 2Gi"));
    }
    #[test]
    fn sidecars_count_for_the_pod() {
        let fixture = fixture(json!({"type": "Pod", "max": {"cpu": "1"}}));
        let refusal = |sidecar: &str| {
            let one = json!({"name": "c", "resources": {"limits": {"cpu": "600m"}}});
            let other =
                json!({"name": "s", "restartPolicy": "Always", "resources": {"limits": {"cpu": sidecar}}});
            let pod = json!({"metadata": {"namespace": "ns", "name": "x"}, "spec": {"containers": [one], "initContainers": [other]}});
            Case::create("", "pods", pod).refusal(|request| validate(request, &fixture))
        };
        assert_eq!(refusal("400m"), "");
        assert!(refusal("500m").contains("maximum cpu usage per Pod is 1, but limit is 1100m"));
    }

    #[test]
    fn a_claim_that_is_too_large_can_still_go() {
        let fixture = fixture(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}));
        let claim = |deleted: Value| {
            let spec = json!({"resources": {"requests": {"storage": "2Gi"}}});
            json!({"metadata": {"namespace": "ns", "name": "c", "deletionTimestamp": deleted}, "spec": spec})
        };
        let refusal = |deleted: Value| {
            let case = Case::update("", "persistentvolumeclaims", claim(deleted.clone()), claim(deleted));
            case.refusal(|request| validate(request, &fixture))
        };
        assert!(refusal(Value::Null).contains("but request is 2Gi"));
        assert_eq!(refusal(json!("2026-01-01T00:00:00Z")), "");
    }
}
