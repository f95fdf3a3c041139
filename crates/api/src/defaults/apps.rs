//! Deployments, ReplicaSets, StatefulSets and DaemonSets.

use super::edit::{Object, each, ensure, get, set, set_text, text};
use super::{pod, storage};

pub fn deployment(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(rolling) = rolling_update(spec, "strategy") {
        set(rolling, "maxUnavailable", "25%");
        set(rolling, "maxSurge", "25%");
    }
    pod::template(spec);
}

/// Makes a strategy RollingUpdate unless it is another; returns the parameters if it is.
fn rolling_update<'a>(spec: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    let strategy = ensure(spec, field)?;
    set_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") != "RollingUpdate" {
        return None;
    }
    ensure(strategy, "rollingUpdate")
}

pub fn replica_set(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set(spec, "replicas", 1);
    pod::template(spec);
}

pub fn stateful_set(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set_text(spec, "podManagementPolicy", "OrderedReady");
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    if let Some(rolling) = rolling_update(spec, "updateStrategy") {
        set(rolling, "partition", 0);
    }
    if let Some(retention) = ensure(spec, "persistentVolumeClaimRetentionPolicy") {
        set_text(retention, "whenDeleted", "Retain");
        set_text(retention, "whenScaled", "Retain");
    }
    each(spec, "volumeClaimTemplates", |claim| {
        set_text(claim, "apiVersion", "v1");
        set_text(claim, "kind", "PersistentVolumeClaim");
        storage::persistent_volume_claim(claim);
    });
    pod::template(spec);
}

pub fn daemon_set(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set(spec, "revisionHistoryLimit", 10);
    if let Some(rolling) = rolling_update(spec, "updateStrategy") {
        set(rolling, "maxUnavailable", 1);
        set(rolling, "maxSurge", 0);
    }
    pod::template(spec);
}
