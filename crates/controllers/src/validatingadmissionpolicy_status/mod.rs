//! Warns of mistakes in ValidatingAdmissionPolicies: their expressions are compiled with the types of what they are
//! about, which the API server does not know of when it applies them.
//!
//! A policy is looked at when its spec changes, and when a CustomResourceDefinition changes that it may be about.

mod types;
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};
use types::Types;

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.validating_admission_policies.on(move |change| {
        if let Some(policy) = change.new
            && is_due(policy)
        {
            due.add(Key::of(&**policy));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.custom_resource_definitions.on(move |change| {
        let spec = |definition: Option<&Arc<CustomResourceDefinition>>| definition.map(|it| it.spec.clone());
        if spec(change.old) == spec(change.new) {
            return;
        }
        let Some(definition) = change.object() else { return };
        for policy in seen.validating_admission_policies.list() {
            if concerns(&policy, definition) {
                due.add_lazily(Key::of(&*policy));
            }
        }
    });
    loops.add(Status { world: world.clone() }, queue);
}

/// Whether the policy has changed since its status was told.
fn is_due(policy: &ValidatingAdmissionPolicy) -> bool {
    let told = policy.status.as_ref().and_then(|status| status.observed_generation);
    told.is_none() || told != policy.metadata.generation
}

/// Whether the policy names the group of what is defined, as what it is about or as its parameters.
fn concerns(policy: &ValidatingAdmissionPolicy, definition: &CustomResourceDefinition) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let group = &definition.spec.group;
    let rules = spec.match_constraints.iter().flat_map(|of| of.resource_rules.iter().flatten());
    let mut groups = rules.flat_map(|rule| rule.api_groups.iter().flatten());
    let params = spec.param_kind.as_ref().and_then(|kind| kind.api_version.as_ref());
    groups.any(|named| named == group)
        || params.is_some_and(|version| version.split('/').next() == Some(group.as_str()))
}

struct Status {
    world: Arc<World>,
}

impl Controller for Status {
    const NAME: &'static str = "validatingadmissionpolicy-status-controller";
    const WORKERS: usize = 1;

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let policies = &self.world.validating_admission_policies;
        let Some(policy) = policies.by_key(key) else { return Ok(None) };
        if meta::is_terminating(&*policy) {
            return Ok(None);
        }
        let types = Types::new(self.world.custom_resource_definitions.list());
        let spec = serde_json::to_value(&policy.spec).unwrap_or_default();
        let warnings = warnings::of(&spec, &types);
        let told = policy.status.as_ref().and_then(|status| status.type_checking.as_ref());
        let told = told.and_then(|told| told.expression_warnings.as_ref());
        let told = serde_json::to_value(told.map(Vec::as_slice).unwrap_or_default()).unwrap_or_default();
        if !is_due(&policy) && told == json!(warnings) {
            return Ok(None);
        }
        // A merge patch: what is null goes.
        let warnings = if warnings.is_empty() { json!(null) } else { json!(warnings) };
        let type_checking = json!({"expressionWarnings": warnings});
        let status = json!({"observedGeneration": policy.metadata.generation, "typeChecking": type_checking});
        policies.merge_patch_status(key, &json!({"status": status})).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_due_when_they_or_what_they_name_changes() {
        let policy = |generation: i64, observed: Option<i64>| -> ValidatingAdmissionPolicy {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "generation": generation}, "status": {"observedGeneration": observed},
                "spec": {"paramKind": {"apiVersion": "params.io/v1", "kind": "Limit"}, "matchConstraints":
                    {"resourceRules": [{"apiGroups": ["apps"]}]}},
            }))
            .unwrap()
        };
        assert!(is_due(&policy(1, None)) && is_due(&policy(2, Some(1))) && !is_due(&policy(2, Some(2))));
        let definition = |group: &str| -> CustomResourceDefinition {
            serde_json::from_value(
                json!({"metadata": {}, "spec": {"group": group, "names": {"kind": "K", "plural": "ks"},
                "scope": "Cluster", "versions": []}}),
            )
            .unwrap()
        };
        assert!(concerns(&policy(1, None), &definition("apps")));
        assert!(concerns(&policy(1, None), &definition("params.io")));
        assert!(!concerns(&policy(1, None), &definition("other.io")));
    }
}
