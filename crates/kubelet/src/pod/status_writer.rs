//! Tells the API of a pod's status: at once what somebody waits for, the rest a moment later, together.
//!
//! One patch at a time; what changes meanwhile goes into the next.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::ext::PodExt;
use super::status_patch::{patch, urgent};
use crate::static_pods::is_static;

/// Long enough for most starts to be over: one patch tells of the whole.
const COALESCE: Duration = Duration::from_millis(400);
const RETRY: Duration = Duration::from_millis(500);

/// Conditions that are this kubelet's to tell.
const OURS: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

/// The version of the pod that a patch led to.
type Answer = Result<u64, kube::Error>;

pub struct StatusWriter {
    api: Api<Pod>,
    name: String,
    /// Of the pod that is told of; a static pod's mirror has one of its own, and may be replaced.
    uid: Option<String>,
    /// What the API knows, as far as we have told it.
    told: PodStatus,
    /// The version of the pod that this was.
    told_at: u64,
    /// What it should know.
    wanted: PodStatus,
    due: Option<Instant>,
    sending: Option<(PodStatus, JoinHandle<Answer>)>,
    failures: u32,
}

impl StatusWriter {
    pub fn new(client: kube::Client, pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        Self {
            api: Api::namespaced(client, pod.namespace()),
            name: pod.name().to_owned(),
            uid: (!is_static(pod)).then(|| pod.uid().to_owned()),
            told: status.clone(),
            told_at: version(pod),
            wanted: status,
            due: None,
            sending: None,
            failures: 0,
        }
    }

    /// The last status that was set: for the times of its conditions.
    pub fn last(&self) -> &PodStatus {
        &self.wanted
    }

    /// The API's view has changed: conditions that others own are taken over.
    pub fn seen(&mut self, pod: &Pod) {
        if is_static(pod) {
            // Its mirror is new, and knows nothing yet.
            self.told = PodStatus::default();
            self.due = Some(Instant::now());
            return;
        }
        let Some(theirs) = pod.status.as_ref().and_then(|status| status.conditions.clone()) else {
            return;
        };
        let foreign = |conditions: Vec<_>| -> Vec<_> {
            let conditions: Vec<k8s_openapi::api::core::v1::PodCondition> = conditions;
            conditions.into_iter().filter(|condition| !OURS.contains(&condition.type_.as_str())).collect()
        };
        let theirs = foreign(theirs);
        for status in [&mut self.told, &mut self.wanted] {
            let own = status.conditions.take().unwrap_or_default();
            let own = own.into_iter().filter(|condition| OURS.contains(&condition.type_.as_str()));
            status.conditions = Some(theirs.iter().cloned().chain(own).collect());
        }
        self.repair(pod);
    }

    /// Somebody else has written what is ours to tell: it is told again. What is older than our own last word says
    /// nothing.
    fn repair(&mut self, pod: &Pod) {
        if self.sending.is_some() || version(pod) < self.told_at {
            return;
        }
        let Some(theirs) = &pod.status else { return };
        if essence(theirs) == essence(&self.told) {
            return;
        }
        self.told.phase.clone_from(&theirs.phase);
        self.told.conditions.clone_from(&theirs.conditions);
        let at = Instant::now() + COALESCE;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub fn set(&mut self, status: PodStatus) {
        if status == self.wanted && self.due.is_none() {
            return;
        }
        self.wanted = status;
        let base = self.sending.as_ref().map_or(&self.told, |(sent, _)| sent);
        if *base == self.wanted {
            self.due = None;
            return;
        }
        let at = if urgent(base, &self.wanted) { Instant::now() } else { Instant::now() + COALESCE };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        if self.failures == 0 {
            self.send_if_due();
        }
    }

    /// Everything is told.
    pub fn settled(&mut self) -> bool {
        if self.due.is_some() && self.failures == 0 {
            // Somebody waits for it now.
            self.due = Some(Instant::now());
            self.send_if_due();
        }
        self.due.is_none() && self.sending.is_none()
    }

    fn send_if_due(&mut self) {
        if self.sending.is_some() || self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        let Some(patch) = patch(self.uid.as_deref(), &self.told, &self.wanted) else {
            return;
        };
        let (api, name) = (self.api.clone(), self.name.clone());
        let task = tokio::spawn(async move {
            let params = PatchParams::default();
            api.patch_status(&name, &params, &Patch::Strategic(patch)).await.map(|pod| version(&pod))
        });
        self.sending = Some((self.wanted.clone(), task));
    }

    /// Resolves whenever something has moved on; to be called again and again. Cancel safe.
    pub async fn progress(&mut self) {
        match (&mut self.sending, self.due) {
            (Some((_, task)), _) => {
                let answer = task.await;
                let sent = self.sending.take().map(|(sent, _)| sent);
                self.answered(sent, answer);
            }
            (None, Some(due)) => tokio::time::sleep_until(due).await,
            (None, None) => std::future::pending().await,
        }
        self.send_if_due();
    }

    fn answered(&mut self, sent: Option<PodStatus>, answer: Result<Answer, tokio::task::JoinError>) {
        let failed = match answer {
            Ok(Ok(version)) => {
                self.told_at = version;
                None
            }
            // The pod is gone, or another one has its name: nobody to tell.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) && self.uid.is_some() => {
                None
            }
            // The mirror is yet to be made; it will be seen.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match failed {
            None => {
                self.failures = 0;
                if let Some(sent) = sent {
                    self.told = sent;
                }
            }
            Some(error) => {
                warn!(pod = self.name, error, "cannot patch the pod's status, trying again");
                self.due = Some(Instant::now() + RETRY * (1 << self.failures.min(5)));
                self.failures += 1;
            }
        }
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// What must never differ between the API and this kubelet, and is spelled in one way only.
fn essence(status: &PodStatus) -> (&str, Vec<(&str, &str)>) {
    let conditions = status.conditions.iter().flatten().map(|told| (&*told.type_, &*told.status));
    let mut conditions: Vec<_> = conditions.filter(|(type_, _)| OURS.contains(type_)).collect();
    conditions.sort_unstable();
    (status.phase.as_deref().unwrap_or("Pending"), conditions)
}
