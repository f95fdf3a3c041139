//! Tells kubelets for how long they may answer from their caches of Secrets and ConfigMaps: the more nodes there are,
//! the longer, so that a large cluster does not ask the API server all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Sizes of clusters and what holds there. They overlap, so that one node more or less does not change all others.
const STEPS: [Step; 5] = [
    Step { least: 0, most: 100, seconds: 0 },
    Step { least: 90, most: 500, seconds: 15 },
    Step { least: 450, most: 1000, seconds: 30 },
    Step { least: 900, most: 2000, seconds: 60 },
    Step { least: 1800, most: usize::MAX, seconds: 300 },
];

struct Step {
    least: usize,
    most: usize,
    seconds: u32,
}

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let step = Arc::new(AtomicUsize::new(0));
    let nodes = AtomicUsize::new(0);
    let (due, seen, current) = (queue.clone(), world.clone(), step.clone());
    world.nodes.on(move |change| {
        let count = match (change.old, change.new) {
            (None, Some(_)) => nodes.fetch_add(1, Ordering::Relaxed) + 1,
            (Some(_), None) => nodes.fetch_sub(1, Ordering::Relaxed) - 1,
            _ => nodes.load(Ordering::Relaxed),
        };
        let before = current.load(Ordering::Relaxed);
        let now = next_step(before, count);
        current.store(now, Ordering::Relaxed);
        if now != before {
            seen.nodes.list().iter().for_each(|node| due.add(Key::of(&**node)));
        } else if let Some(node) = change.new {
            due.add(Key::of(&**node));
        }
    });
    loops.add(Ttl { world: world.clone(), step }, queue);
}

fn next_step(current: usize, nodes: usize) -> usize {
    let mut step = current.min(STEPS.len() - 1);
    while STEPS.get(step).is_some_and(|at| nodes > at.most) {
        step += 1;
    }
    while step > 0 && STEPS.get(step).is_some_and(|at| nodes < at.least) {
        step -= 1;
    }
    step
}

struct Ttl {
    world: Arc<World>,
    step: Arc<AtomicUsize>,
}

impl Controller for Ttl {
    const NAME: &'static str = "ttl-controller";
    const QUEUE: &'static str = "ttlcontroller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(node) = self.world.nodes.by_key(key) else { return Ok(None) };
        let Some(step) = STEPS.get(self.step.load(Ordering::Relaxed)) else { return Ok(None) };
        let wanted = step.seconds.to_string();
        if meta::annotation(&*node, ANNOTATION) != Some(&wanted) {
            let patch = json!({"metadata": {"uid": meta::uid(&*node), "annotations": {ANNOTATION: wanted}}});
            self.world.nodes.merge_patch(key, &patch).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        let check = |from: usize, nodes: usize, seconds: u32| {
            assert_eq!(STEPS[next_step(from, nodes)].seconds, seconds, "{nodes} nodes from step {from}");
        };
        check(0, 1, 0);
        check(0, 100, 0);
        check(0, 101, 15);
        check(1, 95, 15);
        check(1, 89, 0);
        check(0, 700, 30);
        check(0, 5000, 300);
        check(4, 1900, 300);
        check(4, 3, 0);
    }
}
