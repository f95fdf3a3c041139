//! The scheduler without the world around it: what has happened goes in, decisions come out.
//!
//! It is free of IO and of clocks, so that it can be tested and measured by itself. A pod that it has decided over
//! is counted on its node at once; the decision's end ([`Core::bound`], [`Core::unbound`]) is told to it later.

use std::collections::HashMap;
use std::sync::Arc;

use client::Delta;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Resource;
use tokio::time::Instant;

use crate::budgets::Budgets;
use crate::classes::Classes;
use crate::cluster::{Cluster, Slot};
use crate::config::{Config, Profile};
use crate::decide::preemption::{self, Preemption};
use crate::decide::{self, Attempt, Misfit, Nominated};
pub use crate::decision::{Assignment, Decision, Failure, Reservation, Verdict};
use crate::devices::{awaits_claims, unmade};
use crate::plugins::{PluginId, Refusal};
use crate::pod::{self, PodInfo};
use crate::queue::{Event, Kinds, Pending, Queue, Waiting, hints};
use crate::random::Random;
use crate::stages::{Stage, Stages};
use crate::storage::{ClaimState, Plan};

/// What comes of looking at a pod once.
enum Opinion {
    Fits(String),
    Ask(Vec<(String, i64)>),
    Misfit(Misfit),
    Nowhere(Misfit, Preemption),
}

pub struct Core {
    profiles: Vec<Profile>,
    pub cluster: Cluster,
    pub budgets: Budgets,
    classes: Classes,
    queue: Queue,
    nominated: Nominated,
    nominations: HashMap<Arc<str>, String>,
    /// Pods decided over that the watch does not show as assigned yet, as they were last told of.
    deciding: HashMap<Arc<str>, Arc<PodInfo>, ahash::RandomState>,
    /// Whether extenders want to be asked about a pod.
    consults: Box<dyn Fn(&PodInfo) -> bool + Send>,
    random: Random,
    start: usize,
    /// Of the last decision.
    pub stages: Stages,
}

impl Core {
    pub fn new(config: &Config) -> Self {
        Self {
            profiles: config.profiles.clone(),
            cluster: Cluster::default(),
            budgets: Budgets::default(),
            classes: Classes::default(),
            queue: Queue::new(config.initial_backoff, config.longest_backoff),
            nominated: Nominated::new(),
            nominations: HashMap::new(),
            deciding: HashMap::default(),
            consults: Box::new(|_| false),
            random: Random::default(),
            start: 0,
            stages: Stages::default(),
        }
    }

    /// Pods for which this holds are not decided over without [`Decision::Consult`].
    pub fn consult(&mut self, consults: impl Fn(&PodInfo) -> bool + Send + 'static) {
        self.consults = Box::new(consults);
    }

    pub fn profile(&self, at: usize) -> Option<&Profile> {
        self.profiles.get(at)
    }

    pub fn pending(&self) -> Pending {
        self.queue.pending()
    }

    /// How many pods came to each part of the queue, and by what.
    pub fn incoming(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.queue.incoming()
    }

    /// How many nodes there are, pods on them, and of these pods that the watch does not show there yet.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.cluster.live, self.cluster.pods(), self.deciding.len())
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// Tells those whom it may help that something has happened.
    pub fn happened(&mut self, event: Event<'_>, now: Instant) {
        fire(&mut self.queue, &self.profiles, &self.cluster, event, now);
    }

