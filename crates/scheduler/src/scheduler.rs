//! The scheduler in the world: takes in what has changed, has the core decide over one pod after the other, and
//! leaves all waiting to tasks of its own. It never waits for the API server, so that a burst of pods is decided as
//! fast as it comes.

use std::sync::Arc;
use std::time::Duration;

use client::Delta;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config::Config;
use crate::config::ConfigError;
use crate::core::Verdict;
use crate::core::{Assignment, Core, Decision, Failure};
use crate::decide::preemption::Victims;
use crate::extender::{ExtenderError, Extenders};
use crate::metrics::{Metrics, Outcome};
use crate::news::Change;
use crate::outcome::{self, FailureNote};
use crate::pod::PodInfo;
use crate::queue::Waiting;
use crate::queue::{Event, Kinds};
use crate::storage::Key;
use crate::{bind, evict, extended};

/// What tasks tell the loop.
pub enum Message {
    Bound(Assignment),
    Unbound(Assignment, bind::BindError),
    Consulted(Waiting, Result<Verdict, ExtenderError>),
    /// Extenders agreed to these victims.
    Preempt {
        pod: Arc<PodInfo>,
        profile: usize,
        victims: Victims,
    },
    /// Tell when all of the claims are bound, or that they never will be.
    AwaitClaims(Vec<Key>, oneshot::Sender<Result<(), String>>),
    /// The devices of claims are to be ready.
    AwaitDevices(Vec<Key>, oneshot::Sender<Result<(), String>>),
}

/// Claims that must be seen to be as they were written, and who waits for that.
type Awaited = (Vec<Key>, oneshot::Sender<Result<(), String>>);

pub struct Scheduler {
    client: kube::Client,
    pub core: Core,
    messages: mpsc::UnboundedSender<Message>,
    awaited: Vec<Awaited>,
    devices_awaited: Vec<Awaited>,
    extenders: Extenders,
    metrics: Metrics,
}

impl Scheduler {
    pub fn new(
        config: &Config,
        client: kube::Client,
        messages: mpsc::UnboundedSender<Message>,
        metrics: Metrics,
    ) -> Result<Self, ConfigError> {
        let extenders = Extenders::new(&config.extenders)?;
        let mut core = Core::new(config);
        let asked = extenders.clone();
        core.consult(move |pod| asked.want(&pod.pod));
        Ok(Self {
            client,
            core,
            messages,
            awaited: Vec::new(),
            devices_awaited: Vec::new(),
            extenders,
            metrics,
        })
    }

    pub fn take_in(&mut self, change: Change) {
        let now = Instant::now();
        let core = &mut self.core;
        match change {
            Change::Pod(delta) => core.pod_changed(&delta, now),
            Change::Node(delta) => core.node_changed(&delta, now),
            Change::Namespace(delta) => core.namespace_changed(&delta),
            Change::Claim(delta) => {
                core.cluster.storage.claim_changed(&delta);
                if let Some((namespace, name)) = names(&delta) {
                    core.happened(Event::Claim(namespace, name), now);
                }
                self.tell_bound_claims();
            }
            Change::Volume(delta) => {
                core.cluster.storage.volume_changed(&delta);
                core.happened(Event::Other(Kinds::VOLUME), now);
            }
            Change::StorageClass(delta) => {
                core.cluster.storage.class_changed(&delta);
                core.happened(Event::Other(Kinds::STORAGE_CLASS), now);
            }
            Change::CsiNode(delta) => {
                core.cluster.storage.csi_node_changed(&delta);
                core.happened(Event::Other(Kinds::CSI_NODE), now);
            }
            Change::CsiDriver(delta) => {
                core.cluster.storage.driver_changed(&delta);
                core.happened(Event::Other(Kinds::CSI_DRIVER), now);
            }
            Change::CsiCapacity(delta) => {
                core.cluster.storage.capacity_changed(&delta);
                core.happened(Event::Other(Kinds::CSI_CAPACITY), now);
            }
            Change::Service(delta) => core.cluster.workloads.service_changed(&delta),
            Change::ReplicaSet(delta) => core.cluster.workloads.replica_set_changed(&delta),
            Change::StatefulSet(delta) => core.cluster.workloads.stateful_set_changed(&delta),
            Change::ReplicationController(delta) => {
                core.cluster.workloads.replication_controller_changed(&delta);
            }
            Change::ResourceClaim(delta) => {
                core.cluster.devices.claim_changed(&delta);
                if let Some((namespace, name)) = names(&delta) {
                    core.happened(Event::ResourceClaim(namespace, name), now);
                }
                self.tell_ready_devices();
            }
            Change::ResourceSlice(delta) => {
                core.cluster.devices.slice_changed(&delta);
                core.happened(Event::Other(Kinds::RESOURCE_SLICE), now);
            }
            Change::DeviceClass(delta) => {
                core.cluster.devices.class_changed(&delta);
                core.happened(Event::Other(Kinds::DEVICE_CLASS), now);
            }
            Change::Budget(delta) => core.budgets.changed(&delta),
            Change::Synced => {}
        }
    }

