//! Rollouts played through: each step is planned, then the world does what it says.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use serde_json::{Value, json};

use super::plan::{Plan, plan};
use super::revision::{self, Sets};
use super::rolling::{available, size};
use super::status::{self, Progress};
use super::{rolling, scale};
use crate::kit::meta;

fn deployment(replicas: i32, image: &str, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
    .unwrap()
}

fn rolling_update(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

/// A cluster in which every wish comes true one step later.
struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    pods_become_available: bool,
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), pods_become_available: true }
    }

    fn shared(&self) -> Vec<Arc<ReplicaSet>> {
        self.sets.iter().cloned().map(Arc::new).collect()
    }

    fn step(&mut self) -> Plan {
        let spec = self.deployment.spec.clone().unwrap();
        let planned = plan(&self.deployment, &spec, &self.shared(), false);
        if let Some(mut set) = planned.create.clone() {
            set.metadata.uid = Some(format!("uid-{}", self.sets.len()));
            set.metadata.generation = Some(1);
            set.metadata.creation_timestamp = Some(
                serde_json::from_value(json!(format!("2026-01-01T00:00:{:02}Z", self.sets.len()))).unwrap(),
            );
            self.sets.push(set);
        }
        for (set, _) in &planned.update {
            let at = self.sets.iter().position(|before| before.metadata.uid == set.metadata.uid).unwrap();
            self.sets[at] = set.clone();
        }
        for gone in &planned.delete {
            self.sets.retain(|set| set.metadata.uid != gone.metadata.uid);
        }
        if let Some(revision) = planned.revision {
            self.deployment
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(revision::REVISION.into(), revision.to_string());
        }
        self.tell(planned.progress.as_ref());
        planned
    }

    fn tell(&mut self, progress: Option<&Progress>) {
        let spec = self.deployment.spec.clone().unwrap();
        let sets = Sets::of(&spec, &self.shared());
        let generation = self.deployment.metadata.generation;
        self.deployment.status =
            Some(status::status(&self.deployment, &spec, &sets, progress, generation, &meta::now()));
    }

    /// The ReplicaSet controller and the kubelets do their part.
    fn pods_follow(&mut self) {
        for set in &mut self.sets {
            let size = size(set);
            let ready = if self.pods_become_available { size } else { available(set).min(size) };
            set.status = Some(ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(ready),
                available_replicas: Some(ready),
                observed_generation: set.metadata.generation,
                ..Default::default()
            });
        }
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(size).collect()
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            self.step();
            self.pods_follow();
        }
        self.tell(None);
    }

    fn use_image(&mut self, image: &str) {
        self.deployment.metadata.generation =
            self.deployment.metadata.generation.map(|generation| generation + 1);
        let spec = self.deployment.spec.as_mut().unwrap();
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    }

    fn progressing(&self) -> String {
        let conditions = self.deployment.status.as_ref().unwrap().conditions.as_ref().unwrap();
        conditions.iter().find(|c| c.type_ == "Progressing").unwrap().reason.clone().unwrap()
    }
}

#[test]
fn rolling_update_keeps_within_its_bounds() {
    let check = |surge: Value, unavailable: Value, most: i32, least: i32| {
        let mut cluster = Cluster::new(deployment(4, "a", rolling_update(surge, unavailable)));
        cluster.settle();
        assert_eq!(cluster.sizes(), [4]);
        cluster.use_image("b");
        for _ in 0..50 {
            cluster.step();
            assert!(cluster.sizes().iter().sum::<i32>() <= most, "{:?}", cluster.sizes());
            // Before the world follows, only those that stay and were available serve.
            let serving: i32 = cluster.sets.iter().map(|set| available(set).min(size(set))).sum();
            assert!(serving >= least, "{serving} serve in {:?}", cluster.sizes());
            cluster.pods_follow();
        }
        assert_eq!(cluster.sizes(), [0, 4]);
        cluster.tell(None);
        assert_eq!(cluster.progressing(), "NewReplicaSetAvailable");
        let status = cluster.deployment.status.as_ref().unwrap();
        assert_eq!((status.updated_replicas, status.unavailable_replicas), (Some(4), None));
    };
    check(json!(1), json!(0), 5, 4);
    check(json!(0), json!(1), 4, 3);
    check(json!("25%"), json!("25%"), 5, 3);
    check(json!(0), json!(0), 4, 3);
    check(json!("100%"), json!(0), 8, 4);
}

