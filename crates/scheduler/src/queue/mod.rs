//! Pods that wait for a node.
//!
//! A pod that fits nowhere waits until something happens that may help it, as the plugins that refused it say
//! ([`hints`]). One that has failed lately is let wait a little longer each time, unless nothing else is to do.
//! Nothing is looked through from time to time but for one thing: after five minutes a pod is tried again whatever
//! has happened, for an event might have been overlooked.

pub mod events;
pub mod hints;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::outcome::FailureNote;
use crate::plugins::PluginSet;
use crate::pod::PodInfo;
pub use events::{Event, Kinds};

/// No pod waits longer than this for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A pod, and what has come of its attempts.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub pod: Arc<PodInfo>,
    /// Whose pod it is, by number.
    pub profile: usize,
    pub attempts: u32,
    /// Failures that were not the pod's: a refused binding, an extender that does not answer.
    pub errors: u32,
    pub since: Instant,
    /// Not to be tried before, unless nothing else is to do.
    pub backoff: Option<Instant>,
    /// What was told of its last failure.
    pub told: Option<FailureNote>,
}

impl Waiting {
    pub fn new(pod: Arc<PodInfo>, profile: usize, now: Instant) -> Self {
        Self { pod, profile, attempts: 0, errors: 0, since: now, backoff: None, told: None }
    }
}

#[derive(Debug)]
enum Place {
    /// In the heap under this ticket; older tickets of the pod there are void.
    Active(u64),
    /// It was helped, or failed for no fault of its own, and is tried again then.
    Backoff { until: Instant, error: bool },
    /// These plugins refused it; it waits for something that makes one of them think again.
    Unschedulable { refused_by: PluginSet, until: Instant },
    /// Somebody holds it back.
    Gated,
}

impl Place {
    const fn name(&self) -> &'static str {
        match self {
            Self::Active(_) => "active",
            Self::Backoff { .. } => "backoff",
            Self::Unschedulable { .. } => "unschedulable",
            Self::Gated => "gated",
        }
    }
}

// By what a pod comes to its place, as metrics name it, besides what happens in the cluster.
const POD_ADD: &str = "PodAdd";
const FAILURE: &str = "ScheduleAttemptFailure";
const BACKOFF_COMPLETE: &str = "BackoffComplete";

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    priority: i32,
    /// Of equal priority the one that came first: the smallest number.
    number: std::cmp::Reverse<u64>,
    uid: Arc<str>,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

pub struct Queue {
    pods: HashMap<Arc<str>, (Waiting, Place), ahash::RandomState>,
    active: BinaryHeap<Ticket>,
    /// Those that fit nowhere, by who refused them, so that an event looks at nobody else.
    unschedulable: HashMap<PluginSet, HashSet<Arc<str>>>,
    /// Those that are let wait though they may be helped, in the order of their time.
    backoff: BTreeSet<(Instant, Arc<str>)>,
    timers: BTreeSet<(Instant, Arc<str>)>,
    tickets: u64,
    pending: Pending,
    /// By what and where to.
    incoming: HashMap<(&'static str, &'static str), u64, ahash::RandomState>,
    initial_backoff: Duration,
    longest_backoff: Duration,
}

impl Queue {
    pub fn new(initial_backoff: Duration, longest_backoff: Duration) -> Self {
        Self {
            pods: HashMap::default(),
            active: BinaryHeap::new(),
            unschedulable: HashMap::new(),
            backoff: BTreeSet::new(),
            timers: BTreeSet::new(),
            tickets: 0,
            pending: Pending::default(),
            incoming: HashMap::default(),
            initial_backoff,
            longest_backoff,
        }
    }

    pub fn pending(&self) -> Pending {
        self.pending
    }

    pub fn incoming(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.incoming.iter().map(|((event, queue), count)| (*event, *queue, *count))
    }

    pub fn get_mut(&mut self, uid: &str) -> Option<&mut Waiting> {
        self.pods.get_mut(uid).map(|(waiting, _)| waiting)
    }

    /// A pod that is new, or has changed so that it is worth a try.
    pub fn add(&mut self, pod: Arc<PodInfo>, profile: usize, now: Instant) {
        let waiting = match self.remove(&pod.uid) {
            Some(before) => Waiting { pod, profile, ..before },
            None => Waiting::new(pod, profile, now),
        };
        self.helped(waiting, POD_ADD, now);
    }

    /// A pod that somebody holds back.
    pub fn gate(&mut self, pod: Arc<PodInfo>, profile: usize, now: Instant) {
        let waiting = match self.remove(&pod.uid) {
            Some(before) => Waiting { pod, profile, ..before },
            None => Waiting::new(pod, profile, now),
        };
        self.put(waiting, Place::Gated, POD_ADD);
    }

    /// A pod that waits has changed in a way that makes no difference.
    pub fn update(&mut self, pod: &Arc<PodInfo>) -> bool {
        let Some((waiting, _)) = self.pods.get_mut(&pod.uid) else { return false };
        waiting.pod = pod.clone();
        true
    }

