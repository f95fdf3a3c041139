//! The loop: takes in what has changed, decides over one pod after the other, and leaves all waiting to tasks of
//! its own. It never waits for the API server, so that a burst of pods is decided as fast as it comes.

use std::collections::HashSet;
use std::sync::Arc;

use client::Delta;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::cluster::Cluster;
use crate::outcome::{self, FailureNote};
use crate::plugins::{Events, Plugin, default_plugins};
use crate::pod::{self, PodInfo};
use crate::preemption;
use crate::queue::{Queue, Waiting};
use crate::schedule;

/// What came of a binding.
pub struct Bound {
    waiting: Waiting,
    result: Result<(), kube::Error>,
}

pub struct Scheduler {
    name: String,
    client: kube::Client,
    plugins: Vec<Box<dyn Plugin>>,
    cluster: Cluster,
    queue: Queue,
    /// Pods whose binding is under way, or not yet told of by the watch.
    binding: HashSet<String>,
    bound: mpsc::UnboundedSender<Bound>,
    start: usize,
}

impl Scheduler {
    pub fn new(name: String, client: kube::Client, bound: mpsc::UnboundedSender<Bound>) -> Self {
        Self {
            name,
            client,
            plugins: default_plugins(),
            cluster: Cluster::default(),
            queue: Queue::default(),
            binding: HashSet::new(),
            bound,
            start: 0,
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    pub fn namespace_changed(&mut self, delta: &Delta<Namespace>) {
        match delta {
            Delta::Added(namespace) | Delta::Updated { new: namespace, .. } => {
                self.cluster.set_namespace(namespace)
            }
            Delta::Deleted(namespace) => {
                self.cluster.remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            Delta::Synced => {}
        }
    }

    pub fn claim_changed(&mut self, delta: &Delta<PersistentVolumeClaim>) {
        self.cluster.storage.claim_changed(delta);
        self.queue.happened(Events::STORAGE);
    }

    pub fn volume_changed(&mut self, delta: &Delta<PersistentVolume>) {
        self.cluster.storage.volume_changed(delta);
        self.queue.happened(Events::STORAGE);
    }

    pub fn class_changed(&mut self, delta: &Delta<StorageClass>) {
        self.cluster.storage.class_changed(delta);
        self.queue.happened(Events::STORAGE);
    }

    pub fn node_changed(&mut self, delta: &Delta<Node>) {
        match delta {
            Delta::Added(node) => {
                self.cluster.set_node(node.clone());
                self.queue.happened(Events::NODE_ADDED);
            }
            Delta::Updated { old, new } => {
                let events = node_events(old, new);
                self.cluster.set_node(new.clone());
                if events != Events::NONE {
                    self.queue.happened(events);
                }
            }
            Delta::Deleted(node) => {
                self.cluster.remove_node(node.metadata.name.as_deref().unwrap_or_default())
            }
            Delta::Synced => {}
        }
    }

    pub fn pod_changed(&mut self, delta: &Delta<Pod>) {
        match delta {
            Delta::Added(pod) => self.pod_is(None, pod),
            Delta::Updated { old, new } => {
                if old.metadata.uid != new.metadata.uid {
                    self.pod_is_gone(old);
                }
                self.pod_is(Some(old), new);
            }
            Delta::Deleted(pod) => self.pod_is_gone(pod),
            Delta::Synced => {}
        }
    }

    fn pod_is(&mut self, old: Option<&Pod>, pod: &Arc<Pod>) {
        if pod::is_finished(pod) {
            self.pod_is_gone(pod);
            return;
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if let Some(node) = pod::node_name(pod) {
            self.queue.remove(uid);
            self.binding.remove(uid);
            // Most updates of a running pod change its status only: its count stays.
            let counted =
                old.is_some_and(|old| old.spec == pod.spec && old.metadata.labels == pod.metadata.labels);
            let terminating = pod.metadata.deletion_timestamp.is_some();
            if !counted || terminating {
                self.cluster.add_pod(Arc::new(PodInfo::new(pod.clone())), node);
                self.queue.happened(Events::POD_ADDED);
            }
        } else if self.is_ours(pod) && !self.binding.contains(uid) {
            let info = Arc::new(PodInfo::new(pod.clone()));
            if pod.metadata.deletion_timestamp.is_some() {
                self.queue.remove(uid);
                return;
            }
            let same =
                old.is_some_and(|old| old.spec == pod.spec && old.metadata.labels == pod.metadata.labels);
            if is_gated(pod) {
                self.queue.remove(uid);
            } else if !(same && self.queue.update(info.clone())) {
                self.queue.add(info);
            }
        }
    }

    fn pod_is_gone(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.queue.remove(uid);
        self.binding.remove(uid);
        if self.cluster.remove_pod(uid) {
            self.queue.happened(Events::POD_REMOVED);
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let asked = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        asked.unwrap_or("default-scheduler") == self.name
    }

    pub fn bound(&mut self, bound: Bound) {
        let uid = &bound.waiting.pod.uid;
        // After success the pod stays noted until the watch shows it assigned: older news of it may still come.
        let Err(error) = bound.result else { return };
        if !self.binding.remove(uid) {
            return;
        }
        // Not there after all.
        self.cluster.remove_pod(uid);
        let gone = matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
        if gone {
            debug!(pod = bound.waiting.pod.name(), %error, "binding is superseded");
        } else {
            warn!(pod = bound.waiting.pod.name(), namespace = bound.waiting.pod.namespace(), %error, "binding failed, trying again");
        }
        self.queue.failed(bound.waiting, Instant::now());
        self.queue.happened(Events::POD_REMOVED);
    }

    /// Decides over the next pod. False if none is worth a try now.
    pub fn schedule_next(&mut self) -> bool {
        let Some(mut waiting) = self.queue.pop(Instant::now()) else { return false };
        let pod = waiting.pod.clone();
        match schedule::choose(&self.plugins, &pod, &self.cluster, &mut self.start) {
            Ok(node) => {
                self.cluster.add_pod(pod.clone(), &node);
                self.binding.insert(pod.uid.clone());
                self.queue.happened(Events::POD_ADDED);
                self.bind(waiting, node);
            }
            Err(misfit) => {
                debug!(pod = pod.name(), namespace = pod.namespace(), refused_by = ?misfit.plugins, "pod fits nowhere");
                let victims = preemption::find(&self.plugins, &pod, &self.cluster, &misfit);
                let mut message = misfit.message();
                if victims.is_none() {
                    message.push_str(&misfit.preemption_message());
                }
                // Where victims are sent away, their end is what helps.
                let helped_by =
                    misfit.helped_by.or(victims.as_ref().map_or(Events::NONE, |_| Events::POD_REMOVED));
                let note = FailureNote::new(waiting.told.as_ref(), &pod, message, Timestamp::now());
                waiting.told = Some(note.clone());
                self.queue.unschedulable(waiting, helped_by, Instant::now());
                self.tell_failure(pod, note, victims);
            }
        }
        true
    }

    fn bind(&self, waiting: Waiting, node: String) {
        let (client, name, sender) = (self.client.clone(), self.name.clone(), self.bound.clone());
        let claims = self.cluster.storage.waiting_claims(&waiting.pod.pod);
        tokio::spawn(async move {
            let pod = waiting.pod.clone();
            let result = match outcome::bind_claims(&client, &pod, &node, &claims).await {
                Ok(()) => outcome::bind(&client, &pod, &node).await,
                Err(error) => Err(error),
            };
            let succeeded = result.is_ok();
            // The loop only ever ends together with the process's work.
            let _ = sender.send(Bound { waiting, result });
            if succeeded {
                outcome::record_scheduled(&client, &name, &pod, &node).await;
            }
        });
    }

    fn tell_failure(&self, pod: Arc<PodInfo>, note: FailureNote, victims: Option<preemption::Victims>) {
        let (client, name) = (self.client.clone(), self.name.clone());
        tokio::spawn(async move {
            outcome::record_failure(&client, &name, &pod, &note).await;
            outcome::explain(&client, &pod, "Unschedulable", &note.message).await;
            if let Some(victims) = victims {
                preemption::carry_out(&client, &name, &pod, victims).await;
            }
        });
    }
}

/// A pod that somebody still holds back.
fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// What about a node has changed that may matter. Heartbeats do not.
fn node_events(old: &Node, new: &Node) -> Events {
    let mut events = Events::NONE;
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    if allocatable(old) != allocatable(new) {
        events = events.or(Events::NODE_RESOURCES);
    }
    if old.metadata.labels != new.metadata.labels {
        events = events.or(Events::NODE_LABELS);
    }
    let taints =
        |node: &Node| node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable == Some(true)));
    if taints(old) != taints(new) {
        events = events.or(Events::NODE_TAINTS);
    }
    events
}
