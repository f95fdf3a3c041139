//! Pods that wait for a node.
//!
//! A pod that fits nowhere waits until something happens that may help it, as the plugins that refused it say; a
//! pod that failed again and again is let wait a little longer each time, unless nothing else is to do.

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::outcome::FailureNote;
use crate::plugins::Events;
use crate::pod::PodInfo;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// No pod waits longer than this for an event: one might have been overlooked.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A pod, and what has come of its attempts.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub pod: Arc<PodInfo>,
    pub attempts: u32,
    /// What was told of its last failure.
    pub told: Option<FailureNote>,
}

#[derive(Debug)]
enum Place {
    /// In the heap under this ticket; older tickets of the pod there are void.
    Active(u64),
    /// It failed for a reason of its own (such as a refused binding), and is tried again then.
    Backoff(Instant),
    /// It fits nowhere until one of these events.
    Unschedulable { helped_by: Events, until: Instant },
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    priority: i32,
    /// Of equal priority the one that came first: the smallest number.
    number: std::cmp::Reverse<u64>,
    uid: String,
}

#[derive(Default)]
pub struct Queue {
    pods: HashMap<String, (Waiting, Place)>,
    active: BinaryHeap<Ticket>,
    /// Those that fit nowhere, by what may help them, so that an event looks at nobody else.
    unschedulable: HashMap<Events, HashSet<String>>,
    timers: BTreeSet<(Instant, String)>,
    tickets: u64,
}

impl Queue {
    /// A pod that is new, or has changed so that it is worth a try at once.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        let (attempts, told) = match self.remove(&pod.uid) {
            Some(before) => (before.attempts, before.told),
            None => (0, None),
        };
        self.activate(Waiting { pod, attempts, told });
    }

    /// A pod that waits has changed in a way that makes no difference.
    pub fn update(&mut self, pod: Arc<PodInfo>) -> bool {
        let Some((waiting, _)) = self.pods.get_mut(&pod.uid) else { return false };
        waiting.pod = pod;
        true
    }

    pub fn remove(&mut self, uid: &str) -> Option<Waiting> {
        let (waiting, place) = self.pods.remove(uid)?;
        if let Place::Backoff(due) | Place::Unschedulable { until: due, .. } = place {
            self.timers.remove(&(due, uid.to_owned()));
        }
        if let Place::Unschedulable { helped_by, .. } = place
            && let Some(same) = self.unschedulable.get_mut(&helped_by)
        {
            same.remove(uid);
            if same.is_empty() {
                self.unschedulable.remove(&helped_by);
            }
        }
        Some(waiting)
    }

    /// Puts back a pod that fits nowhere.
    pub fn unschedulable(&mut self, mut waiting: Waiting, helped_by: Events, now: Instant) {
        waiting.attempts = waiting.attempts.saturating_add(1);
        self.wait(waiting, Place::Unschedulable { helped_by, until: now + LONGEST_WAIT });
    }

    /// Puts back a pod that could not be bound.
    pub fn failed(&mut self, mut waiting: Waiting, now: Instant) {
        waiting.attempts = waiting.attempts.saturating_add(1);
        let due = now + backoff(waiting.attempts);
        self.wait(waiting, Place::Backoff(due));
    }

    /// Something has happened: those whom it may help get another try.
    pub fn happened(&mut self, event: Events) {
        let helped = self.unschedulable.iter().filter(|(helped_by, _)| helped_by.intersects(event));
        let helped: Vec<String> = helped.flat_map(|(_, uids)| uids).cloned().collect();
        for uid in helped {
            if let Some(waiting) = self.remove(&uid) {
                self.activate(waiting);
            }
        }
    }

    /// The most important pod that is worth a try now.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, uid)) = self.timers.pop_first()
                && let Some(waiting) = self.remove(&uid)
            {
                self.activate(waiting);
            }
        }
        while let Some(ticket) = self.active.pop() {
            let valid = matches!(self.pods.get(&ticket.uid), Some((_, Place::Active(number))) if *number == ticket.number.0);
            if valid {
                return self.pods.remove(&ticket.uid).map(|(waiting, _)| waiting);
            }
        }
        None
    }

    /// When [`Queue::pop`] has something without any event.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn activate(&mut self, waiting: Waiting) {
        self.tickets += 1;
        let uid = waiting.pod.uid.clone();
        self.active.push(Ticket {
            priority: waiting.pod.priority,
            number: std::cmp::Reverse(self.tickets),
            uid: uid.clone(),
        });
        self.pods.insert(uid, (waiting, Place::Active(self.tickets)));
    }

    fn wait(&mut self, waiting: Waiting, place: Place) {
        let uid = waiting.pod.uid.clone();
        if let Place::Backoff(due) | Place::Unschedulable { until: due, .. } = place {
            self.timers.insert((due, uid.clone()));
        }
        if let Place::Unschedulable { helped_by, .. } = place {
            self.unschedulable.entry(helped_by).or_default().insert(uid.clone());
        }
        self.pods.insert(uid, (waiting, place));
    }
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(8)).min(LAST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, priority: i32) -> Arc<PodInfo> {
        let value = json!({"metadata": {"uid": uid}, "spec": {"containers": [], "priority": priority}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(value).unwrap())))
    }

    fn popped(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|waiting| waiting.pod.uid.clone()).collect()
    }

    #[test]
    fn important_pods_go_first_then_those_that_came_first() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.add(pod(uid, priority));
        }
        queue.add(pod("a", 0));
        queue.remove("b");
        assert_eq!(popped(&mut queue, now), ["d", "c", "a"]);
    }

    #[test]
    fn an_unschedulable_pod_waits_for_what_helps_it() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(pod("a", 0));
        let waiting = queue.pop(now).unwrap();
        queue.unschedulable(waiting, Events::NODE_TAINTS, now);
        queue.happened(Events::POD_REMOVED);
        assert!(queue.pop(now).is_none());
        queue.happened(Events::NODE_TAINTS.or(Events::NODE_LABELS));
        assert_eq!(popped(&mut queue, now), ["a"]);
        assert!(queue.timers.is_empty() && queue.unschedulable.is_empty());
    }

    #[test]
    fn no_pod_waits_for_ever() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(pod("a", 0));
        let waiting = queue.pop(now).unwrap();
        queue.unschedulable(waiting, Events::NONE, now);
        assert_eq!(queue.next_due(), Some(now + LONGEST_WAIT));
        assert_eq!(popped(&mut queue, now + LONGEST_WAIT), ["a"]);
    }

    #[test]
    fn failures_wait_longer_each_time() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(pod("a", 0));
        let mut at = now;
        for seconds in [1, 2, 4, 8, 10, 10] {
            let waiting = queue.pop(at).expect("due");
            queue.failed(waiting, at);
            assert_eq!(queue.next_due(), Some(at + Duration::from_secs(seconds)));
            at += Duration::from_secs(seconds);
        }
        queue.remove("a");
        assert!(queue.timers.is_empty() && queue.pop(at).is_none());
    }
}