#[test]
fn a_rollout_that_never_becomes_available_stops_halfway() {
    let mut cluster = Cluster::new(deployment(4, "a", rolling_update(json!(1), json!(1))));
    cluster.settle();
    cluster.pods_become_available = false;
    cluster.use_image("broken");
    cluster.settle();
    assert_eq!(cluster.sizes(), [3, 2]);
}

#[test]
fn revisions_follow_undo() {
    let mut cluster = Cluster::new(deployment(2, "a", rolling_update(json!(1), json!(0))));
    cluster.settle();
    cluster.use_image("b");
    cluster.settle();
    let revisions = |cluster: &Cluster| cluster.sets.iter().map(revision::revision).collect::<Vec<_>>();
    assert_eq!(revisions(&cluster), [1, 2]);
    cluster.use_image("a");
    cluster.settle();
    assert_eq!((cluster.sizes(), revisions(&cluster)), (vec![2, 0], vec![3, 2]));
    assert_eq!(meta::annotation(&cluster.sets[0], "deployment.kubernetes.io/revision-history"), Some("1"));
    assert_eq!(meta::annotation(&cluster.deployment, revision::REVISION), Some("3"));
    cluster.use_image("c");
    cluster.settle();
    assert_eq!(revisions(&cluster), [3, 4], "the limit leaves one old set: the oldest revision went");
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let mut cluster = Cluster::new(deployment(2, "a", json!({"type": "Recreate"})));
    cluster.settle();
    cluster.use_image("b");
    assert!(cluster.step().create.is_none());
    assert_eq!(cluster.sizes(), [0]);
    let spec = cluster.deployment.spec.clone().unwrap();
    assert!(plan(&cluster.deployment, &spec, &cluster.shared(), true).create.is_none(), "old pods run");
    assert!(plan(&cluster.deployment, &spec, &cluster.shared(), false).create.is_some());
}

#[test]
fn paused_deployments_scale_but_do_not_roll() {
    let mut cluster = Cluster::new(deployment(2, "a", rolling_update(json!(1), json!(0))));
    cluster.settle();
    cluster.deployment.spec.as_mut().unwrap().paused = Some(true);
    cluster.use_image("b");
    cluster.deployment.spec.as_mut().unwrap().replicas = Some(5);
    cluster.settle();
    assert_eq!((cluster.sizes(), cluster.progressing()), (vec![5], "DeploymentPaused".into()));
    cluster.deployment.spec.as_mut().unwrap().paused = None;
    cluster.step();
    assert_eq!(cluster.sizes().len(), 2, "the rollout goes on");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut cluster = Cluster::new(deployment(10, "a", rolling_update(json!(3), json!(2))));
    cluster.settle();
    cluster.pods_become_available = false;
    cluster.use_image("b");
    cluster.settle();
    assert_eq!(cluster.sizes(), [8, 5]);
    let spec = cluster.deployment.spec.as_mut().unwrap();
    spec.replicas = Some(15);
    let spec = spec.clone();
    assert!(scale::is_scaling(&spec, &Sets::of(&spec, &cluster.shared())));
    cluster.step();
    assert_eq!(cluster.sizes(), [11, 7], "as upstream documents it");
    assert_eq!(rolling::max_surge(&spec), 3);
}

#[test]
fn a_deadline_that_passes_is_told() {
    let mut cluster = Cluster::new(deployment(1, "a", rolling_update(json!(1), json!(0))));
    cluster.pods_become_available = false;
    cluster.settle();
    assert_eq!(cluster.progressing(), "ReplicaSetUpdated");
    let spec = cluster.deployment.spec.clone().unwrap();
    let told = cluster.deployment.status.clone().unwrap();
    assert!(status::next_deadline(&spec, &told, &meta::now()).is_some());
    let later = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        meta::now().0 + std::time::Duration::from_secs(601),
    );
    let sets = Sets::of(&spec, &cluster.shared());
    cluster.deployment.status =
        Some(status::status(&cluster.deployment, &spec, &sets, None, Some(1), &later));
    assert_eq!(cluster.progressing(), "ProgressDeadlineExceeded");
    let told = cluster.deployment.status.clone().unwrap();
    assert_eq!(status::next_deadline(&spec, &told, &later), None);
}