    pub fn hear(&mut self, message: Message) {
        match message {
            Message::Bound(assignment) => self.core.bound(&assignment),
            Message::Unbound(assignment, error) => self.unbound(assignment, &error),
            Message::Consulted(waiting, Ok(verdict)) => {
                if let Some(decision) = self.core.consulted(waiting, verdict, Instant::now()) {
                    self.carry_out(decision);
                }
            }
            Message::Consulted(waiting, Err(error)) => {
                let pod = waiting.pod.clone();
                warn!(pod = pod.name(), namespace = pod.namespace(), %error, "extenders do not help, trying again");
                let note = FailureNote::new(waiting.told.as_ref(), &pod, error.to_string(), Timestamp::now());
                self.tell(pod, note, "SchedulerError", false);
                self.core.not_consulted(waiting, Instant::now());
            }
            Message::Preempt { pod, profile, victims } => self.preempt(pod, profile, victims),
            Message::AwaitClaims(claims, sender) => {
                self.awaited.push((claims, sender));
                self.tell_bound_claims();
            }
            Message::AwaitDevices(claims, sender) => {
                self.devices_awaited.push((claims, sender));
                self.tell_ready_devices();
            }
        }
    }

    fn unbound(&mut self, assignment: Assignment, error: &bind::BindError) {
        let pod = assignment.waiting.pod.clone();
        if error.is_superseded() {
            debug!(pod = pod.name(), namespace = pod.namespace(), %error, "binding is superseded");
        } else {
            warn!(pod = pod.name(), namespace = pod.namespace(), %error, "binding failed, trying again");
            let note =
                FailureNote::new(assignment.waiting.told.as_ref(), &pod, error.to_string(), Timestamp::now());
            self.tell(pod, note, "SchedulerError", false);
        }
        self.core.unbound(assignment, Instant::now());
    }

    fn tell_bound_claims(&mut self) {
        let storage = &self.core.cluster.storage;
        for (claims, sender) in std::mem::take(&mut self.awaited) {
            match storage.all_bound(&claims) {
                Ok(false) if !sender.is_closed() => self.awaited.push((claims, sender)),
                // Who has given up waiting does not mind.
                Ok(_) => drop(sender.send(Ok(()))),
                Err(why) => drop(sender.send(Err(why))),
            }
        }
    }

    fn tell_ready_devices(&mut self) {
        let devices = &self.core.cluster.devices;
        for (claims, sender) in std::mem::take(&mut self.devices_awaited) {
            match devices.are_ready(&claims) {
                Ok(false) if !sender.is_closed() => self.devices_awaited.push((claims, sender)),
                // Who has given up waiting does not mind.
                Ok(_) => drop(sender.send(Ok(()))),
                Err(why) => drop(sender.send(Err(why))),
            }
        }
    }

    /// Decides over the next pod. False if none is worth a try now.
    pub fn schedule_next(&mut self) -> bool {
        let begun = Instant::now();
        let Some(decision) = self.core.decide_next(begun) else { return false };
        self.metrics.decided(begun.elapsed());
        let profile = self.scheduler_name(decision.profile());
        for (stage, went_well, took) in self.core.stages.taken() {
            self.metrics.passed(stage.name(), &profile, went_well, took);
        }
        self.carry_out(decision);
        true
    }