    pub fn namespace_changed(&mut self, delta: &Delta<Namespace>) {
        match delta {
            Delta::Added(namespace) | Delta::Updated { new: namespace, .. } => {
                self.cluster.set_namespace(namespace);
            }
            Delta::Deleted(namespace) => {
                self.cluster.remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            Delta::Synced => {}
        }
    }

    pub fn node_changed(&mut self, delta: &Delta<Node>, now: Instant) {
        let kinds = match delta {
            Delta::Added(node) => {
                self.cluster.set_node(node.clone());
                Kinds::NODE_ADDED
            }
            Delta::Updated { old, new } => {
                let kinds = Kinds::of_node(old, new);
                let images = |node: &Node| node.status.as_ref().and_then(|status| status.images.clone());
                // A heartbeat changes nothing that anybody here looks at.
                if !kinds.is_none() || images(old) != images(new) {
                    self.cluster.set_node(new.clone());
                }
                kinds
            }
            Delta::Deleted(node) => {
                self.cluster.remove_node(node.metadata.name.as_deref().unwrap_or_default());
                return;
            }
            Delta::Synced => return,
        };
        let name = delta.object().and_then(|node| node.meta().name.as_deref()).unwrap_or_default();
        if let Some(node) = self.cluster.node(name).filter(|_| !kinds.is_none()) {
            fire(&mut self.queue, &self.profiles, &self.cluster, Event::Node(kinds, node), now);
        }
    }

    pub fn pod_changed(&mut self, delta: &Delta<Pod>, now: Instant) {
        match delta {
            Delta::Added(pod) => self.pod_is(None, pod, now),
            Delta::Updated { old, new } => {
                if old.metadata.uid != new.metadata.uid {
                    self.pod_is_gone(old, now);
                }
                self.pod_is(Some(old), new, now);
            }
            Delta::Deleted(pod) => self.pod_is_gone(pod, now),
            Delta::Synced => {}
        }
    }

    fn pod_is(&mut self, old: Option<&Pod>, pod: &Arc<Pod>, now: Instant) {
        if pod::is_finished(pod) {
            self.pod_is_gone(pod, now);
            return;
        }
        match pod::node_name(pod) {
            Some(node) => self.pod_is_assigned(old, pod, node, now),
            None => self.pod_waits(old, pod, now),
        }
    }

    fn pod_is_assigned(&mut self, old: Option<&Pod>, pod: &Arc<Pod>, node: &str, now: Instant) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.queue.remove(uid);
        self.deciding.remove(uid);
        self.forget_nomination(uid);
        let new = Arc::new(PodInfo::new(pod.clone()));
        let before = self.cluster.pod(uid).map(|(known, slot)| {
            let here = self.cluster.nodes.get(slot).is_some_and(|state| state.name == node);
            (known.clone(), here)
        });
        let before = match before {
            // Most updates of a running pod change its status only.
            Some((known, true)) if known.counts_as(&new) => {
                self.cluster.refresh_pod(new);
                return;
            }
            before => before.map(|(known, _)| known),
        };
        self.cluster.add_pod(new.clone(), node);
        // What was decided here has been told of when it was decided.
        if old.is_some_and(|old| pod::node_name(old).is_some()) || before.is_none() {
            self.happened(Event::PodAdded(&new), now);
        }
        if let Some(before) = before.filter(|before| before.requests != new.requests) {
            self.happened(Event::PodRemoved(&before), now);
        }
    }

    fn pod_waits(&mut self, old: Option<&Pod>, pod: &Arc<Pod>, now: Instant) {
        let Some(profile) = self.profile_of(pod) else { return };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let info = Arc::new(PodInfo::new(pod.clone()));
        if let Some(known) = self.deciding.get_mut(uid) {
            *known = info;
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(uid);
            self.forget_nomination(uid);
            return;
        }
        match info.nominated_node() {
            Some(node) => self.note_nomination(&info, node.to_owned()),
            // Told before the nomination was written, unless it was there once.
            None if old.is_some_and(|old| nominated(old).is_some()) => drop(self.forget_nomination(uid)),
            None => {}
        }
        let profile_of = self.profiles.get(profile);
        let held = profile_of.is_some_and(|profile| {
            (profile.gates && pod::is_gated(pod))
                || (profile.filters.contains(PluginId::DynamicResources) && awaits_claims(pod))
        });
        let claims =
            |pod: &Pod| pod.status.as_ref().and_then(|status| status.resource_claim_statuses.clone());
        let same = old.is_some_and(|old| {
            old.spec == pod.spec && old.metadata.labels == pod.metadata.labels && claims(old) == claims(pod)
        });
        if held {
            self.queue.gate(info, profile, now);
        } else if !(same && self.queue.update(&info)) {
            self.queue.add(info, profile, now);
        }
    }

