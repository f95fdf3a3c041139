//! Former templates of DaemonSets and StatefulSets, kept as ControllerRevisions.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::error::SyncError;
use super::hash::template_hash;
use super::key::Key;
use super::meta::{self, Labels};
use super::world::World;

/// The label that tells the revision of a pod.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// What a revision keeps: a patch that puts the template back, as `kubectl rollout undo` applies it.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch".to_owned(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The revision of the current template, made if there is none, and all revisions, oldest first.
pub async fn current<Owner: Resource<DynamicType = ()>>(
    world: &World,
    owner: &Owner,
    labels: Option<&Labels>,
    current: &PodTemplateSpec,
    collisions: Option<i32>,
) -> Result<(Arc<ControllerRevision>, Vec<Arc<ControllerRevision>>), SyncError> {
    let mut all = world.controller_revisions.by_controller(meta::uid(owner));
    all.sort_by_key(|revision| revision.revision);
    let newest = all.last().map_or(0, |revision| revision.revision);
    // Compared as templates, not as texts: what is stored may have been written by another version.
    if let Some(found) =
        all.iter().rev().find(|revision| template(revision).as_ref() == Some(current)).cloned()
    {
        if found.revision == newest {
            return Ok((found, all));
        }
        // Rolled back to: it becomes the newest again.
        let patch = json!({"revision": newest + 1});
        let found = world.controller_revisions.merge_patch(&Key::of(&*found), &patch).await?;
        return Ok((found, all));
    }
    let hash = template_hash(current, collisions);
    let mut labels = labels.cloned().unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            name: Some(format!("{}-{hash}", meta::name(owner))),
            labels: Some(labels),
            owner_references: Some(vec![meta::controller_reference(owner)]),
            ..Default::default()
        },
        data: Some(RawExtension(data(current))),
        revision: newest + 1,
    };
    let created = world.controller_revisions.create(&revision).await?;
    all.push(created.clone());
    Ok((created, all))
}

/// Deletes the oldest revisions beyond the limit that no pod has.
pub async fn trim(
    world: &World,
    all: &[Arc<ControllerRevision>],
    in_use: impl Fn(&ControllerRevision) -> bool,
    limit: Option<i32>,
) -> Result<(), SyncError> {
    let unused: Vec<_> = all.iter().filter(|revision| !in_use(revision)).collect();
    let surplus = unused.len().saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or(0));
    for revision in unused.into_iter().take(surplus) {
        world.controller_revisions.delete(&**revision, DeleteParams::default()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_come_back_from_revisions() {
        let original: PodTemplateSpec =
            serde_json::from_value(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).unwrap();
        let revision = ControllerRevision { data: Some(RawExtension(data(&original))), ..Default::default() };
        assert_eq!(template(&revision), Some(original));
        assert_eq!(template(&ControllerRevision::default()), None);
    }
}
