//! How the sizes of the ReplicaSets change during a rollout, never leaving too few pods available nor having too
//! many. Free of IO.

use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, Sets};
use crate::kit::intstr::{Round, resolve};

pub fn desired(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn is_recreate(spec: &DeploymentSpec) -> bool {
    let strategy = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    strategy == Some("Recreate")
}

/// How many pods there may be beyond, and how many may be missing of, those desired.
fn fence_posts(spec: &DeploymentSpec) -> (i32, i32) {
    if is_recreate(spec) {
        return (0, 0);
    }
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let value = |value: Option<&IntOrString>, round| {
        resolve(value.unwrap_or(&quarter), desired(spec), round).unwrap_or(0).max(0)
    };
    let surge = value(rolling.and_then(|rolling| rolling.max_surge.as_ref()), Round::Up);
    let unavailable = value(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), Round::Down);
    // Without any room nothing could ever move.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub fn max_surge(spec: &DeploymentSpec) -> i32 {
    fence_posts(spec).0
}

pub fn max_unavailable(spec: &DeploymentSpec) -> i32 {
    fence_posts(spec).1.min(desired(spec))
}

/// Sets the size of a ReplicaSet, and notes the size of the Deployment it was meant for.
pub fn resize(spec: &DeploymentSpec, set: &mut ReplicaSet, replicas: i32) {
    if let Some(set_spec) = &mut set.spec {
        set_spec.replicas = Some(replicas);
    }
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.to_owned(), desired(spec).to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), (desired(spec) + max_surge(spec)).to_string());
}

/// The size that the new ReplicaSet, now of `current` replicas, may have.
pub fn new_replicas(spec: &DeploymentSpec, sets: &Sets, current: i32) -> i32 {
    if is_recreate(spec) {
        return desired(spec);
    }
    let most = desired(spec) + max_surge(spec);
    let total: i32 = sets.all().map(size).sum();
    if total >= most {
        return current;
    }
    current + (most - total).min(desired(spec) - current)
}

/// Grows (or, after a scale-down, shrinks) the new ReplicaSet. Whether anything changed.
pub fn grow_new(spec: &DeploymentSpec, sets: &mut Sets) -> bool {
    let Some(current) = sets.new.as_ref().map(size) else {
        return false;
    };
    let target = match current.cmp(&desired(spec)) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => desired(spec),
        std::cmp::Ordering::Less => new_replicas(spec, sets, current),
    };
    match &mut sets.new {
        Some(new) if target != current => {
            resize(spec, new, target);
            true
        }
        _ => false,
    }
}

/// Shrinks old ReplicaSets by as much as the available pods allow. Whether anything changed.
pub fn shrink_old(spec: &DeploymentSpec, sets: &mut Sets) -> bool {
    let total: i32 = sets.all().map(size).sum();
    let least = desired(spec) - max_unavailable(spec);
    let new_unavailable = sets.new.as_ref().map_or(0, |new| (size(new) - available(new)).max(0));
    let mut room = total - least - new_unavailable;
    let mut changed = false;

    // Pods that serve nobody go first: their loss costs nothing.
    for set in sets.old.iter_mut().filter(|set| size(set) > 0) {
        let sick = (size(set) - available(set)).clamp(0, room.max(0));
        if sick > 0 {
            resize(spec, set, size(set) - sick);
            room -= sick;
            changed = true;
        }
    }

    // Of those that serve, as many as leave enough available.
    let serving: i32 = sets.all().map(available).sum();
    let mut spare = (serving - least).min(room);
    for set in sets.old.iter_mut().filter(|set| size(set) > 0) {
        let down = size(set).min(spare);
        if down <= 0 {
            break;
        }
        resize(spec, set, size(set) - down);
        spare -= down;
        changed = true;
    }
    changed
}