    fn pod_is_gone(&mut self, pod: &Pod, now: Instant) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.queue.remove(uid);
        self.deciding.remove(uid);
        let nominated = self.forget_nomination(uid);
        self.cluster.devices.forget(&unmade(pod.metadata.namespace.as_deref().unwrap_or_default(), uid));
        let counted = self.cluster.remove_pod(uid);
        let freed = counted.or_else(|| nominated.then(|| Arc::new(PodInfo::new(Arc::new(pod.clone())))));
        if let Some(freed) = freed {
            self.happened(Event::PodRemoved(&freed), now);
        }
    }

    fn profile_of(&self, pod: &Pod) -> Option<usize> {
        let asked = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        let asked = asked.filter(|name| !name.is_empty()).unwrap_or("default-scheduler");
        self.profiles.iter().position(|profile| profile.scheduler_name == asked)
    }

    /// Decides over the next pod. Nothing if none is worth a try now.
    pub fn decide_next(&mut self, now: Instant) -> Option<Decision> {
        let waiting = self.queue.pop(now)?;
        Some(self.decide(waiting, now))
    }

    fn decide(&mut self, waiting: Waiting, now: Instant) -> Decision {
        let pod = waiting.pod.clone();
        let opinion = self.with_attempt(&waiting, |attempt, start, random, consults, stages| {
            let fitting = attempt.fitting(start);
            stages.end(Stage::Filter, !fitting.is_empty());
            if consults(&pod) && !fitting.is_empty() {
                let scores = attempt.scores(&fitting);
                let named = fitting.iter().zip(scores).filter_map(|(slot, score)| {
                    Some((attempt.cluster.nodes.get(*slot)?.name.clone(), score))
                });
                return Opinion::Ask(named.collect());
            }
            match attempt.best(&fitting, random) {
                Some(slot) => {
                    stages.end(Stage::Score, true);
                    Opinion::Fits(name_of(attempt.cluster, slot))
                }
                None => Opinion::Misfit(attempt.misfit()),
            }
        });
        if let Opinion::Ask(nodes) = opinion {
            self.deciding.insert(pod.uid.clone(), pod);
            return Decision::Consult { waiting, nodes };
        }
        self.conclude(waiting, opinion, now)
    }

    /// Goes on with a pod that extenders were asked about. Nothing if it has gone meanwhile.
    pub fn consulted(&mut self, waiting: Waiting, verdict: Verdict, now: Instant) -> Option<Decision> {
        let pod = self.deciding.remove(&waiting.pod.uid)?;
        let waiting = Waiting { pod, ..waiting };
        let opinion = self.with_attempt(&waiting, |attempt, _, random, _, _| {
            // Others may have been faster on some of the nodes.
            let left = verdict.nodes.iter().filter_map(|(name, score)| {
                let slot = attempt.cluster.slot_of(name).filter(|slot| attempt.fits(*slot))?;
                Some((slot, *score))
            });
            let (left, scores): (Vec<_>, Vec<_>) = left.unzip();
            if let Some(slot) = decide::pick(&left, &scores, random) {
                return Opinion::Fits(name_of(attempt.cluster, slot));
            }
            let mut misfit = attempt.misfit();
            for (node, reason, preemption_helps) in &verdict.refused {
                if let Some(slot) = attempt.cluster.slot_of(node) {
                    let refusal =
                        Refusal { reasons: vec![reason.clone().into()], preemption_helps: *preemption_helps };
                    misfit.refused(PluginId::Extender, refusal, slot);
                }
            }
            Opinion::Misfit(misfit)
        });
        Some(self.conclude(waiting, opinion, now))
    }

    fn with_attempt(
        &mut self,
        waiting: &Waiting,
        judge: impl FnOnce(
            &Attempt<'_>,
            &mut usize,
            &mut Random,
            &dyn Fn(&PodInfo) -> bool,
            &mut Stages,
        ) -> Opinion,
    ) -> Opinion {
        let stages = &mut self.stages;
        stages.begin();
        let pod = &waiting.pod;
        let Some(profile) = self.profiles.get(waiting.profile) else {
            return Opinion::Misfit(Misfit::default());
        };
        let attempt =
            Attempt::new(&mut self.classes, waiting.profile, profile, pod, &self.cluster, &self.nominated);
        stages.end(Stage::PreFilter, attempt.is_ok());
        let (misfit, preemption) = match attempt {
            Ok(attempt) => match judge(&attempt, &mut self.start, &mut self.random, &self.consults, stages) {
                Opinion::Misfit(misfit) => {
                    let preemption =
                        preempt(Some(&attempt), profile, pod, &misfit, &self.budgets, &mut self.random);
                    (misfit, preemption)
                }
                other => return other,
            },
            Err(hopeless) => {
                let misfit = Misfit::hopeless(self.cluster.live, hopeless.plugin, hopeless.message);
                let preemption = preempt(None, profile, pod, &misfit, &self.budgets, &mut self.random);
                (misfit, preemption)
            }
        };
        stages.end(Stage::PostFilter, matches!(preemption, Preemption::Candidates(_)));
        Opinion::Nowhere(misfit, preemption)
    }

    fn conclude(&mut self, waiting: Waiting, opinion: Opinion, now: Instant) -> Decision {
        match opinion {
            Opinion::Fits(node) => Decision::Bind(self.assign(waiting, node, now)),
            Opinion::Nowhere(misfit, preemption) => self.refuse(waiting, misfit, preemption, now),
            Opinion::Misfit(_) | Opinion::Ask(_) => {
                self.refuse(waiting, Misfit::default(), Preemption::Futile(String::new()), now)
            }
        }
    }

    /// Extenders did not answer.
    pub fn not_consulted(&mut self, waiting: Waiting, now: Instant) {
        if let Some(pod) = self.deciding.remove(&waiting.pod.uid) {
            self.queue.failed(Waiting { pod, ..waiting }, now);
        }
    }

    fn assign(&mut self, waiting: Waiting, node: String, now: Instant) -> Assignment {
        let pod = waiting.pod.clone();
        let plan = self.plan(&pod, &node);
        self.cluster.storage.assume(&plan);
        let devices = self.reserve(&pod, &node);
        for (claim, allocation) in &devices.allocations {
            self.cluster.devices.assume(claim.clone(), allocation.clone());
        }
        if let Some((_, allocation)) = devices.extended.as_deref() {
            self.cluster.devices.assume(unmade(pod.namespace(), &pod.uid), allocation.clone());
        }
        self.cluster.add_pod(pod.clone(), &node);
        self.deciding.insert(pod.uid.clone(), pod.clone());
        self.forget_nomination(&pod.uid);
        self.happened(Event::PodAdded(&pod), now);
        Assignment { waiting, node, plan, devices }
    }

    fn plan(&self, pod: &PodInfo, node: &str) -> Plan {
        let Some(node) = self.cluster.node(node) else { return Plan::default() };
        let Ok(claims) = self.cluster.storage.claims_of(&pod.pod) else { return Plan::default() };
        let waiting = claims.iter().filter_map(|claim| match &claim.state {
            ClaimState::Waiting(claim, class) => Some((*claim, *class)),
            _ => None,
        });
        self.cluster.storage.plan(waiting, node).unwrap_or_default()
    }

    fn reserve(&self, pod: &PodInfo, node: &str) -> Reservation {
        let devices = &self.cluster.devices;
        let claims = devices.claims_of(&pod.pod, devices.backed(pod));
        let Some((node, claims)) = self.cluster.node(node).zip(claims.ok()) else {
            return Reservation::default();
        };
        let extended = claims.extended_on(node);
        let waiting: Vec<_> = claims.wanted(extended.as_ref()).collect();
        let mut found = if waiting.is_empty() {
            Vec::new()
        } else {
            devices.allocate(&waiting, node).unwrap_or_default()
        };
        let allocation = extended.as_ref().and_then(|_| found.pop());
        let keys = claims.waiting.iter().map(|(key, _)| key.clone());
        let allocations = keys.zip(found).collect();
        Reservation { allocations, claims: claims.all, extended: extended.zip(allocation).map(Box::new) }
    }

    /// What the plugins say that are asked when no node fits.
    fn after_filters(&self, profile: usize, preemption: &str) -> String {
        // Claims are given back when their pods are gone, not when others need the devices.
        const CLAIMS: &str = "no new claims to deallocate";
        let devices =
            self.profile(profile).is_some_and(|profile| profile.filters.contains(PluginId::DynamicResources));
        match (devices, preemption) {
            (true, "") => format!(" {CLAIMS}"),
            (true, _) => format!(" {CLAIMS}, {preemption}"),
            (false, "") => String::new(),
            (false, _) => format!(" {preemption}"),
        }
    }

    fn refuse(&mut self, waiting: Waiting, misfit: Misfit, preemption: Preemption, now: Instant) -> Decision {
        let pod = waiting.pod.clone();
        let mut message = misfit.message();
        let mut refused_by = misfit.plugins;
        let candidates = match preemption {
            Preemption::Candidates(candidates) => candidates,
            Preemption::Futile(why) => {
                if misfit.nodes > 0 {
                    message.push_str(&self.after_filters(waiting.profile, &why));
                }
                Vec::new()
            }
        };
        if misfit.nodes == 0 && misfit.hopeless.is_none() {
            // Any node would be news.
            refused_by.insert(PluginId::NodeName);
        }
        // While its victims are still going, the room stays its own.
        let stays = message.ends_with("terminating pod on the nominated node.");
        let no_longer_nominated = candidates.is_empty() && !stays && pod.nominated_node().is_some();
        if no_longer_nominated {
            self.forget_nomination(&pod.uid);
        }
        let profile = waiting.profile;
        self.queue.refused(waiting, refused_by, now);
        let left_over = self.cluster.devices.left_over(&pod.pod).cloned();
        Decision::Refused(Failure {
            pod,
            profile,
            message,
            refused_by,
            candidates,
            no_longer_nominated,
            left_over,
        })
    }

    /// What was told of a pod's last failure is kept with it.
    pub fn note(&mut self, uid: &str, note: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.queue.get_mut(uid) {
            note(waiting);
        }
    }

    /// The pod is on its way: nothing more to do but to hear of it from the watch.
    pub fn bound(&mut self, assignment: &Assignment) {
        self.cluster.storage.forget(&assignment.plan);
    }

    /// The pod did not get to its node. It is tried again, unless it has gone.
    pub fn unbound(&mut self, assignment: Assignment, now: Instant) {
        self.cluster.storage.forget(&assignment.plan);
        assignment.devices.allocations.keys().for_each(|claim| self.cluster.devices.forget(claim));
        let pod = &assignment.waiting.pod;
        self.cluster.devices.forget(&unmade(pod.namespace(), &pod.uid));
        let uid = pod.uid.clone();
        let Some(pod) = self.deciding.remove(&uid) else { return };
        if let Some(freed) = self.cluster.remove_pod(&uid) {
            self.happened(Event::PodRemoved(&freed), now);
        }
        if pod.is_terminating() {
            return;
        }
        self.queue.failed(Waiting { pod, ..assignment.waiting }, now);
    }

    /// Room is being made for the pod. Less important pods for which room was kept there lose it: these are they.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) -> Vec<Arc<PodInfo>> {
        self.note_nomination(pod, node.to_owned());
        let there = self.nominated.get(node).cloned().unwrap_or_default();
        let less: Vec<_> = there.into_iter().filter(|other| other.priority < pod.priority).collect();
        for other in &less {
            self.forget_nomination(&other.uid);
        }
        less
    }

    fn note_nomination(&mut self, pod: &Arc<PodInfo>, node: String) {
        self.forget_nomination(&pod.uid);
        self.nominations.insert(pod.uid.clone(), node.clone());
        self.nominated.entry(node).or_default().push(pod.clone());
    }

    fn forget_nomination(&mut self, uid: &str) -> bool {
        let Some(node) = self.nominations.remove(uid) else { return false };
        if let Some(pods) = self.nominated.get_mut(&node) {
            pods.retain(|pod| *pod.uid != *uid);
            if pods.is_empty() {
                self.nominated.remove(&node);
            }
        }
        true
    }
}

fn fire(queue: &mut Queue, profiles: &[Profile], cluster: &Cluster, event: Event<'_>, now: Instant) {
    queue.happened(event.kinds(), now, |refused_by, waiting| {
        profiles
            .get(waiting.profile)
            .is_some_and(|profile| hints::helps(refused_by, event, &waiting.pod, profile, cluster))
    });
}

fn preempt(
    attempt: Option<&Attempt<'_>>,
    profile: &Profile,
    pod: &PodInfo,
    misfit: &Misfit,
    budgets: &Budgets,
    random: &mut Random,
) -> Preemption {
    if !profile.preempts {
        return Preemption::Futile(String::new());
    }
    preemption::find(attempt, pod, misfit, budgets, random)
}

fn name_of(cluster: &Cluster, slot: Slot) -> String {
    cluster.nodes.get(slot).map(|node| node.name.clone()).unwrap_or_default()
}

fn nominated(pod: &Pod) -> Option<&str> {
    let node = pod.status.as_ref()?.nominated_node_name.as_deref();
    node.filter(|node| !node.is_empty())
}
