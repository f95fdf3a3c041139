//! Says of claims that want to grow who is to make them: the CSI driver's own resizer.

use std::sync::Arc;
use std::time::Duration;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

const STORAGE: &str = "storage";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.persistent_volume_claims.on(move |change| {
        let Some(claim) = change.new.filter(|claim| wants_to_grow(claim)) else { return };
        // Said once for each wish, not for each change of the claim.
        if change.old.and_then(|claim| wanted(claim)) != wanted(claim) {
            due.add(Key::of(&**claim));
        }
    });
    loops.add(VolumeExpand { world: world.clone() }, queue);
}

fn wanted(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get(STORAGE)?.0).ok()
}

fn wants_to_grow(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    let has = status
        .and_then(|status| status.capacity.as_ref())
        .and_then(|capacity| Quantity::parse(&capacity.get(STORAGE)?.0).ok());
    bound && has.is_some_and(|has| wanted(claim).is_some_and(|wanted| wanted > has))
}

struct VolumeExpand {
    world: Arc<World>,
}

impl Controller for VolumeExpand {
    const NAME: &'static str = "persistentvolume-expander-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(claim) = self.world.persistent_volume_claims.by_key(key) else { return Ok(None) };
        if wants_to_grow(&claim) && !meta::is_terminating(&*claim) {
            let message = "waiting for an external controller to expand this PVC";
            self.world.events.normal("volume_expand", &*claim, "ExternalExpanding", message);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn growth_is_a_larger_request_of_a_bound_claim() {
        let check = |phase: &str, wanted: &str, has: &str, expected: bool| {
            let claim = serde_json::from_value(json!({"metadata": {"name": "c"},
                "spec": {"resources": {"requests": {"storage": wanted}}},
                "status": {"phase": phase, "capacity": {"storage": has}}}))
            .unwrap();
            assert_eq!(wants_to_grow(&claim), expected, "{phase} {wanted} {has}");
        };
        check("Bound", "2Gi", "1Gi", true);
        check("Bound", "1Gi", "1024Mi", false);
        check("Pending", "2Gi", "1Gi", false);
    }
}
