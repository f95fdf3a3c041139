//! Names, claims and looks of the pods of a StatefulSet. Free of IO.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use crate::kit::history::HASH_LABEL;
use crate::kit::{meta, pods};

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub fn start_ordinal(spec: &StatefulSetSpec) -> i32 {
    spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// The number in the name of a pod, if it is one of the set's names.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest = meta::name(pod).strip_prefix(meta::name(set))?.strip_prefix('-')?;
    // `web-01` is no name that a set gives.
    rest.parse().ok().filter(|ordinal: &i32| *ordinal >= 0 && ordinal.to_string() == rest)
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", meta::name(set))
}

fn claim_name(set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}", meta::name(claim), pod_name(set, ordinal))
}

/// The claims that a pod needs before it is created.
pub fn claims(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let templates = spec.volume_claim_templates.iter().flatten();
    let claims = templates.map(|template| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        claim
    });
    claims.collect()
}

/// The pod of an ordinal, by the template of a revision.
pub fn pod(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let name = pod_name(set, ordinal);
    let owner = meta::controller_reference(set);
    let mut pod = pods::from_template(template, meta::namespace(set), None, owner);
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), revision.to_owned());
    labels.insert(POD_NAME_LABEL.to_owned(), name.clone());
    labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
    let Some(pod_spec) = &mut pod.spec else { return pod };
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|service| !service.is_empty());
    let templates = spec.volume_claim_templates.iter().flatten();
    let of_claims: Vec<Volume> = templates
        .map(|claim| Volume {
            name: meta::name(claim).to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, claim, ordinal),
                read_only: Some(false),
            }),
            ..Default::default()
        })
        .collect();
    let volumes = pod_spec.volumes.get_or_insert_default();
    volumes.retain(|volume| !of_claims.iter().any(|claim| claim.name == volume.name));
    volumes.extend(of_claims);
    if volumes.is_empty() {
        pod_spec.volumes = None;
    }
    pod
}
