//! Who belongs to whom: adopting objects that a selector picks, releasing those it no longer does.

use std::sync::Arc;

use client::Watched;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, Resource};
use serde::Serialize;
use serde_json::json;

use super::error::{Context, SyncError};
use super::key::Key;
use super::meta::{self, Labels};
use super::view::View;
use super::write::Reach;

/// What an owner is to do about its candidates.
pub struct Claim<K> {
    /// Ours already.
    pub ours: Vec<Arc<K>>,
    pub adopt: Vec<Arc<K>>,
    pub release: Vec<Arc<K>>,
}

/// Decides over what the owner controls and what nobody does.
pub fn decide<K: Resource>(
    owner: &impl Resource,
    controlled: Vec<Arc<K>>,
    orphans: Vec<Arc<K>>,
    matches: impl Fn(Option<&Labels>) -> bool,
) -> Claim<K> {
    let matches = |object: &Arc<K>| matches(object.meta().labels.as_ref());
    let dying = meta::is_terminating(owner);
    let mut claim = Claim { ours: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in controlled {
        if matches(&object) {
            claim.ours.push(object);
        } else if !dying {
            claim.release.push(object);
        }
    }
    if !dying {
        let fit = |object: &Arc<K>| matches(object) && !meta::is_terminating(&**object);
        claim.adopt = orphans.into_iter().filter(fit).collect();
    }
    claim
}

/// A kind that adopts: it and what it owns are in one namespace.
pub trait Adopter: Watched + Resource<Scope = NamespaceResourceScope> {}

impl<K: Watched + Resource<Scope = NamespaceResourceScope>> Adopter for K {}

/// Adopts and releases; answers with what belongs to the owner now.
pub async fn claim<Owner, K>(
    owner: &Owner,
    view: &View<K>,
    matches: impl Fn(Option<&Labels>) -> bool,
) -> Result<Vec<Arc<K>>, SyncError>
where
    Owner: Adopter,
    K: Watched + Serialize,
    <K as Resource>::Scope: Reach<K>,
{
    claim_some(owner, view, matches, |_| true).await
}

/// As [`claim`], adopting only what may be adopted by more than its labels.
pub async fn claim_some<Owner, K>(
    owner: &Owner,
    view: &View<K>,
    matches: impl Fn(Option<&Labels>) -> bool,
    may_adopt: impl Fn(&K) -> bool,
) -> Result<Vec<Arc<K>>, SyncError>
where
    Owner: Adopter,
    K: Watched + Serialize,
    <K as Resource>::Scope: Reach<K>,
{
    let controlled = view.by_controller(meta::uid(owner));
    let mut orphans = view.orphans(meta::namespace(owner));
    orphans.retain(|orphan| may_adopt(orphan));
    let claim = decide(owner, controlled, orphans, matches);
    let mut ours = claim.ours;
    if !claim.adopt.is_empty() && !still_lives(owner, view.client()).await? {
        // What its deletion is about to let go must not be taken back: it would be deleted with it.
        return Ok(ours);
    }
    for object in claim.adopt {
        ours.extend(adopt(view, &*object, &meta::controller_reference(owner)).await?);
    }
    for object in claim.release {
        release(view, &*object, meta::uid(owner)).await?;
    }
    Ok(ours)
}

/// The owners that may adopt an object: those that pick it, unless somebody controls it already.
pub fn adopters<Owner: Watched>(
    view: &View<Owner>,
    object: &ObjectMeta,
    picks: impl Fn(&Owner, Option<&Labels>) -> bool,
) -> Vec<Key> {
    if meta::controller_of(object).is_some() || object.labels.as_ref().is_none_or(Labels::is_empty) {
        return Vec::new();
    }
    let owners = view.by_namespace(object.namespace.as_deref().unwrap_or_default());
    owners
        .iter()
        .filter(|owner| picks(owner, object.labels.as_ref()))
        .map(|owner| Key::of(&**owner))
        .collect()
}

/// Asks the API server, for the news of an owner's deletion may come after that of its dependents' release.
async fn still_lives<Owner: Adopter>(owner: &Owner, client: kube::Client) -> Result<bool, SyncError> {
    let api: Api<Owner> = Api::namespaced(client, meta::namespace(owner));
    let name = meta::name(owner);
    let found = api.get_metadata_opt(name).await;
    let found = found.context("get", || format!("{} {name}", Owner::kind(&())))?;
    Ok(found.is_some_and(|found| found.metadata.uid == owner.meta().uid && !meta::is_terminating(&found)))
}

async fn adopt<K>(view: &View<K>, object: &K, owner: &OwnerReference) -> Result<Option<Arc<K>>, SyncError>
where
    K: Watched + Serialize,
    <K as Resource>::Scope: Reach<K>,
{
    // The UID makes the patch fail on a successor of the same name.
    let patch = json!({"metadata": {"uid": meta::uid(object), "ownerReferences": [owner]}});
    gone_is_fine(view.strategic_patch(&Key::of(object), &patch).await)
}

async fn release<K>(view: &View<K>, object: &K, owner_uid: &str) -> Result<(), SyncError>
where
    K: Watched + Serialize,
    <K as Resource>::Scope: Reach<K>,
{
    let patch = json!({"metadata": {
        "uid": meta::uid(object),
        "ownerReferences": [{"$patch": "delete", "uid": owner_uid}],
    }});
    gone_is_fine(view.strategic_patch(&Key::of(object), &patch).await).map(drop)
}

fn gone_is_fine<T>(result: Result<T, SyncError>) -> Result<Option<T>, SyncError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str, app: &str, terminating: bool) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name, "uid": name, "labels": {"app": app}}});
        if terminating {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn pods_are_claimed_by_labels() {
        let matches = |labels: Option<&Labels>| {
            labels.is_some_and(|labels| labels.get("app").is_some_and(|app| app == "web"))
        };
        let names =
            |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| meta::name(&**pod).to_owned()).collect::<Vec<_>>();
        let check = |owner: Arc<Pod>, expected: [&[&str]; 3]| {
            let controlled =
                vec![pod("mine", "web", false), pod("relabelled", "other", false), pod("dying", "web", true)];
            let orphans =
                vec![pod("lost", "web", false), pod("lost-dying", "web", true), pod("stranger", "db", false)];
            let claim = decide(&*owner, controlled, orphans, matches);
            let found = [names(claim.ours), names(claim.adopt), names(claim.release)];
            assert_eq!(
                found,
                expected.map(|names| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
            );
        };
        check(pod("owner", "", false), [&["mine", "dying"], &["lost"], &["relabelled"]]);
        check(pod("owner", "", true), [&["mine", "dying"], &[], &[]]);
    }
}