    pub fn remove(&mut self, uid: &str) -> Option<Waiting> {
        let (uid, (waiting, place)) = self.pods.remove_entry(uid)?;
        match place {
            Place::Active(_) => self.pending.active -= 1,
            Place::Backoff { until, error } => {
                self.pending.backoff -= 1;
                let timer = (until, uid);
                self.timers.remove(&timer);
                if !error {
                    self.backoff.remove(&timer);
                }
            }
            Place::Unschedulable { refused_by, until } => {
                self.pending.unschedulable -= 1;
                if let Some(same) = self.unschedulable.get_mut(&refused_by) {
                    same.remove(&uid);
                    if same.is_empty() {
                        self.unschedulable.remove(&refused_by);
                    }
                }
                self.timers.remove(&(until, uid));
            }
            Place::Gated => self.pending.gated -= 1,
        }
        Some(waiting)
    }

    /// Puts back a pod that fits nowhere.
    pub fn refused(&mut self, mut waiting: Waiting, refused_by: PluginSet, now: Instant) {
        waiting.attempts = waiting.attempts.saturating_add(1);
        waiting.errors = 0;
        waiting.backoff = Some(now + self.backoff(waiting.attempts));
        self.put(waiting, Place::Unschedulable { refused_by, until: now + LONGEST_WAIT }, FAILURE);
    }

    /// Puts back a pod that failed for no fault of its own.
    pub fn failed(&mut self, mut waiting: Waiting, now: Instant) {
        waiting.errors = waiting.errors.saturating_add(1);
        let until = now + self.backoff(waiting.errors);
        waiting.backoff = Some(until);
        self.put(waiting, Place::Backoff { until, error: true }, FAILURE);
    }

    /// Something has happened: those whom it may help get another try. `helps` looks closer, at who refused a pod
    /// and at the pod.
    pub fn happened(&mut self, kinds: Kinds, now: Instant, helps: impl Fn(PluginSet, &Waiting) -> bool) {
        if self.unschedulable.is_empty() {
            return;
        }
        let mut helped: Vec<Arc<str>> = Vec::new();
        for (refused_by, uids) in &self.unschedulable {
            if !refused_by.iter().any(|plugin| hints::kinds(plugin).intersects(kinds)) {
                continue;
            }
            let is_helped =
                |uid: &&Arc<str>| self.pods.get(*uid).is_some_and(|(waiting, _)| helps(*refused_by, waiting));
            helped.extend(uids.iter().filter(is_helped).cloned());
        }
        for uid in helped {
            if let Some(waiting) = self.remove(&uid) {
                self.helped(waiting, kinds.label(), now);
            }
        }
    }

    /// The most important pod that is worth a try now; with none, one of those that were to wait a little.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, uid)) = self.timers.pop_first()
                && let Some(mut waiting) = self.remove(&uid)
            {
                waiting.backoff = None;
                self.helped(waiting, BACKOFF_COMPLETE, now);
            }
        }
        while let Some(ticket) = self.active.pop() {
            let valid = matches!(self.pods.get(&ticket.uid), Some((_, Place::Active(number))) if *number == ticket.number.0);
            if valid {
                return self.remove(&ticket.uid);
            }
        }
        let (_, uid) = self.backoff.first()?.clone();
        self.remove(&uid)
    }

    /// When [`Queue::pop`] has something without any event.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn helped(&mut self, waiting: Waiting, event: &'static str, now: Instant) {
        match waiting.backoff.filter(|until| *until > now) {
            Some(until) => self.put(waiting, Place::Backoff { until, error: false }, event),
            None => {
                self.tickets += 1;
                self.active.push(Ticket {
                    priority: waiting.pod.priority,
                    number: std::cmp::Reverse(self.tickets),
                    uid: waiting.pod.uid.clone(),
                });
                self.put(waiting, Place::Active(self.tickets), event);
            }
        }
    }

    fn put(&mut self, waiting: Waiting, place: Place, event: &'static str) {
        let uid = waiting.pod.uid.clone();
        *self.incoming.entry((event, place.name())).or_default() += 1;
        match place {
            Place::Active(_) => self.pending.active += 1,
            Place::Backoff { until, error } => {
                self.pending.backoff += 1;
                self.timers.insert((until, uid.clone()));
                if !error {
                    self.backoff.insert((until, uid.clone()));
                }
            }
            Place::Unschedulable { refused_by, until } => {
                self.pending.unschedulable += 1;
                self.timers.insert((until, uid.clone()));
                self.unschedulable.entry(refused_by).or_default().insert(uid.clone());
            }
            Place::Gated => self.pending.gated += 1,
        }
        self.pods.insert(uid, (waiting, place));
    }

    fn backoff(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.initial_backoff.saturating_mul(factor).min(self.longest_backoff)
    }
}
