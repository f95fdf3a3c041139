//! Runs one pod on each node that fits: DaemonSet.

mod place;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;

use crate::Loops;
use crate::kit::history::{self, Owned, hash_of};
use crate::kit::pods::{self, Availability, is_active};
use crate::kit::{Controller, Key, Queue, SyncError, World, claim, meta};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.daemon_sets.on(move |change| {
        if let Some(set) = change.new {
            due.add(Key::of(&**set));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        if let Some(pod) = change.new {
            let adopters = claim::adopters(&seen.daemon_sets, &pod.metadata, selects);
            adopters.into_iter().for_each(|key| due.add(key));
        }
        for pod in change.old.iter().chain(&change.new) {
            if let Some(key) = meta::owner_key::<DaemonSet>(&pod.metadata) {
                let ended = change.new.is_none_or(|pod| !is_active(pod));
                if ended { due.add(key) } else { due.add_lazily(key) }
            }
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.nodes.on(move |change| {
        // Heartbeats place nothing.
        let placing = |node: &Arc<Node>| (node.metadata.labels.clone(), node.spec.clone());
        if change.is_update() && change.old.map(placing) == change.new.map(placing) {
            return;
        }
        for set in seen.daemon_sets.list() {
            due.add(Key::of(&*set));
        }
    });
    loops.add(DaemonSets { world: world.clone() }, queue);
}

fn selects(set: &DaemonSet, labels: Option<&meta::Labels>) -> bool {
    set.spec.as_ref().is_some_and(|spec| meta::selects_strictly(&spec.selector, labels))
}

struct DaemonSets {
    world: Arc<World>,
}

impl Controller for DaemonSets {
    const NAME: &'static str = "daemonset-controller";
    const QUEUE: &'static str = "daemonset";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(set) = self.world.daemon_sets.by_key(key) else { return Ok(None) };
        let Some(spec) = &set.spec else { return Ok(None) };
        let picks = |labels: Option<&meta::Labels>| meta::selects_strictly(&spec.selector, labels);
        let pods = claim::claim(&*set, &self.world.pods, picks).await?;
        if meta::is_terminating(&*set) {
            return Ok(None);
        }
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let asked = Owned {
            owner: &*set,
            selector: &spec.selector,
            template: &spec.template,
            collisions,
            marks: history::BY_HASH,
        };
        let history = history::keep(&self.world, asked).await?;
        let hash = hash_of(&history.current.metadata).to_owned();

        let nodes = self.world.nodes.list();
        let plan = place::plan(spec, &hash, &nodes, &pods, Timestamp::now());
        let failed = plan.ended.iter().any(|pod| pods::phase(pod) == "Failed");
        plan.ended.iter().for_each(|pod| self.tell_ended(&set, pod));
        self.delete(&set, plan.delete.iter().chain(&plan.ended)).await?;
        let created = self.create(&set, spec, &hash, plan.create_on).await;

        let pods = self.world.pods.by_controller(meta::uid(&*set));
        let in_use = |revision: &k8s_openapi::api::apps::v1::ControllerRevision| {
            let of_revision = hash_of(&revision.metadata);
            of_revision == hash || pods.iter().any(|pod| hash_of(&pod.metadata) == of_revision)
        };
        history::trim(&self.world, &history.all, in_use, spec.revision_history_limit).await?;
        let again = self.tell(&set, spec, (&hash, history.collisions), &nodes, &pods).await?;
        created?;
        // A daemon that fails at once must not be made again without end.
        if failed {
            Err(SyncError::Waiting("failed daemon pods to be replaced".to_owned()))
        } else {
            Ok(again)
        }
    }
}

impl DaemonSets {
    fn tell_ended(&self, set: &Arc<DaemonSet>, pod: &Arc<Pod>) {
        let (key, node) = (Key::of(&**pod), pods::node_name(pod).unwrap_or_default());
        let events = &self.world.events;
        if pods::phase(pod) == "Failed" {
            let message = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
            events.warning(Self::NAME, &**set, "FailedDaemonPod", message);
        } else {
            let message = format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
            events.normal(Self::NAME, &**set, "SucceededDaemonPod", message);
        }
    }

    async fn create(
        &self,
        set: &Arc<DaemonSet>,
        spec: &DaemonSetSpec,
        hash: &str,
        mut nodes: Vec<String>,
    ) -> Result<(), SyncError> {
        let mut batch = 1;
        while !nodes.is_empty() {
            let now: Vec<String> = nodes.drain(..batch.min(nodes.len())).collect();
            let creations = now.iter().map(|node| async {
                let pod = place::pod(set, spec, hash, node);
                self.world.pods.create(&pod).await
            });
            for result in join_all(creations).await {
                match result {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", meta::name(&*pod));
                        self.world.events.normal(Self::NAME, &**set, "SuccessfulCreate", message);
                    }
                    Err(error) if error.is_namespace_terminating() => return Ok(()),
                    Err(error) => {
                        let message = format!("Error creating: {}", error.api_message());
                        self.world.events.warning(Self::NAME, &**set, "FailedCreate", message);
                        return Err(error);
                    }
                }
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(
        &self,
        set: &Arc<DaemonSet>,
        pods: impl Iterator<Item = &Arc<Pod>>,
    ) -> Result<(), SyncError> {
        for pod in pods {
            self.world.pods.delete(&**pod, DeleteParams::default()).await?;
            let message = format!("Deleted pod: {}", meta::name(&**pod));
            self.world.events.normal(Self::NAME, &**set, "SuccessfulDelete", message);
        }
        Ok(())
    }

    async fn tell(
        &self,
        set: &Arc<DaemonSet>,
        spec: &DaemonSetSpec,
        (hash, collisions): (&str, Option<i32>),
        nodes: &[Arc<Node>],
        pods: &[Arc<Pod>],
    ) -> Result<Option<Duration>, SyncError> {
        let (mut status, again) = status(set, spec, hash, nodes, pods, Timestamp::now());
        status.collision_count = collisions;
        let Some(current) = self.world.daemon_sets.by_key(&Key::of(&**set)) else { return Ok(None) };
        if current.status.as_ref() != Some(&status) {
            let updated = DaemonSet { status: Some(status), ..(*current).clone() };
            self.world.daemon_sets.replace_status(&updated).await?;
        }
        Ok(again)
    }
}

fn status(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    hash: &str,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (DaemonSetStatus, Option<Duration>) {
    let old = set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    let mut again: Option<Duration> = None;
    for node in nodes {
        let wish = place::wish(spec, node);
        let here: Vec<_> =
            pods.iter().filter(|pod| place::target(pod) == Some(meta::name(&**node))).collect();
        if !wish.run {
            status.number_misscheduled += i32::from(!here.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        if here.is_empty() {
            continue;
        }
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(here.iter().any(|pod| pods::is_ready(pod)));
        updated += i32::from(here.iter().any(|pod| hash_of(&pod.metadata) == hash));
        let availabilities =
            here.iter().map(|pod| pods::availability(pod, spec.min_ready_seconds.unwrap_or(0), now));
        let availabilities: Vec<_> = availabilities.collect();
        available += i32::from(availabilities.contains(&Availability::Available));
        for availability in availabilities {
            if let Availability::In(left) = availability {
                again = Some(again.map_or(left, |again| again.min(left)));
            }
        }
    }
    let positive = |count: i32| (count > 0).then_some(count);
    status.updated_number_scheduled = positive(updated);
    status.number_available = positive(available);
    status.number_unavailable = positive(status.desired_number_scheduled - available);
    (status, again)
}
