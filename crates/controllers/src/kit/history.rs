//! Former templates of DaemonSets and StatefulSets, kept as ControllerRevisions.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::claim;
use super::error::{Context, SyncError};
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

/// The history of an owner.
pub struct History {
    /// The revision of its template as it is now.
    pub current: Arc<ControllerRevision>,
    /// All revisions, oldest first.
    pub all: Vec<Arc<ControllerRevision>>,
    /// How often a name was taken by another template.
    pub collisions: Option<i32>,
}

/// What a history belongs to, and is to hold.
pub struct Owned<'a, Owner> {
    pub owner: &'a Owner,
    pub selector: &'a LabelSelector,
    pub template: &'a PodTemplateSpec,
    pub collisions: Option<i32>,
    pub marks: Marks,
}

/// How the kinds of owners mark what belongs to a revision.
#[derive(Clone, Copy)]
pub struct Marks {
    /// The label of a ControllerRevision that holds the hash of its template.
    pub hash_label: &'static str,
    /// What the pods of a revision have as [`HASH_LABEL`].
    pub of_pods: fn(&ControllerRevision) -> &str,
}

/// The marks of DaemonSets: pods tell the hash.
pub const BY_HASH: Marks = Marks { hash_label: HASH_LABEL, of_pods: |revision| hash_of(&revision.metadata) };
/// The marks of StatefulSets: pods tell the name, which is also what the status tells.
pub const BY_NAME: Marks =
    Marks { hash_label: "controller.kubernetes.io/hash", of_pods: |revision| meta::name(revision) };

/// Brings the history of an owner up to date: a revision of the current template is made if there is none, revisions
/// without an owner are adopted, and of several equal ones the newest stays.
pub async fn keep<Owner: claim::Adopter>(
    world: &World,
    asked: Owned<'_, Owner>,
) -> Result<History, SyncError> {
    let Owned { owner, selector, template: current, collisions, marks } = asked;
    let picks = |labels: Option<&Labels>| meta::selects_strictly(selector, labels);
    let mut all = claim::claim(owner, &world.controller_revisions, picks).await?;
    all.sort_by(|a, b| (a.revision, meta::name(&**a)).cmp(&(b.revision, meta::name(&**b))));
    let newest = all.last().map_or(0, |revision| revision.revision);
    // Compared as templates, not as texts: what is stored may have been written by another version.
    let is_current = |revision: &Arc<ControllerRevision>| template(revision).as_ref() == Some(current);
    if let Some(at) = all.iter().rposition(is_current) {
        let mut found = all.remove(at);
        for duplicate in all.extract_if(.., |revision| is_current(revision)) {
            merge(world, owner, &duplicate, &found, marks).await?;
        }
        if found.revision != newest {
            // Rolled back to: it becomes the newest again.
            let patch = json!({"revision": newest + 1});
            found = world.controller_revisions.merge_patch(&Key::of(&*found), &patch).await?;
        }
        all.push(found.clone());
        return Ok(History { current: found, all, collisions });
    }
    let (created, collisions) = create(world, &asked, newest + 1).await?;
    all.push(created.clone());
    Ok(History { current: created, all, collisions })
}

/// Puts a duplicate's pods to the revision that stays, and deletes it.
async fn merge<Owner: Resource<DynamicType = ()>>(
    world: &World,
    owner: &Owner,
    duplicate: &Arc<ControllerRevision>,
    stays: &ControllerRevision,
    marks: Marks,
) -> Result<(), SyncError> {
    let (old, new) = ((marks.of_pods)(duplicate), (marks.of_pods)(stays));
    for pod in world.pods.by_controller(meta::uid(owner)) {
        if old != new && hash_of(&pod.metadata) == old {
            let patch = json!({"metadata": {"uid": meta::uid(&*pod), "labels": {HASH_LABEL: new}}});
            world.pods.merge_patch(&Key::of(&*pod), &patch).await?;
        }
    }
    world.controller_revisions.delete(&**duplicate, DeleteParams::default()).await
}

/// The revision that a pod has, or that a ControllerRevision is.
pub fn hash_of(meta: &ObjectMeta) -> &str {
    meta.labels.as_ref().and_then(|labels| labels.get(HASH_LABEL)).map_or("", String::as_str)
}

async fn create<Owner: Resource<DynamicType = ()>>(
    world: &World,
    asked: &Owned<'_, Owner>,
    number: i64,
) -> Result<(Arc<ControllerRevision>, Option<i32>), SyncError> {
    let Owned { owner, template: current, mut collisions, marks, .. } = *asked;
    loop {
        let hash = template_hash(current, collisions);
        let mut labels = current.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        labels.insert(marks.hash_label.to_owned(), hash.clone());
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                namespace: owner.meta().namespace.clone(),
                name: Some(format!("{}-{hash}", meta::name(owner))),
                labels: Some(labels),
                // `kubectl rollout history` shows the cause of a change from here.
                annotations: owner.meta().annotations.clone(),
                owner_references: Some(vec![meta::controller_reference(owner)]),
                ..Default::default()
            },
            data: Some(RawExtension(data(current))),
            revision: number,
        };
        match world.controller_revisions.create(&revision).await {
            Ok(created) => return Ok((created, collisions)),
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        let key = Key::of(&revision);
        let found = world.controller_revisions.api(&key.namespace).get(&key.name).await;
        let found = found.context("get", || format!("ControllerRevision {key}"))?;
        if meta::is_controlled_by(&found.metadata, meta::uid(owner))
            && template(&found).as_ref() == Some(current)
        {
            return Ok((world.controller_revisions.assume(found), collisions));
        }
        // Somebody else's: another hash, and with it another name.
        collisions = Some(collisions.unwrap_or(0).saturating_add(1));
    }
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
