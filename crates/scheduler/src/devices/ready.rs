//! Devices that are made ready for their node after they have been chosen: a pod is bound when their driver says that
//! all their binding conditions hold.

use k8s_openapi::api::resource::v1::{AllocatedDeviceStatus, ResourceClaim};

use super::{Devices, allocation};
use crate::storage::Key;

/// Whether conditions of its devices must hold before a pod that uses the claim is bound.
pub fn has_conditions(claim: &ResourceClaim) -> bool {
    let results = allocation(claim).and_then(|allocation| allocation.devices.as_ref()?.results.as_ref());
    results.into_iter().flatten().any(|result| result.binding_conditions.iter().flatten().next().is_some())
}

impl Devices {
    /// Whether the devices of all these claims are ready. An error if one will not be.
    pub fn are_ready(&self, claims: &[Key]) -> Result<bool, String> {
        let mut ready = true;
        for key in claims {
            let claim = self
                .claims
                .get(key)
                .ok_or_else(|| format!("resourceclaim \"{}\" has been deleted meanwhile", key.1))?;
            ready &= is_ready(claim)?;
        }
        Ok(ready)
    }
}

fn is_ready(claim: &ResourceClaim) -> Result<bool, String> {
    // The watch may be behind what was just written.
    let Some(allocation) = allocation(claim) else { return Ok(false) };
    let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
    let told = claim.status.iter().flat_map(|status| status.devices.iter().flatten());
    let mut ready = true;
    for result in results {
        let same = |told: &&AllocatedDeviceStatus| {
            (&told.driver, &told.pool, &told.device, &told.share_id)
                == (&result.driver, &result.pool, &result.device, &result.share_id)
        };
        let conditions = told.clone().find(same).and_then(|told| told.conditions.as_deref());
        let holds = |name: &String| {
            conditions.unwrap_or_default().iter().find(|known| known.type_ == *name && known.status == "True")
        };
        if let Some(failure) = result.binding_failure_conditions.iter().flatten().find_map(holds) {
            return Err(format!(
                "device {}/{}/{} of resourceclaim \"{}\" cannot be made ready: {}: {}",
                result.driver,
                result.pool,
                result.device,
                claim.metadata.name.as_deref().unwrap_or_default(),
                failure.type_,
                failure.message
            ));
        }
        ready &= result.binding_conditions.iter().flatten().all(|name| holds(name).is_some());
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_condition_of_every_device_counts() {
        let check = |conditions: Value, expected: Result<bool, &str>| {
            let claim = json!({
                "metadata": {"name": "c"}, "spec": {},
                "status": {
                    "allocation": {"devices": {"results": [
                        {"request": "r", "driver": "d", "pool": "p", "device": "one"},
                        {"request": "r", "driver": "d", "pool": "p", "device": "two",
                         "bindingConditions": ["Attached", "Warm"], "bindingFailureConditions": ["Broken"]},
                    ]}},
                    "devices": [{"driver": "d", "pool": "p", "device": "two", "conditions": conditions}],
                },
            });
            let claim = serde_json::from_value(claim).unwrap();
            assert!(has_conditions(&claim));
            match (is_ready(&claim), expected) {
                (Ok(ready), Ok(expected)) => assert_eq!(ready, expected, "{conditions}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                other => panic!("{other:?}"),
            }
        };
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "r", "message": "fan is off",
                   "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        check(json!([]), Ok(false));
        check(json!([condition("Attached", "True")]), Ok(false));
        check(json!([condition("Attached", "True"), condition("Warm", "False")]), Ok(false));
        check(json!([condition("Attached", "True"), condition("Warm", "True")]), Ok(true));
        check(json!([condition("Attached", "True"), condition("Broken", "False")]), Ok(false));
        check(json!([condition("Warm", "True"), condition("Broken", "True")]), Err("Broken: fan is off"));
    }
}
