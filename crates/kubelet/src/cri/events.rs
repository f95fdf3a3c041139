//! News of sandboxes and containers: the runtime's event stream where it has one, else a relist.
//!
//! A relist also follows every break of the stream, for what happened meanwhile. Runtimes without the stream
//! (containerd before 1.7) are relisted each second, as upstream does; the pods whose sets of states changed are
//! then asked about in detail. That is the one place where the kubelet polls, and only for want of anything else.
//!
//! Other runtimes than ours may send an event before what it tells of can be seen, or lose one: theirs are looked
//! after by a relist a moment later, and by one now and then.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_cri::v1 as cri;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{debug, info, warn};

use super::view::{Container, PodView, Sandbox, keys};
use super::{Cri, CriError};

const RELIST: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(200);
/// As long as upstream, between relists beside a stream of events.
const LOOK_AFTER: Duration = Duration::from_secs(300);

/// What the runtime has of one pod.
#[derive(Debug)]
pub struct PodNews {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub view: PodView,
}

#[derive(Debug)]
pub enum News {
    Pod(PodNews),
    /// Of this pod the runtime had these sandboxes and containers, and has them no more.
    Missing {
        uid: String,
        ids: Vec<String>,
    },
    /// Everything that the runtime has has been told.
    Listed,
}

/// What is remembered of a pod between two relists: IDs and states.
type Fingerprint = Vec<(String, i32)>;
/// The state of what an event has told of: none that a list has, so that the next relist asks for details.
const TOLD: i32 = -1;

/// Tells of every pod that the runtime has, then of every change, until `shutdown`.
pub async fn follow(cri: Cri, news: mpsc::UnboundedSender<News>, shutdown: CancellationToken) {
    let mut follower = Follower { cri, news, known: HashMap::new() };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follower.run() => {}
    }
}

struct Follower {
    cri: Cri,
    news: mpsc::UnboundedSender<News>,
    /// By pod.
    known: HashMap<String, Fingerprint>,
}

impl Follower {
    async fn run(&mut self) {
        while !self.news.is_closed() {
            match self.subscribe().await {
                Ok(stream) => {
                    debug!("following the runtime's container events");
                    // After subscribing, so that nothing falls between.
                    self.relist().await;
                    if self.follow(stream).await == Some(Code::Unimplemented) {
                        return self.relist_forever().await;
                    }
                }
                Err(error) if error.code == Code::Unimplemented => return self.relist_forever().await,
                Err(error) => debug!(%error, "no event stream from the runtime"),
            }
            sleep(RECONNECT).await;
        }
    }

    /// Opens the stream. A runtime written in Go says that it is open with its first event, which may be long in
    /// coming: meanwhile what there is is told, and once more when the request has certainly arrived.
    async fn subscribe(&mut self) -> Result<tonic::Streaming<cri::ContainerEventResponse>, CriError> {
        let cri = self.cri.clone();
        let mut opening = std::pin::pin!(cri.container_events());
        for wait in [Duration::ZERO, RELIST] {
            tokio::select! {
                biased;
                opened = &mut opening => return opened,
                () = sleep(wait) => self.relist().await,
            }
        }
        opening.await
    }

    /// Passes on what the stream tells, until it breaks; with what code, if with any.
    async fn follow(&mut self, mut stream: tonic::Streaming<cri::ContainerEventResponse>) -> Option<Code> {
        let mut look = Instant::now() + LOOK_AFTER;
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => {
                        look = look.min(Instant::now() + RELIST);
                        let over = is_end_of_sandbox(&event);
                        if let Some(pod) = from_event(event) {
                            self.told(&pod, over);
                            if self.news.send(News::Pod(pod)).is_err() {
                                return None;
                            }
                        }
                    }
                    Some(Err(status)) => {
                        debug!(%status, "the runtime's event stream broke");
                        return Some(status.code());
                    }
                    None => return None,
                },
                () = sleep_until(look), if !self.cri.is_ours() => {
                    self.relist().await;
                    look = Instant::now() + LOOK_AFTER;
                }
            }
        }
    }

    /// The states of the last relist say nothing of this pod any more. Of a pod that is `over` nothing needs to be known
    /// where no relist follows, and would be for ever.
    fn told(&mut self, pod: &PodNews, over: bool) {
        if over && self.cri.is_ours() {
            self.known.remove(&pod.uid);
            return;
        }
        let ids = pod.view.sandboxes.keys().chain(pod.view.containers.keys());
        self.known.insert(pod.uid.clone(), ids.map(|id| (id.clone(), TOLD)).collect());
    }

    async fn relist_forever(&mut self) {
        info!("the runtime has no event stream: listing its containers each second");
        let mut timer = tokio::time::interval(RELIST);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.news.is_closed() {
            timer.tick().await;
            self.relist().await;
        }
    }

    async fn relist(&mut self) {
        let began = Instant::now();
        match self.tell_changes().await {
            Ok(()) => crate::meters::observe("kubelet_pleg_relist_duration_seconds", &[], began.elapsed()),
            Err(error) => warn!(%error, call = error.call, "cannot list pods of the runtime"),
        }
    }

    /// Two cheap lists; details only of the pods that changed since the last time.
    async fn tell_changes(&mut self) -> Result<(), CriError> {
        let sandboxes = self.cri.list_pod_sandbox(cri::ListPodSandboxRequest::default());
        let containers = self.cri.list_containers(cri::ListContainersRequest::default());
        let (sandboxes, containers) = futures::try_join!(sandboxes, containers)?;
        let sandboxes =
            sandboxes.items.into_iter().map(|sandbox| (sandbox.labels, sandbox.id, sandbox.state));
        let containers = containers.containers.into_iter().map(|container| {
            let cri::Container { labels, id, state, .. } = container;
            (labels, id, state)
        });
        let mut now: HashMap<String, Fingerprint> = HashMap::new();
        for (mut labels, id, state) in sandboxes.chain(containers) {
            if let Some(uid) = labels.remove(keys::POD_UID) {
                now.entry(uid).or_default().push((id, state));
            }
        }
        for (uid, states) in &mut now {
            states.sort();
            if self.known.get(uid) == Some(states) {
                continue;
            }
            match pod(&self.cri, uid).await {
                Ok(Some(pod)) => {
                    let _ = self.news.send(News::Pod(pod));
                }
                Ok(None) => {}
                // It changes just now; the next relist sees it.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for (uid, ids) in missing(&self.known, &now) {
            let _ = self.news.send(News::Missing { uid, ids });
        }
        self.known = now;
        let _ = self.news.send(News::Listed);
        Ok(())
    }
}

