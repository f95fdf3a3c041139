//! Expressions that select devices are compiled when they are written: a wrong or a costly one is refused there.

use api::field::{FieldErrors, Path};
use api::status::Status;
use expressions::devices;
use serde_json::Value;

use super::objects::items;
use super::{AdmissionRequest, Operation};

const GROUP: &str = "resource.k8s.io";

pub fn validate(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if request.resource.group != GROUP || !request.subresource.is_empty() || !writes {
        return Ok(());
    }
    let (new, old) = (&request.object["spec"], &request.old_object["spec"]);
    // What has been accepted once stays so: a later server may be stricter.
    if new == old {
        return Ok(());
    }
    let mut errors = FieldErrors::new();
    let spec = Path::new("spec");
    match request.resource.resource.as_str() {
        "deviceclasses" => selectors(&new["selectors"], &spec.child("selectors"), &mut errors),
        "resourceclaims" => claim(new, &spec, &mut errors),
        "resourceclaimtemplates" => claim(&new["spec"], &spec.child("spec"), &mut errors),
        _ => {}
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, &request.kind.kind, request.object_name(), &errors))
}

fn claim(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("devices");
    let list = path.child("requests");
    for (index, request) in items(&spec["devices"]["requests"]).enumerate() {
        let path = list.index(index);
        let exactly = path.child("exactly");
        selectors(&request["exactly"]["selectors"], &exactly.child("selectors"), errors);
        let alternatives = path.child("firstAvailable");
        for (index, alternative) in items(&request["firstAvailable"]).enumerate() {
            let path = alternatives.index(index);
            selectors(&alternative["selectors"], &path.child("selectors"), errors);
        }
    }
}

fn selectors(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (index, selector) in items(list).enumerate() {
        let path = path.index(index);
        let path = path.child("cel");
        let path = path.child("expression");
        let source = selector["cel"]["expression"].as_str().unwrap_or_default();
        match devices::compile(source) {
            Ok(program) if program.estimated_cost() > devices::MOST => {
                errors.forbidden(&path, "too complex, exceeds cost limit");
            }
            Ok(_) => {}
            Err(why) => errors.invalid(&path, source, format!("compilation failed: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::testing::Case;

    #[track_caller]
    fn check(resource: &str, spec: Value, expected: &str) {
        let case = Case::create(GROUP, resource, json!({"metadata": {"name": "x"}, "spec": spec}));
        let refusal = case.refusal(|request| validate(request));
        assert!(refusal.contains(expected) && refusal.is_empty() == expected.is_empty(), "{refusal:?}");
    }

    #[test]
    fn wrong_selectors_are_refused() {
        let selectors = |source: &str| json!([{"cel": {"expression": source}}]);
        let class = |source: &str| json!({"selectors": selectors(source)});
        check("deviceclasses", class("device.driver == 'x'"), "");
        check("deviceclasses", class("device.driver =="), "spec.selectors[0].cel.expression: Invalid value");
        check(
            "deviceclasses",
            class(
                "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b + c == d))))",
            ),
            "spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit",
        );
        let requests = json!({"devices": {"requests": [
            {"name": "a", "exactly": {"selectors": selectors("1")}},
            {"name": "b", "firstAvailable": [{"name": "c", "selectors": selectors("nothing")}]},
        ]}});
        check(
            "resourceclaims",
            requests.clone(),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression",
        );
        check(
            "resourceclaimtemplates",
            json!({"spec": requests}),
            "spec.spec.devices.requests[1].firstAvailable[0].selectors[0].cel.expression",
        );
    }
}
