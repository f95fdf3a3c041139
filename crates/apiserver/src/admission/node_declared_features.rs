//! NodeDeclaredFeatureValidator: a pod that runs is not changed into one that its node cannot have, for lack of a feature
//! that nodes declare (`status.declaredFeatures`).

use api::status::Status;
use serde_json::Value;

use super::objects::{NODES, Objects, items};
use super::{AdmissionRequest, Operation};

/// A feature, and whether the change from one spec to another needs it.
type Feature = (&'static str, fn(&Value, &Value) -> bool);

const FEATURES: [Feature; 2] = [
    ("InPlacePodLevelResourcesVerticalScaling", |old, new| old["resources"] != new["resources"]),
    ("InPlacePodVerticalScalingInitContainers", |old, new| {
        let pairs = items(&old["initContainers"]).zip(items(&new["initContainers"]));
        pairs
            .filter(|(old, _)| old["restartPolicy"] != "Always")
            .any(|(old, new)| old["resources"] != new["resources"])
    }),
];

pub fn validate(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let of_pod = request.is_subresource("", "pods", "") || request.is_subresource("", "pods", "resize");
    if request.operation != Operation::Update || !of_pod {
        return Ok(());
    }
    let (old, new) = (&request.old_object["spec"], &request.object["spec"]);
    let Some(name) = new["nodeName"].as_str().filter(|name| !name.is_empty()) else { return Ok(()) };
    let mut needed = FEATURES.iter().filter(|(_, needs)| needs(old, new)).map(|(name, _)| *name).peekable();
    if needed.peek().is_none() {
        return Ok(());
    }
    let Some(node) = objects.get(NODES, "", name) else {
        return Err(request.forbidden(format!("node {name:?} not found")));
    };
    let declared = &node["status"]["declaredFeatures"];
    let missing: Vec<&str> = needed.filter(|name| !items(declared).any(|known| known == name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(request.forbidden(format!(
        "pod update requires features {} which are not available on node {name:?}",
        missing.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn pods_are_not_resized_beyond_their_node() {
        let able = json!({"metadata": {"name": "able"}, "status": {"declaredFeatures": ["InPlacePodLevelResourcesVerticalScaling"]}});
        let fixture = Fixture::new().add(NODES, able).add(NODES, json!({"metadata": {"name": "old"}}));
        let check = |node: &str, old: Value, new: Value, expected: Option<&str>| {
            let pod = |spec: &Value| {
                let mut spec = spec.clone();
                spec["nodeName"] = node.into();
                json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
            };
            let case = Case { subresource: "resize", ..Case::update("", "pods", pod(&old), pod(&new)) };
            let refusal = case.refusal(|request| validate(request, &fixture));
            assert_eq!(refusal.is_empty(), expected.is_none(), "{refusal}");
            assert!(refusal.contains(expected.unwrap_or_default()), "{refusal}");
        };
        let whole = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let init = |cpu: &str, policy: Value| json!({"initContainers": [{"name": "i", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}}]});
        check("old", whole("1"), whole("1"), None);
        check("able", whole("1"), whole("2"), None);
        check("", whole("1"), whole("2"), None);
        check(
            "old",
            whole("1"),
            whole("2"),
            Some(
                "pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node \"old\"",
            ),
        );
        check("gone", whole("1"), whole("2"), Some("node \"gone\" not found"));
        check("able", init("1", "Always".into()), init("2", "Always".into()), None);
        check(
            "able",
            init("1", Value::Null),
            init("2", Value::Null),
            Some("InPlacePodVerticalScalingInitContainers"),
        );
    }
}
