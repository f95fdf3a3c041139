//! Changing the size of a Deployment in the middle of a rollout, or while it is paused: every active ReplicaSet
//! gets its share. Free of IO.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, Sets, revision};
use super::rolling::{self, available, desired, resize, size};
use crate::kit::meta;

/// Whether the size of the Deployment has changed since its ReplicaSets were last sized.
pub fn is_scaling(spec: &DeploymentSpec, sets: &Sets) -> bool {
    sets.all()
        .filter(|set| size(set) > 0)
        .any(|set| number(set, DESIRED_REPLICAS).is_some_and(|meant_for| meant_for != desired(spec)))
}

fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    meta::annotation(set, annotation)?.parse().ok()
}

/// Gives each ReplicaSet its share of the new size.
pub fn scale(deployment: &Deployment, spec: &DeploymentSpec, sets: &mut Sets) {
    if let Some(only) = active_or_latest(sets) {
        if size(only) != desired(spec) {
            resize(spec, only, desired(spec));
        }
        return;
    }
    if sets.new.as_ref().is_some_and(|new| is_saturated(spec, new)) {
        for old in sets.old.iter_mut().filter(|set| size(set) > 0) {
            resize(spec, old, 0);
        }
        return;
    }
    if !rolling::is_recreate(spec) {
        proportionally(deployment, spec, sets);
    }
}

/// The only active ReplicaSet; without any, the one that would be.
fn active_or_latest(sets: &mut Sets) -> Option<&mut ReplicaSet> {
    let active = sets.all().filter(|set| size(set) > 0).count();
    match active {
        0 if sets.new.is_some() => sets.new.as_mut(),
        0 => sets.old.iter_mut().max_by_key(|set| revision(set)),
        1 => sets.old.iter_mut().chain(&mut sets.new).find(|set| size(set) > 0),
        _ => None,
    }
}

/// Whether the new ReplicaSet carries everything.
fn is_saturated(spec: &DeploymentSpec, new: &ReplicaSet) -> bool {
    let all = desired(spec);
    size(new) == all && number(new, DESIRED_REPLICAS) == Some(all) && available(new) == all
}

fn proportionally(deployment: &Deployment, spec: &DeploymentSpec, sets: &mut Sets) {
    let mut active: Vec<&mut ReplicaSet> =
        sets.old.iter_mut().chain(&mut sets.new).filter(|set| size(set) > 0).collect();
    let total: i32 = active.iter().map(|set| size(set)).sum();
    let allowed = if desired(spec) > 0 { desired(spec) + rolling::max_surge(spec) } else { 0 };
    let to_add = allowed - total;
    // The largest takes the remainder; of equals, the newer grows and the older shrinks.
    active.sort_by(|a, b| {
        let age = |set: &ReplicaSet| set.metadata.creation_timestamp.clone();
        let by_age = if to_add > 0 { age(b).cmp(&age(a)) } else { age(a).cmp(&age(b)) };
        size(b).cmp(&size(a)).then(by_age)
    });
    let mut added = 0;
    let shares: Vec<i32> = active
        .iter()
        .map(|set| {
            let share = share(deployment, spec, set, to_add, added);
            added += share;
            share
        })
        .collect();
    for (at, (set, share)) in active.into_iter().zip(shares).enumerate() {
        let remainder = if at == 0 { to_add - added } else { 0 };
        let target = (size(set) + share + remainder).max(0);
        resize(spec, set, target);
    }
}

fn share(deployment: &Deployment, spec: &DeploymentSpec, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if to_add == 0 || to_add == added {
        return 0;
    }
    let left = to_add - added;
    let fraction = fraction(deployment, spec, set);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// By how much a set changes if it keeps its part of the whole.
fn fraction(deployment: &Deployment, spec: &DeploymentSpec, set: &ReplicaSet) -> i32 {
    if desired(spec) == 0 {
        return -size(set);
    }
    let told = deployment.status.as_ref().and_then(|status| status.replicas);
    let Some(meant_for) = number(set, MAX_REPLICAS).or(told).filter(|total| *total > 0) else {
        return 0;
    };
    let most = desired(spec) + rolling::max_surge(spec);
    let share = f64::from(size(set)) * f64::from(most) / f64::from(meant_for);
    #[expect(clippy::cast_possible_truncation, reason = "a share of an i32; `as` saturates")]
    let share = share.round() as i32;
    share.saturating_sub(size(set))
}
