//! What claims pods want, and what becomes of claims whose pods are gone. Free of IO.

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{
    ResourceClaim, ResourceClaimConsumerReference, ResourceClaimStatus, ResourceClaimTemplate,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kit::{meta, pods};

/// Held by the scheduler's allocation: the claim does not go while its devices are taken.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
const PODS: &str = "pods";

pub fn wanted(pod: &Pod) -> impl Iterator<Item = &PodResourceClaim> {
    pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten())
}

/// The name of the ResourceClaim that was made for one of a pod's claims.
pub fn told(pod: &Pod, claim: &str) -> Option<Option<String>> {
    let told = pod.status.as_ref()?.resource_claim_statuses.as_ref()?;
    told.iter().find(|status| status.name == claim).map(|status| status.resource_claim_name.clone())
}

/// The claim that the scheduler made for the pod's extended resources.
pub fn extended(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?.extended_resource_claim_status.as_ref()?;
    Some(&status.resource_claim_name)
}

/// The ResourceClaims of a pod that are known by now, each with the name that the pod has for it.
pub fn names(pod: &Pod) -> impl Iterator<Item = (&str, String)> {
    wanted(pod).filter_map(|claim| {
        let name = match &claim.resource_claim_name {
            Some(name) => name.clone(),
            None => told(pod, &claim.name)??,
        };
        Some((claim.name.as_str(), name))
    })
}

pub fn is_for(claim: &ResourceClaim, pod_claim: &str) -> bool {
    meta::annotation(claim, POD_CLAIM) == Some(pod_claim) && !meta::is_terminating(claim)
}

pub fn from_template(pod: &Pod, pod_claim: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let from = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), pod_claim.to_owned());
    ResourceClaim {
        metadata: ObjectMeta {
            namespace: pod.metadata.namespace.clone(),
            generate_name: Some(format!("{}-{pod_claim}-", meta::name(pod))),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_reference(pod)]),
            ..Default::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

/// Whether a pod will never need its claims (again).
pub fn is_done(pod: &Pod) -> bool {
    pods::is_finished(pod) || (meta::is_terminating(pod) && pods::node_name(pod).is_none())
}

/// Name and UID of the pods that hold a reservation.
pub fn pod_consumers(claim: &ResourceClaim) -> Vec<(String, String)> {
    let consumers = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    consumers
        .filter(|consumer| is_pod(consumer))
        .map(|consumer| (consumer.name.clone(), consumer.uid.clone()))
        .collect()
}

fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.resource == PODS && consumer.api_group.as_deref().unwrap_or_default().is_empty()
}

/// The claim with a reservation for a pod, if it is allocated and lacks that.
pub fn reserved_for(claim: &ResourceClaim, pod: &Pod) -> Option<ResourceClaim> {
    let mut updated = claim.clone();
    let status = updated.status.as_mut().filter(|status| status.allocation.is_some())?;
    let consumers = status.reserved_for.get_or_insert_default();
    if consumers.iter().any(|consumer| consumer.uid == meta::uid(pod)) {
        return None;
    }
    consumers.push(ResourceClaimConsumerReference {
        api_group: None,
        resource: PODS.to_owned(),
        name: meta::name(pod).to_owned(),
        uid: meta::uid(pod).to_owned(),
    });
    Some(updated)
}

#[derive(Debug, PartialEq)]
pub enum Step {
    Tell(ResourceClaimStatus),
    RemoveFinalizer,
    Delete,
}

/// What to do about a claim of whose consumers those with these UIDs are gone.
pub fn steps(claim: &ResourceClaim, gone: &[String], owner_is_done: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let old = claim.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let consumers = status.reserved_for.get_or_insert_default();
    consumers.retain(|consumer| !(is_pod(consumer) && gone.contains(&consumer.uid)));
    let unused = consumers.is_empty();
    let had_users = old.reserved_for.as_ref().is_some_and(|consumers| !consumers.is_empty());
    let held = meta::has_finalizer(&claim.metadata, FINALIZER);
    if unused {
        status.reserved_for = None;
    }
    let free = unused && held && (had_users || meta::is_terminating(claim));
    if free {
        // Its devices are for others now; a pod that comes later allocates anew.
        status.allocation = None;
        status.devices = None;
    }
    let changed = old.reserved_for.as_ref().map_or(0, Vec::len)
        != status.reserved_for.as_ref().map_or(0, Vec::len)
        || old.allocation != status.allocation;
    if changed {
        steps.push(Step::Tell(status));
    }
    if free {
        steps.push(Step::RemoveFinalizer);
    }
    if unused && owner_is_done && !meta::is_terminating(claim) {
        steps.push(Step::Delete);
    }
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_unused_is_freed() {
        let check = |status: Value, finalizers: &[&str], gone: &[&str], done: bool, expected: &[&str]| {
            let claim: ResourceClaim = serde_json::from_value(json!({
                "metadata": {"name": "c", "finalizers": finalizers}, "spec": {}, "status": status}))
            .unwrap();
            let gone: Vec<String> = gone.iter().map(|uid| (*uid).to_owned()).collect();
            let found = steps(&claim, &gone, done);
            let found: Vec<_> = found
                .iter()
                .map(|step| match step {
                    Step::Tell(status) if status.allocation.is_none() => "free",
                    Step::Tell(_) => "tell",
                    Step::RemoveFinalizer => "release",
                    Step::Delete => "delete",
                })
                .collect();
            assert_eq!(found, expected, "{status}");
        };
        let pod = |uid: &str| json!({"resource": "pods", "name": uid, "uid": uid});
        let two = json!({"allocation": {}, "reservedFor": [pod("a"), pod("b")]});
        check(two.clone(), &[FINALIZER], &[], false, &[]);
        check(two.clone(), &[FINALIZER], &["a"], false, &["tell"]);
        check(two, &[FINALIZER], &["a", "b"], false, &["free", "release"]);
        check(
            json!({"allocation": {}, "reservedFor": [pod("a")]}),
            &[FINALIZER],
            &["a"],
            true,
            &["free", "release", "delete"],
        );
        check(json!({}), &[], &[], false, &[]);
        check(json!({"allocation": {}}), &[FINALIZER], &[], false, &[]);
        check(json!({}), &[], &[], true, &["delete"]);
        let other = json!({"allocation": {}, "reservedFor": [{"apiGroup": "x", "resource": "jobs", "name": "a", "uid": "a"}]});
        check(other, &[FINALIZER], &["a"], false, &[]);
    }

    #[test]
    fn claims_are_known_by_name_or_by_status() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "resourceClaims": [
            {"name": "own", "resourceClaimName": "shared"}, {"name": "made", "resourceClaimTemplateName": "t"},
            {"name": "pending", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made-x"}]}}))
        .unwrap();
        let found: Vec<_> = names(&pod).collect();
        assert_eq!(found, [("own", "shared".to_owned()), ("made", "p-made-x".to_owned())]);
    }
}
