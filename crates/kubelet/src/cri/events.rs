//! News of sandboxes and containers: the runtime's event stream where it has one, else a relist.
//!
//! A relist also follows every break of the stream, for what happened meanwhile. Runtimes without the stream
//! (containerd before 1.7) are relisted each second, as upstream does; the pods whose sets of states changed are
//! then asked about in detail. That is the one place where the kubelet polls, and only for want of anything else.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_cri::v1 as cri;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{debug, info, warn};

use super::view::{Container, PodView, Sandbox, keys};
use super::{Cri, CriError};

const RELIST: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(200);

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
    /// Everything that the runtime has has been told.
    Listed,
}

/// What is remembered of a pod between two relists: IDs and states.
type Fingerprint = Vec<(String, i32)>;

/// Tells of every pod that the runtime has, then of every change, until `shutdown`.
pub async fn follow(cri: Cri, news: mpsc::UnboundedSender<News>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow_forever(cri, news) => {}
    }
}

async fn follow_forever(cri: Cri, news: mpsc::UnboundedSender<News>) {
    let mut known: HashMap<String, Fingerprint> = HashMap::new();
    loop {
        match cri.container_events().await {
            Ok(mut stream) => {
                debug!("following the runtime's container events");
                // After subscribing, so that nothing falls between.
                if let Err(error) = relist(&cri, &mut known, &news).await {
                    warn!(%error, call = error.call, "cannot list pods of the runtime");
                }
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(event) => {
                            if let Some(pod) = from_event(event) {
                                // The states of the last relist say nothing of this pod any more.
                                known.remove(&pod.uid);
                                if news.send(News::Pod(pod)).is_err() {
                                    return;
                                }
                            }
                        }
                        Err(status) if status.code() == Code::Unimplemented => {
                            return relist_forever(cri, known, news).await;
                        }
                        Err(status) => {
                            debug!(%status, "the runtime's event stream broke");
                            break;
                        }
                    }
                }
            }
            Err(error) if error.code == Code::Unimplemented => {
                return relist_forever(cri, known, news).await;
            }
            Err(error) => debug!(%error, "no event stream from the runtime"),
        }
        if news.is_closed() {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn relist_forever(
    cri: Cri,
    mut known: HashMap<String, Fingerprint>,
    news: mpsc::UnboundedSender<News>,
) {
    info!("the runtime has no event stream: listing its containers each second");
    let mut timer = tokio::time::interval(RELIST);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !news.is_closed() {
        timer.tick().await;
        if let Err(error) = relist(&cri, &mut known, &news).await {
            warn!(%error, call = error.call, "cannot list pods of the runtime");
        }
    }
}

/// Two cheap lists; details only of the pods that changed since the last time.
async fn relist(
    cri: &Cri,
    known: &mut HashMap<String, Fingerprint>,
    news: &mpsc::UnboundedSender<News>,
) -> Result<(), CriError> {
    let began = std::time::Instant::now();
    let sandboxes = cri.list_pod_sandbox(cri::ListPodSandboxRequest::default());
    let containers = cri.list_containers(cri::ListContainersRequest::default());
    let (sandboxes, containers) = futures::try_join!(sandboxes, containers)?;
    let mut now: HashMap<String, Fingerprint> = HashMap::new();
    for sandbox in sandboxes.items {
        if let Some(uid) = sandbox.labels.get(keys::POD_UID) {
            let states = now.entry(uid.clone()).or_default();
            states.push((sandbox.id, sandbox.state));
        }
    }
    for container in containers.containers {
        if let Some(uid) = container.labels.get(keys::POD_UID) {
            let states = now.entry(uid.clone()).or_default();
            states.push((container.id, container.state));
        }
    }
    for (uid, states) in &mut now {
        states.sort();
        if known.get(uid) == Some(states) {
            continue;
        }
        match pod(cri, uid).await {
            Ok(Some(pod)) => {
                let _ = news.send(News::Pod(pod));
            }
            Ok(None) => {}
            // It changes just now; the next relist sees it.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    *known = now;
    crate::meters::observe("kubelet_pleg_relist_duration_seconds", &[], began.elapsed());
    let _ = news.send(News::Listed);
    Ok(())
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
