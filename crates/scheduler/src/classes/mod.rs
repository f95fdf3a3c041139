//! Pods that are alike are judged alike: what has been worked out about all nodes for one of them is kept, and only
//! nodes that have changed since are looked at for the next. A decision thus costs what has changed, plus the choice
//! of the best among numbers.
//!
//! [`local`] keeps what can be said of each node by itself, and is shared by all pods with the same wishes, whatever
//! they are called. [`cross`] keeps counts over several nodes for pods that have constraints across nodes, or that
//! others have such about.

pub mod affinity;
pub mod cross;
mod key;
pub mod local;
pub mod spread;
pub mod tally;

use std::collections::HashMap;

pub use cross::CrossClass;
pub use key::{Key, Keys};
pub use local::LocalClass;

use crate::cluster::Cluster;
use crate::config::Profile;
use crate::pod::PodInfo;

/// Classes kept of each sort. The one that was not asked for longest makes room.
const KEPT: usize = 64;

#[derive(Default)]
pub struct Classes {
    keys: Keys,
    local: HashMap<Key, LocalClass>,
    cross: HashMap<Key, CrossClass>,
    clock: u64,
}

impl Classes {
    /// What is known to pods like this one, brought up to date.
    pub fn of(
        &mut self,
        at: usize,
        profile: &Profile,
        pod: &PodInfo,
        cluster: &Cluster,
    ) -> (&LocalClass, Option<&CrossClass>) {
        self.clock += 1;
        let clock = self.clock;
        let local_key = self.keys.local(at, pod, cluster.devices.names_version());
        make_room(&mut self.local, &local_key, |class| class.used);
        let local = self.local.entry(local_key).or_insert_with(|| LocalClass::new(pod, profile, cluster));
        local.refresh(cluster);
        local.used = clock;
        let Some(wishes) = cross::Wishes::of(pod, profile, cluster) else { return (local, None) };
        let cross_key = self.keys.cross(local_key, pod, &wishes.labels, &wishes.constraints);
        make_room(&mut self.cross, &cross_key, |class| class.used);
        let cross =
            self.cross.entry(cross_key).or_insert_with(|| CrossClass::new(pod, wishes, profile, cluster));
        cross.refresh(cluster, &local.judges, profile);
        cross.used = clock;
        (local, Some(cross))
    }
}

fn make_room<C>(classes: &mut HashMap<Key, C>, wanted: &Key, used: impl Fn(&C) -> u64) {
    if classes.len() < KEPT || classes.contains_key(wanted) {
        return;
    }
    if let Some(oldest) = classes.iter().min_by_key(|(_, class)| used(class)).map(|(key, _)| *key) {
        classes.remove(&oldest);
    }
}
