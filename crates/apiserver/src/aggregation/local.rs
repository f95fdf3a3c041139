//! The APIServices of what this server serves itself: made and removed as group versions come and go.

use std::sync::Arc;

use ahash::AHashSet;
use api::gvk::GroupVersion;
use api::registry::Registry;
use api::status::Status;
use parking_lot::Mutex;
use serde_json::json;

use super::controller::{condition, tell, writer};
use super::order::Rank;
use super::{GROUP, PLURAL};
use crate::catalog::Catalog;
use crate::crd;
use crate::options::{DeleteOptions, Query};
use crate::state::State;

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Makes those that are missing, and removes those of group versions that are gone.
pub async fn ensure(state: &Arc<State>, catalog: &Catalog) -> Result<(), Status> {
    let cache = state.caches.resource(GROUP, PLURAL);
    let mut wanted = AHashSet::new();
    for group in catalog.local().groups() {
        // It stands for what answers for all of them, not behind it.
        if group.name == GROUP {
            continue;
        }
        for version in &group.versions {
            let gv = GroupVersion::new(&group.name, version);
            let name = format!("{version}.{}", group.name);
            if cache.get(&name).is_none() {
                create(state, &name, &gv, Rank::local(&gv.group, &gv.version)).await?;
                let local = condition(true, "Local", "Local APIServices are always available");
                tell(state, &name, &local).await?;
            }
            wanted.insert(name);
        }
    }
    for extension in state.config.inside.iter() {
        let gv = GroupVersion::new(&extension.group, &extension.version);
        let name = format!("{}.{}", gv.version, gv.group);
        if cache.get(&name).is_none() {
            create(state, &name, &gv, Rank::INSIDE).await?;
        }
        wanted.insert(name);
    }
    let mut gone = Vec::new();
    cache.scan("", "", |object| {
        if object.meta.label(LABEL) == Some("true") && !wanted.contains(object.name()) {
            gone.push(object.name().to_owned());
        }
        true
    });
    for name in gone {
        remove(state, &name).await?;
    }
    Ok(())
}

async fn create(state: &Arc<State>, name: &str, gv: &GroupVersion, rank: Rank) -> Result<(), Status> {
    let builtin = Registry::builtin().has_group_version(&gv.group, &gv.version) || rank == Rank::INSIDE;
    let managed = if builtin { "onstart" } else { "true" };
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name, "labels": {LABEL: managed}},
        "spec": {
            "group": gv.group, "version": gv.version, "groupPriorityMinimum": rank.group,
            "versionPriority": rank.version,
        },
    });
    let (catalog, user, warnings) = (state.catalog(), crd::controller::user(), Mutex::default());
    let served = catalog.stored(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    match writer(state, served, &user, &warnings, name, "").create(object, false).await {
        Err(status) if !status.is("AlreadyExists") => Err(status),
        _ => Ok(()),
    }
}

async fn remove(state: &Arc<State>, name: &str) -> Result<(), Status> {
    let options = DeleteOptions::parse(&Query::default(), None)?;
    let (catalog, user, warnings) = (state.catalog(), crd::controller::user(), Mutex::default());
    let served = catalog.stored(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    match writer(state, served, &user, &warnings, name, "").delete(&options).await {
        Err(status) if !status.is("NotFound") => Err(status),
        _ => Ok(()),
    }
}