/// By pod, what was known and is not there now. No ID is ever used again.
fn missing(
    known: &HashMap<String, Fingerprint>,
    now: &HashMap<String, Fingerprint>,
) -> Vec<(String, Vec<String>)> {
    let mut missing = Vec::new();
    for (uid, known) in known {
        let now = now.get(uid).map(Vec::as_slice).unwrap_or_default();
        let is_there = |id: &String| now.iter().any(|(now, _)| now == id);
        let ids: Vec<String> = known.iter().map(|(id, _)| id).filter(|id| !is_there(id)).cloned().collect();
        if !ids.is_empty() {
            missing.push((uid.clone(), ids));
        }
    }
    missing
}

/// Everything that the runtime has of one pod, freshly asked for.
pub async fn pod(cri: &Cri, uid: &str) -> Result<Option<PodNews>, CriError> {
    let label_selector: HashMap<String, String> = [(keys::POD_UID.to_owned(), uid.to_owned())].into();
    let sandboxes = cri.list_pod_sandbox(cri::ListPodSandboxRequest {
        filter: Some(cri::PodSandboxFilter { label_selector: label_selector.clone(), ..Default::default() }),
    });
    let containers = cri.list_containers(cri::ListContainersRequest {
        filter: Some(cri::ContainerFilter { label_selector, ..Default::default() }),
    });
    let (sandboxes, containers) = futures::try_join!(sandboxes, containers)?;
    let mut view = PodView::default();
    let mut identity = None;
    for sandbox in sandboxes.items {
        let status = cri.pod_sandbox_status(&sandbox.id).await?;
        identity = identity.or_else(|| identity_of(&status.labels));
        let sandbox = Sandbox::new(status);
        view.sandboxes.insert(sandbox.id.clone(), sandbox);
    }
    for container in containers.containers {
        let status = cri.container_status(&container.id).await?;
        identity = identity.or_else(|| identity_of(&status.labels));
        let container = Container::new(&container.pod_sandbox_id, status);
        view.containers.insert(container.id.clone(), container);
    }
    Ok(identity.map(|(namespace, name)| PodNews { uid: uid.to_owned(), namespace, name, view }))
}

fn identity_of(labels: &HashMap<String, String>) -> Option<(String, String)> {
    Some((labels.get(keys::POD_NAMESPACE)?.clone(), labels.get(keys::POD_NAME)?.clone()))
}

/// The last event of a sandbox, whose containers went before it.
fn is_end_of_sandbox(event: &cri::ContainerEventResponse) -> bool {
    event.container_event_type == cri::ContainerEventType::ContainerDeletedEvent as i32
        && event.pod_sandbox_status.as_ref().is_some_and(|sandbox| sandbox.id == event.container_id)
}

/// An event carries the whole pod: no question has to follow it.
fn from_event(event: cri::ContainerEventResponse) -> Option<PodNews> {
    let sandbox = event.pod_sandbox_status?;
    let uid = sandbox.labels.get(keys::POD_UID)?.clone();
    let (namespace, name) = identity_of(&sandbox.labels)?;
    let sandbox = Sandbox::new(sandbox);
    let mut view = PodView::default();
    for status in event.containers_statuses {
        let container = Container::new(&sandbox.id, status);
        view.containers.insert(container.id.clone(), container);
    }
    view.sandboxes.insert(sandbox.id.clone(), sandbox);
    Some(PodNews { uid, namespace, name, view })
}

#[cfg(test)]
mod tests;