    /// Brings the measurements of what waits and what is known up to date.
    pub fn measure(&self) {
        self.metrics.waiting(self.core.pending());
        let (nodes, pods, assumed) = self.core.sizes();
        self.metrics.cache(nodes, pods, assumed);
        self.core.incoming().for_each(|(event, queue, count)| self.metrics.came(event, queue, count));
    }

    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::Bind(assignment) => self.bind(assignment),
            Decision::Refused(failure) => self.refused(failure),
            Decision::Consult { waiting, nodes } => self.consult(waiting, nodes),
        }
    }

    fn consult(&self, waiting: Waiting, nodes: Vec<(String, i64)>) {
        let (extenders, messages) = (self.extenders.clone(), self.messages.clone());
        let known = nodes
            .into_iter()
            .filter_map(|(name, score)| Some((self.core.cluster.node(&name)?.node.clone()?, score)));
        let nodes = known.collect();
        tokio::spawn(async move {
            let verdict = extenders.consult(&waiting.pod.pod, nodes).await;
            // The loop only ever ends together with the process's work.
            drop(messages.send(Message::Consulted(waiting, verdict)));
        });
    }

    fn scheduler_name(&self, profile: usize) -> String {
        self.core.profile(profile).map(|profile| profile.scheduler_name.clone()).unwrap_or_default()
    }

    fn bind(&self, assignment: Assignment) {
        let name = self.scheduler_name(assignment.waiting.profile);
        let profile = self.core.profile(assignment.waiting.profile);
        let timeouts = profile.map(|profile| profile.timeouts).unwrap_or_default();
        let (client, messages) = (self.client.clone(), self.messages.clone());
        let (extenders, metrics) = (self.extenders.clone(), self.metrics.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            let (pod, node) = (assignment.waiting.pod.clone(), assignment.node.clone());
            let passed = |point, went_well, took| metrics.passed(point, &name, went_well, took);
            match bind::carry_out(&client, &extenders, &messages, &assignment, timeouts, passed).await {
                // The loop only ever ends together with the process's work.
                Err(error) => {
                    metrics.attempted(&name, Outcome::Error, begun.elapsed());
                    drop(messages.send(Message::Unbound(assignment, error)));
                }
                Ok(()) => {
                    metrics.attempted(&name, Outcome::Scheduled, begun.elapsed());
                    let attempts = assignment.waiting.attempts.saturating_add(1);
                    metrics.scheduled(attempts, assignment.waiting.since.elapsed());
                    drop(messages.send(Message::Bound(assignment)));
                    outcome::record_scheduled(&client, &name, &pod, &node).await;
                }
            }
        });
    }

    fn refused(&mut self, failure: Failure) {
        let Failure { pod, profile, message, refused_by, candidates, no_longer_nominated, left_over } =
            failure;
        if let Some(claim) = left_over {
            let (client, pod) = (self.client.clone(), pod.clone());
            tokio::spawn(async move { extended::take_back(&client, &pod, &claim).await });
        }
        debug!(pod = pod.name(), namespace = pod.namespace(), ?refused_by, "pod fits nowhere");
        self.metrics.attempted(&self.scheduler_name(profile), Outcome::Unschedulable, Duration::ZERO);
        let mut note = None;
        self.core.note(&pod.uid, |waiting| {
            let new = FailureNote::new(waiting.told.as_ref(), &pod, message.clone(), Timestamp::now());
            waiting.told = Some(new.clone());
            note = Some(new);
        });
        if let Some(note) = note {
            self.tell(pod.clone(), note, "Unschedulable", no_longer_nominated);
        }
        if candidates.is_empty() {
            return;
        }
        if !self.extenders.preempt(&pod.pod) {
            if let Some(victims) = candidates.into_iter().next() {
                self.preempt(pod, profile, victims);
            }
            return;
        }
        let (extenders, messages) = (self.extenders.clone(), self.messages.clone());
        tokio::spawn(async move {
            match extenders.agree(&pod, candidates).await {
                Ok(agreed) => {
                    if let Some(victims) = agreed.into_iter().next() {
                        drop(messages.send(Message::Preempt { pod, profile, victims }));
                    }
                }
                Err(error) => {
                    warn!(pod = pod.name(), namespace = pod.namespace(), %error, "nobody is preempted");
                }
            }
        });
    }

    fn preempt(&mut self, pod: Arc<PodInfo>, profile: usize, victims: Victims) {
        self.metrics.preempted(victims.pods.len());
        let displaced = self.core.nominate(&pod, &victims.node);
        let (client, name) = (self.client.clone(), self.scheduler_name(profile));
        tokio::spawn(async move { evict::carry_out(&client, &name, &pod, victims, displaced).await });
    }

    fn tell(&self, pod: Arc<PodInfo>, note: FailureNote, reason: &'static str, no_longer_nominated: bool) {
        let (client, name) = (self.client.clone(), pod.scheduler_name().to_owned());
        tokio::spawn(async move {
            outcome::record_failure(&client, &name, &pod, &note).await;
            outcome::explain(&client, &pod, reason, &note.message, no_longer_nominated).await;
        });
    }
}

fn names<K: Resource>(delta: &Delta<K>) -> Option<(&str, &str)> {
    let meta = delta.object()?.meta();
    Some((meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()))
}
