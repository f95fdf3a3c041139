//! PersistentVolumeClaimResize: a claim grows only if its class can.

use api::quantity::Quantity;
use api::status::Status;
use serde_json::Value;

use super::objects::{Objects, STORAGE_CLASSES};
use super::{AdmissionRequest, Operation};

pub fn validate(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if request.operation != Operation::Update || !request.is("", "persistentvolumeclaims") {
        return Ok(());
    }
    let size = |claim: &Value| -> Option<Quantity> {
        claim["spec"]["resources"]["requests"]["storage"].as_str()?.parse().ok()
    };
    let (Some(new), Some(old)) = (size(&request.object), size(request.old_object)) else {
        return Ok(());
    };
    if new <= old {
        return Ok(());
    }
    if request.old_object["status"]["phase"].as_str() != Some("Bound") {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class = request.old_object["spec"]["storageClassName"].as_str().unwrap_or_default();
    let expandable = objects
        .get(STORAGE_CLASSES, "", class)
        .is_some_and(|class| class["allowVolumeExpansion"].as_bool() == Some(true));
    if expandable {
        return Ok(());
    }
    Err(request.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn growing() {
        let fixture = Fixture::new()
            .add(STORAGE_CLASSES, json!({"metadata": {"name": "elastic"}, "allowVolumeExpansion": true}));
        let claim = |class: &str, size: &str, phase: &str| {
            json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}},
                   "status": {"phase": phase}})
        };
        let check = |old: Value, new: Value, expected: &str| {
            let case = Case::update("", "persistentvolumeclaims", old, new);
            let refusal = case.refusal(|request| validate(request, &fixture));
            assert!(refusal.contains(expected) && (refusal.is_empty() == expected.is_empty()), "{refusal}");
        };
        let bound = |class: &str, size: &str| claim(class, size, "Bound");
        check(bound("elastic", "1Gi"), bound("elastic", "2Gi"), "");
        check(bound("rigid", "1Gi"), bound("rigid", "1024Mi"), "");
        check(bound("rigid", "1Gi"), bound("rigid", "2Gi"), "must support resize");
        check(claim("elastic", "1Gi", "Pending"), claim("elastic", "2Gi", "Pending"), "Only bound");
    }
}
