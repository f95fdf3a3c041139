//! All pods of the node: starts a worker for each and hands it the news that concern it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use client::{Delta, Subscription};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::admission::{Rejection, admit, shortage, sysctls_allowed};
use super::allocated::Allocated;
use super::allocation;
use super::exec;
use super::ext::PodExt;
use super::machine::Input;
use super::preemption::{self, is_critical};
use super::worker::{self, First, Handle};
use crate::context::Context;
use crate::cri::events::{self, News, PodNews};
use crate::cri::view::{PodView, State};
use crate::static_pods::{self, StaticPods};

struct Known {
    handle: Handle,
    /// With the resources that it has been allocated.
    pod: Arc<Pod>,
    /// As the API has it.
    wanted: Arc<Pod>,
    /// It ends, so that a critical pod has room.
    preempted: bool,
}

pub struct Manager {
    ctx: Arc<Context>,
    pods: HashMap<String, Known>,
    allocated: Allocated,
    workers: JoinSet<String>,
    /// What the runtime had before the API's list of pods was complete.
    found: HashMap<String, PodNews>,
    /// Pods of the runtime that nobody knows, being looked at.
    suspects: HashSet<String>,
    looked_at: mpsc::UnboundedReceiver<(String, Option<PodNews>)>,
    looker: mpsc::UnboundedSender<(String, Option<PodNews>)>,
    statics: StaticPods,
    /// Before that, a pod of the runtime that the API does not know may be one of them.
    statics_known: bool,
    synced: bool,
    /// Critical pods that others make room for, by UID.
    waiting: HashMap<String, Arc<Pod>>,
}

/// Where a manager's news come from.
pub struct Sources {
    pub news: mpsc::UnboundedReceiver<News>,
    pub statics: mpsc::UnboundedReceiver<StaticPods>,
    /// Pods, by UID, that the node has to get rid of.
    pub kills: mpsc::UnboundedReceiver<(String, Input)>,
}

async fn next(desired: &mut Option<Subscription<Pod>>) -> Option<Delta<Pod>> {
    match desired {
        Some(desired) => desired.recv().await,
        None => std::future::pending().await,
    }
}

impl Manager {
    pub fn new(ctx: Arc<Context>) -> Self {
        let (looker, looked_at) = mpsc::unbounded_channel();
        let statics_known = ctx.options.config.static_pod_path.as_os_str().is_empty();
        Self {
            allocated: Allocated::read(&ctx.options.root_dir),
            ctx,
            pods: HashMap::new(),
            workers: JoinSet::new(),
            found: HashMap::new(),
            suspects: HashSet::new(),
            looked_at,
            looker,
            statics: StaticPods::new(),
            statics_known,
            synced: false,
            waiting: HashMap::new(),
        }
    }

