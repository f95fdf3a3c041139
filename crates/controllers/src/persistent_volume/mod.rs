//! Binds claims to volumes that exist, and tells the phases of both. Provisioning new volumes is the business of
//! external provisioners, which are told by the annotation that they look for.

mod claims;
mod matching;
mod volumes;

use std::sync::Arc;

use crate::Loops;
use crate::kit::{Key, Queue, World, meta};
use claims::Claims;
use volumes::Volumes;

/// On whichever of the two was bound here, rather than by who made it.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let claims = Queue::default();
    let volumes = Queue::default();
    let (due, other) = (claims.clone(), volumes.clone());
    world.persistent_volume_claims.on(move |change| {
        let Some(claim) = change.object() else { return };
        if change.new.is_some() {
            due.add(Key::of(&**claim));
        }
        if let Some(volume) = claims::volume_name(claim) {
            other.add(Key::cluster(volume));
        }
    });
    let (due, other, seen) = (volumes.clone(), claims.clone(), world.clone());
    world.persistent_volumes.on(move |change| {
        let Some(volume) = change.object() else { return };
        if change.new.is_some() {
            due.add(Key::of(&**volume));
        }
        match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
            Some(claim) => other.add(Key::new(
                claim.namespace.clone().unwrap_or_default(),
                claim.name.clone().unwrap_or_default(),
            )),
            // A free volume may suit any claim that waits.
            None => make_waiting_due(&seen, &other, |_| true),
        }
    });
    let (due, seen) = (claims.clone(), world.clone());
    world.storage_classes.on(move |change| {
        let Some(class) = change.new else { return };
        make_waiting_due(&seen, &due, |asked| asked.is_none_or(|asked| asked == meta::name(&**class)));
    });
    loops.add(Claims { world: world.clone() }, claims.clone());
    loops.add(Volumes { world: world.clone(), claims }, volumes);
}

/// Makes the claims due that have no volume yet and ask for such a class.
fn make_waiting_due(world: &World, due: &Queue, of_class: impl Fn(Option<&str>) -> bool) {
    for claim in world.persistent_volume_claims.list() {
        if claims::phase(&claim) != Some("Bound") && of_class(matching::asked_class(&claim)) {
            due.add(Key::of(&*claim));
        }
    }
}