    /// Works until `shutdown`.
    pub async fn run(mut self, sources: Sources, shutdown: CancellationToken) {
        let Sources { mut news, mut statics, mut kills } = sources;
        // First what runs, then what should: a pod is adopted with everything that is known of it.
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                said = news.recv() => match said {
                    Some(News::Pod(pod)) => drop(self.found.insert(pod.uid.clone(), pod)),
                    Some(News::Missing { .. }) => {}
                    Some(News::Listed) => break,
                    None => return,
                }
            }
        }
        let node = self.ctx.node.clone();
        let mut desired: Option<Subscription<Pod>> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = node.synced(), if desired.is_none() && self.statics_known => desired = Some(self.ctx.pods.subscribe()),
                delta = next(&mut desired) => match delta {
                    Some(delta) => self.desired(delta),
                    None => return,
                },
                Some(pods) = statics.recv() => self.statics(pods),
                said = news.recv() => match said {
                    Some(News::Pod(pod)) => self.runtime(pod),
                    Some(News::Missing { uid, ids }) => if let Some(known) = self.pods.get(&uid) {
                        known.handle.inbox.send(Input::Missing(ids));
                    },
                    Some(News::Listed) => {}
                    None => return,
                },
                Some((uid, kill)) = kills.recv() => if let Some(known) = self.pods.get(&uid) {
                    known.handle.inbox.send(kill);
                },
                Some((uid, pod)) = self.looked_at.recv() => self.looked_at(&uid, pod),
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => match ended {
                    Ok(uid) => {
                        self.pods.remove(&uid);
                        self.allocated.forget(&uid);
                        self.ctx.probes.forget(&uid);
                        self.ctx.mounted.lock().retain(|(of, _), _| *of != uid);
                        self.room_is_free();
                    }
                    Err(error) => warn!(%error, "a pod's worker ended badly"),
                },
            }
        }
    }

    /// The manifests of this node have changed.
    fn statics(&mut self, pods: StaticPods) {
        self.statics_known = true;
        let named = |name: &str| pods.values().any(|pod| pod.name() == name);
        let gone: Vec<Arc<Pod>> =
            self.statics.values().filter(|pod| !pods.contains_key(pod.uid())).cloned().collect();
        for pod in gone {
            self.gone(&pod);
            if !named(pod.name()) {
                self.remove_mirror(pod);
            }
        }
        for (uid, pod) in &pods {
            if !self.statics.contains_key(uid) {
                self.mirror(pod.clone());
                self.update(pod.clone());
            }
        }
        *self.ctx.statics.lock() = pods.values().cloned().collect();
        self.statics = pods;
    }

    fn remove_mirror(&self, pod: Arc<Pod>) {
        let ctx = self.ctx.clone();
        tokio::spawn(async move {
            if let Err(error) = static_pods::remove_mirror(&ctx, &pod).await {
                warn!(pod = pod.full_name(), %error, "cannot remove the mirror of a static pod");
            }
        });
    }

    /// What is left of pods that went while no kubelet ran, and of which the runtime has nothing either: their
    /// directories, and what they were given of the node.
    fn remove_leftovers(&self) {
        let ctx = self.ctx.clone();
        let dirs = std::fs::read_dir(ctx.options.root_dir.join("pods")).into_iter().flatten().flatten();
        let mut gone: BTreeSet<String> =
            dirs.map(|dir| dir.file_name().to_string_lossy().into_owned()).collect();
        gone.extend(ctx.devices.pods());
        gone.extend(ctx.cpus.pods());
        gone.extend(ctx.memory.pods());
        gone.extend(ctx.claims.pods());
        gone.retain(|uid| !self.pods.contains_key(uid) && !self.suspects.contains(uid));
        for uid in gone {
            let ctx = ctx.clone();
            tokio::spawn(async move { remove(&ctx, &uid).await });
        }
    }

    fn mirror(&self, pod: Arc<Pod>) {
        let ctx = self.ctx.clone();
        tokio::spawn(async move { static_pods::mirror(&ctx, &pod).await });
    }

    /// A mirror has appeared, and is to be told how its pod is; or has been deleted, and is made again.
    fn mirror_changed(&self, mirror: &Pod, deleted: bool) {
        let Some(pod) = self.statics.get(mirror.runtime_uid()) else {
            if !deleted {
                // Its manifest went while no kubelet ran.
                self.remove_mirror(Arc::new(mirror.clone()));
            }
            return;
        };
        if deleted {
            self.mirror(pod.clone());
        } else if let Some(known) = self.pods.get(pod.uid()) {
            known.handle.inbox.send(Input::Desired(pod.clone()));
        }
    }

    fn desired(&mut self, delta: Delta<Pod>) {
        match delta {
            Delta::Added(pod) if pod.is_mirror() => self.mirror_changed(&pod, false),
            Delta::Deleted(pod) if pod.is_mirror() => self.mirror_changed(&pod, true),
            Delta::Updated { new, .. } if new.is_mirror() => {}
            Delta::Added(pod) => self.update(pod),
            Delta::Updated { old, new } => {
                if old.uid() != new.uid() {
                    self.gone(&old);
                }
                self.update(new);
            }
            Delta::Deleted(pod) => self.gone(&pod),
            Delta::Synced => {
                self.synced = true;
                for (_, pod) in std::mem::take(&mut self.found) {
                    self.suspect(pod);
                }
                self.allocated.keep(|uid| self.pods.contains_key(uid));
                self.remove_leftovers();
            }
        }
    }

    fn update(&mut self, pod: Arc<Pod>) {
        if self.pods.contains_key(pod.uid()) {
            return self.changed(pod);
        }
        let view = self.found.remove(pod.uid()).map(|found| found.view);
        let new = view.is_none() && matches!(pod.phase(), "Pending") && pod.deletion().is_none();
        self.waiting.remove(pod.uid());
        if new && self.makes_room(&pod) {
            self.waiting.insert(pod.uid().to_owned(), pod);
            return;
        }
        let first = match if new { self.admit(&pod) } else { Ok(()) } {
            Ok(()) if new => First::Admission,
            Ok(()) => First::Input(Box::new(Input::Tick)),
            Err(rejection) => First::Input(Box::new(rejection.told(&self.ctx, &pod))),
        };
        self.start(pod, view.unwrap_or_default(), first);
    }

    fn start(&mut self, wanted: Arc<Pod>, view: PodView, first: First) {
        let pod = if view.containers.is_empty() {
            wanted.clone()
        } else {
            self.allocated.restored(&wanted).unwrap_or_else(|| allocation::restored(&wanted))
        };
        if !view.containers.is_empty() {
            self.ctx.cgroups.know(&pod);
        }
        let handle = worker::start(self.ctx.clone(), pod.clone(), view, first, &mut self.workers);
        let uid = wanted.uid().to_owned();
        let resize = allocation::differ(&pod, &wanted);
        self.pods.insert(uid.clone(), Known { handle, pod, wanted, preempted: false });
        if resize {
            self.allocate(&uid);
        }
    }

    /// A pod that runs here is wanted differently.
    fn changed(&mut self, wanted: Arc<Pod>) {
        let Some(known) = self.pods.get_mut(wanted.uid()) else { return };
        let resize = allocation::differ(&known.pod, &wanted);
        let was_pending = allocation::differ(&known.pod, &known.wanted);
        known.pod = allocation::with_resources_of(&wanted, &known.pod);
        known.wanted = wanted.clone();
        known.handle.inbox.send(Input::Desired(known.pod.clone()));
        if resize {
            self.allocate(wanted.uid());
        } else if was_pending {
            known.handle.inbox.send(Input::ResizePending(None));
        }
        let ended = matches!(wanted.phase(), "Succeeded" | "Failed");
        if ended {
            self.room_is_free();
        }
    }

    /// Gives a pod the resources that it asks for, if the node has them.
    fn allocate(&mut self, uid: &str) {
        let others: Vec<Arc<Pod>> = self.admitted(Some(uid));
        let allocatable = self.ctx.allocatable();
        let fixed = match (self.ctx.cpus.is_static(), self.ctx.memory.is_static()) {
            (true, _) => Some("CPU"),
            (_, true) => Some("Memory"),
            _ => None,
        };
        let Some(known) = self.pods.get_mut(uid) else { return };
        // Until it is granted, this is what a kubelet that is started again has to go by.
        self.allocated.note(&known.pod);
        let pending = allocation::resize(&known.wanted, &others, &allocatable, fixed).err();
        if pending.is_none() {
            known.pod = known.wanted.clone();
            self.allocated.note(&known.pod);
            known.handle.inbox.send(Input::Desired(known.pod.clone()));
        }
        known.handle.inbox.send(Input::ResizePending(pending));
    }

    fn room_is_free(&mut self) {
        let waiting: Vec<Arc<Pod>> = self.waiting.values().cloned().collect();
        for pod in waiting {
            self.update(pod);
        }
        self.retry_resizes();
    }

    /// A critical pod that does not fit has others go. True while it has to wait for them.
    fn makes_room(&mut self, pod: &Pod) -> bool {
        let (allocatable, max_pods) = (self.ctx.allocatable(), self.max_pods());
        let others = self.admitted(None);
        if !is_critical(pod) || shortage(pod, &others, &allocatable, max_pods).is_none() {
            return false;
        }
        // Those that are on their way already count as gone.
        let staying: Vec<Arc<Pod>> = others.into_iter().filter(|other| !self.ends(other.uid())).collect();
        let Some(victims) = preemption::victims(pod, &staying, &allocatable, max_pods) else { return false };
        for uid in victims {
            let Some(known) = self.pods.get_mut(&uid) else { continue };
            known.preempted = true;
            info!(
                pod = known.pod.full_name(),
                critical = pod.full_name(),
                "a pod makes room for a critical one"
            );
            self.ctx.events.warning(&known.pod, None, preemption::REASON, preemption::MESSAGE);
            crate::meters::count("kubelet_preemptions", &[("preemption_signal", "admission")]);
            known.handle.inbox.send(Input::Kill {
                reason: preemption::REASON.into(),
                message: preemption::MESSAGE.into(),
                grace: None,
            });
        }
        true
    }

    fn ends(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|known| known.preempted)
    }

    fn max_pods(&self) -> u32 {
        self.ctx.options.config.pod_limit(self.ctx.machine.cpus)
    }

    /// Room has become free for resizes.
    fn retry_resizes(&mut self) {
        let waits = |known: &&Known| allocation::differ(&known.pod, &known.wanted);
        let mut waiting: Vec<Arc<Pod>> =
            self.pods.values().filter(waits).map(|known| known.wanted.clone()).collect();
        waiting.sort_by_key(|pod| std::cmp::Reverse(pod.pod_spec().priority.unwrap_or(0)));
        for pod in waiting {
            self.allocate(pod.uid());
        }
    }

    /// The pods that use something of the node, or are about to.
    fn admitted(&self, but: Option<&str>) -> Vec<Arc<Pod>> {
        let uses = |known: &&Known| !known.handle.released.load(Ordering::Relaxed);
        let pods = self.pods.values().filter(uses).map(|known| known.pod.clone());
        // What others make room for is not for whoever comes first.
        pods.chain(self.waiting.values().cloned()).filter(|pod| Some(pod.uid()) != but).collect()
    }

    fn admit(&self, pod: &Pod) -> Result<(), Rejection> {
        let others = self.admitted(None);
        let node = self.ctx.node.get("", &self.ctx.options.node_name);
        self.ctx.shutdown.admit()?;
        self.ctx.pressure.admit(pod)?;
        sysctls_allowed(pod, &self.ctx.options.config.allowed_unsafe_sysctls)?;
        admit(pod, &others, node.as_deref(), &self.ctx.allocatable(), self.max_pods())
    }

    fn gone(&mut self, pod: &Pod) {
        self.waiting.remove(pod.uid());
        if let Some(known) = self.pods.get(pod.uid()) {
            known.handle.inbox.send(Input::Gone);
            // The scheduler counts with its room from now on, so it is not to be counted here either.
            known.handle.released.store(true, Ordering::Relaxed);
        }
    }

    fn runtime(&mut self, news: PodNews) {
        // Nobody listening is the usual case.
        let _ = self.ctx.changes.send(news.uid.as_str().into());
        match self.pods.get(&news.uid) {
            Some(known) => {
                known.handle.inbox.send(Input::Runtime(news.view));
            }
            None if !self.synced => match self.found.get_mut(&news.uid) {
                Some(found) => found.view.merge(news.view),
                None => drop(self.found.insert(news.uid.clone(), news)),
            },
            None if alive(&news.view) => self.suspect(news),
            None => {}
        }
    }

    /// The runtime has a pod that nobody wants. Late news of one that has just been removed looks the same, so ask.
    fn suspect(&mut self, news: PodNews) {
        if !self.suspects.insert(news.uid.clone()) {
            return;
        }
        let (cri, looker) = (self.ctx.cri.clone(), self.looker.clone());
        tokio::spawn(async move {
            let found = events::pod(&cri, &news.uid).await.ok().flatten();
            let _ = looker.send((news.uid, found));
        });
    }

    fn looked_at(&mut self, uid: &str, found: Option<PodNews>) {
        self.suspects.remove(uid);
        let Some(found) = found else { return };
        if self.pods.contains_key(uid) {
            return;
        }
        info!(
            pod = found.name,
            namespace = found.namespace,
            uid,
            "removing a pod that the API does not know"
        );
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(found.name),
                namespace: Some(found.namespace),
                uid: Some(uid.to_owned()),
                ..Default::default()
            },
            spec: Some(orphan_spec(&found.view)),
            ..Default::default()
        };
        self.start(Arc::new(pod), found.view, First::Input(Box::new(Input::Gone)));
    }
}

/// Takes back everything of a pod that is gone; drivers whose volumes it has may have to register first.
async fn remove(ctx: &Context, uid: &str) {
    let mut wait = std::time::Duration::from_secs(1);
    loop {
        let Err(error) = exec::give_back(ctx, uid).await else { return };
        warn!(uid, error, "cannot take back everything of a pod that is gone, trying again");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(std::time::Duration::from_secs(60));
    }
}

fn alive(view: &PodView) -> bool {
    view.sandboxes.values().any(|sandbox| sandbox.ready)
        || view.containers.values().any(|container| container.state == State::Running)
}

/// As much of a spec as is needed to end the containers.
fn orphan_spec(view: &PodView) -> k8s_openapi::api::core::v1::PodSpec {
    use k8s_openapi::api::core::v1::{Container, PodSpec};
    let mut names: Vec<&String> = view.containers.values().map(|container| &container.name).collect();
    names.sort();
    names.dedup();
    let containers = names.into_iter().map(|name| Container { name: name.clone(), ..Default::default() });
    PodSpec { containers: containers.collect(), ..Default::default() }
}
