//! The task of one pod: feeds its state machine and carries out what that decides.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, warn};

use super::allocation;
use super::exec::{self, PodEnv};
use super::ext::PodExt;
use super::machine::{Action, Input, Machine, Stage};
use super::probed::Kind;
use super::slot::Slot;
use super::status::{NodeFacts, status};
use super::status_writer::StatusWriter;
use crate::affinity;
use crate::context::Context;
use crate::cri::view::PodView;
use crate::meters;
use crate::probe::{self, Probing};
use crate::volumes;

/// What the manager keeps of a worker.
pub struct Handle {
    pub inbox: Inbox,
    /// Nothing of the pod runs any more: what it used of the node is free.
    pub released: Arc<AtomicBool>,
}

/// Where a worker is told what happens.
///
/// A channel has room for dozens of messages from the start: boxed, for an input is long and most pods get few at a time.
pub struct Inbox(mpsc::UnboundedSender<Box<Input>>);

impl Inbox {
    /// False when there is no worker any more.
    pub fn send(&self, input: Input) -> bool {
        self.0.send(Box::new(input)).is_ok()
    }
}

/// What a task of the worker answers.
enum Done {
    Input(Input),
    Refreshed(Input),
    Finalized,
}

/// What a worker begins with.
pub enum First {
    /// A new pod, which the node's managers of CPUs, memory and devices have to admit.
    Admission,
    /// The rejection, the absence, or just the time.
    Input(Box<Input>),
}

pub struct Worker {
    env: Arc<PodEnv>,
    machine: Machine,
    inbox: mpsc::UnboundedReceiver<Box<Input>>,
    /// For probes, which answer more than once.
    own: mpsc::WeakUnboundedSender<Box<Input>>,
    tasks: JoinSet<Done>,
    pulls: HashMap<String, AbortHandle>,
    probes: HashMap<(String, Kind), AbortOnDropHandle<()>>,
    status: StatusWriter,
    facts: NodeFacts,
    released: Arc<AtomicBool>,
    finalize: bool,
    refreshing: bool,
    /// Why the last attempt to renew the volumes failed.
    refresh_error: Option<String>,
    ended: bool,
    /// Devices of the node are not what they were.
    health: watch::Receiver<u64>,
    /// When the kubelet saw the new pod; nothing once it has been told how long its start took.
    seen: Option<Instant>,
    /// How long images were brought for it, by container, and since when.
    pulled: Duration,
    pulling: HashMap<String, Instant>,
}

/// Starts the worker of a pod; `view` is what the runtime has of it. The task ends with the pod and answers with
/// its UID.
pub fn start(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    view: PodView,
    first: First,
    workers: &mut JoinSet<String>,
) -> Handle {
    let (sender, inbox) = mpsc::unbounded_channel();
    let released = Arc::new(AtomicBool::new(false));
    let mut known = view;
    exec::complete(&mut known, &PodView::default());
    let facts = NodeFacts {
        ips: ctx.host_ips(),
        runtime: ctx.cri.name.to_string(),
        recursive_read_only: false,
        devices: Default::default(),
    };
    let mut machine = Machine::new(pod.clone(), known, Timestamp::now());
    let longest = ctx.options.config.crash_loop_back_off.max_container_restart_period.as_deref();
    if let Some(longest) = longest.and_then(crate::config::duration).and_then(|d| d.try_into().ok()) {
        machine.limit_backoff(longest);
    }
    let mut worker = Worker {
        status: StatusWriter::new(ctx.client.clone(), &pod),
        health: ctx.devices.health.subscribe(),
        env: Arc::new(PodEnv::new(ctx, pod.namespace())),
        machine,
        inbox,
        own: sender.downgrade(),
        tasks: JoinSet::new(),
        pulls: HashMap::new(),
        probes: HashMap::new(),
        facts,
        released: released.clone(),
        finalize: false,
        refreshing: false,
        refresh_error: None,
        ended: false,
        seen: matches!(first, First::Admission).then(Instant::now),
        pulled: Duration::ZERO,
        pulling: HashMap::new(),
    };
    workers.spawn(async move {
        Box::pin(worker.begin(first)).await;
        worker.run().await;
        pod.uid().to_owned()
    });
    Handle { inbox: Inbox(sender), released }
}

impl Worker {
    async fn begin(&mut self, first: First) {
        let input = match first {
            First::Input(input) => *input,
            First::Admission => {
                let (ctx, pod) = (self.env.ctx.clone(), self.machine.pod.clone());
                match affinity::admit(&ctx, &pod).await {
                    Ok(()) => Input::Tick,
                    Err(rejection) => rejection.told(&ctx, &pod),
                }
            }
        };
        self.input(input);
    }

    async fn run(mut self) {
        while !self.ended {
            let wake = self.wake_in();
            tokio::select! {
                input = self.inbox.recv() => match input {
                    Some(input) => self.input(*input),
                    // The manager is gone: the kubelet stops, the pod stays.
                    None => return,
                },
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => match done {
                    Ok(Done::Input(input)) => self.input(input),
                    Ok(Done::Refreshed(input)) => self.refreshed(input),
                    Ok(Done::Finalized) => {}
                    Err(failed) if failed.is_cancelled() => {}
                    Err(failed) => error!(pod = self.machine.pod.full_name(), %failed, "an action panicked"),
                },
                () = self.env.objects.changed() => {
                    self.input(Input::Objects);
                    self.refresh_volumes();
                }
                Ok(()) = self.health.changed() => if self.env.ctx.devices.has_any(self.machine.pod.uid()) {
                    self.input(Input::Tick);
                },
                () = self.status.progress() => self.maybe_finalize(),
                () = sleep(wake) => {
                    self.input(Input::Tick);
                    if self.volumes_due() {
                        self.refresh_volumes();
                    }
                }
            }
        }
        debug!(pod = self.machine.pod.full_name(), "pod is gone");
    }

    fn wake_in(&self) -> Option<Duration> {
        let now = Timestamp::now();
        let refresh_at = self.env.mounted.lock().refresh_at.filter(|_| !self.refreshing);
        let active = self.machine.stage == Stage::Active;
        let at = self.machine.wake(now).into_iter().chain(refresh_at.filter(|_| active)).min()?;
        let wait = at.duration_since(now);
        // A moment later than asked for, so that it has certainly passed.
        Some(Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(1))
    }

    fn volumes_due(&self) -> bool {
        let at = self.env.mounted.lock().refresh_at;
        at.is_some_and(|at| at <= Timestamp::now())
    }

    fn input(&mut self, mut input: Input) {
        let mut metadata_changed = false;
        match &mut input {
            Input::Runtime(news) => exec::complete(news, &self.machine.view),
            Input::Stopped { result: Ok(Some(container)), .. } => {
                exec::complete_one(container, &self.machine.view)
            }
            Input::Started { result: Ok(container), .. } => exec::complete_one(container, &self.machine.view),
            Input::Desired(pod) => {
                let (old, new) = (&self.machine.pod.metadata, &pod.metadata);
                // The downward API shows resources, too.
                metadata_changed = old.labels != new.labels
                    || old.annotations != new.annotations
                    || allocation::differ(&self.machine.pod, pod);
                self.status.seen(pod);
            }
            _ => {}
        }
        if let Input::Image { name, .. } = &input {
            self.pulled += self.pulling.remove(name).map_or(Duration::ZERO, |began| began.elapsed());
        }
        let now = Timestamp::now();
        let began = Instant::now();
        let actions = self.machine.step(input, now);
        for action in actions {
            self.act(action);
        }
        if metadata_changed {
            self.refresh_volumes();
        }
        if self.machine.stage >= Stage::Stopped {
            self.released.store(true, Ordering::Relaxed);
        }
        if !self.machine.gone {
            self.facts.recursive_read_only = self.env.recursive_read_only();
            self.facts.devices = self.devices();
            let next: PodStatus = status(&self.machine, self.status.last(), &self.facts, now);
            // The scheduler gives the room of a pod away as soon as it is told of this phase.
            if matches!(next.phase.as_deref(), Some("Succeeded" | "Failed")) {
                self.released.store(true, Ordering::Relaxed);
            }
            self.tell_of_start(&next, now);
            self.status.set(next);
        }
        self.maybe_finalize();
        let kind = if self.machine.stage == Stage::Active { "sync" } else { "terminating" };
        meters::observe("kubelet_pod_worker_duration_seconds", &[("operation_type", kind)], began.elapsed());
    }

    /// The first time that all of its containers have started.
    fn tell_of_start(&mut self, status: &PodStatus, now: Timestamp) {
        if status.phase.as_deref() != Some("Running") {
            return;
        }
        let (Some(seen), Some(created)) =
            (self.seen.take(), self.machine.pod.metadata.creation_timestamp.as_ref())
        else {
            return;
        };
        let all = Duration::try_from(now.duration_since(created.0)).unwrap_or_default();
        meters::observe("kubelet_pod_start_duration_seconds", &[], seen.elapsed());
        meters::observe("kubelet_pod_start_total_duration_seconds", &[], all);
        let own = all.saturating_sub(self.pulled);
        meters::observe("kubelet_pod_start_sli_duration_seconds", &[], own);
    }

    /// How the devices of the containers are.
    fn devices(&self) -> BTreeMap<String, Vec<ResourceStatus>> {
        let (devices, uid) = (&self.env.ctx.devices, self.machine.pod.uid());
        if !devices.has_any(uid) {
            return BTreeMap::new();
        }
        let of = |slot: &Slot| (slot.name.clone(), devices.health_of(uid, &slot.name));
        self.machine.slots.iter().map(of).collect()
    }

    fn slot(&self, name: &str) -> Option<&Slot> {
        self.machine.slots.iter().find(|slot| slot.name == name)
    }

    fn pod_ip(&self) -> String {
        let pod = &self.machine.pod;
        if pod.host_network() {
            return self.facts.ips.first().map(ToString::to_string).unwrap_or_default();
        }
        let sandbox = self.machine.sandbox();
        sandbox.and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default()
    }

    fn spawn(&mut self, task: impl Future<Output = Input> + Send + 'static) -> AbortHandle {
        self.tasks.spawn(async move { Done::Input(task.await) })
    }

    fn act(&mut self, action: Action) {
        let (env, pod) = (self.env.clone(), self.machine.pod.clone());
        match action {
            Action::MountVolumes => drop(self.spawn(exec::mount_volumes(env, pod))),
            Action::RunSandbox { attempt, stops, removes } => {
                drop(self.spawn(exec::run_sandbox(env, pod, attempt, stops, removes)))
            }
            Action::EnsureImage { name } => {
                if let Some(container) = self.slot(&name).map(|slot| slot.spec.clone()) {
                    let task = self.spawn(exec::ensure_image(env, pod, container));
                    self.pulling.insert(name.clone(), Instant::now());
                    self.pulls.insert(name, task);
                }
            }
            Action::CancelImage { name } => {
                if let Some(task) = self.pulls.remove(&name) {
                    task.abort();
                }
            }
            Action::Start { name, attempt, image, discard } => {
                self.start_container(&name, attempt, image, discard)
            }
            Action::PostStart { name, id } => {
                let pod_ip = self.pod_ip();
                if let Some(container) = self.slot(&name).map(|slot| slot.spec.clone()) {
                    self.spawn(exec::post_start(env, pod, container, id, pod_ip));
                }
            }
            Action::Stop { name, id, grace, hook } => self.stop_container(&name, id, grace, hook),
            Action::Resize { name, id } => {
                if let Some(container) = self.slot(&name).map(|slot| slot.spec.clone()) {
                    self.spawn(exec::resize(env, pod, container, id));
                }
            }
            Action::ResizePod => exec::resize_pod(&env, &pod),
            Action::Probe { name, id, kind } => self.start_probe(&name, id, kind),
            Action::EndProbes { name, all } => {
                self.probes.retain(|(of, kind), _| *of != name || (!all && *kind == Kind::Readiness));
            }
            Action::TearDown { sandboxes, remove } => {
                self.probes.clear();
                self.spawn(exec::tear_down(env, pod, sandboxes, remove));
            }
            Action::Finalize => self.finalize = true,
            Action::End => self.ended = true,
            Action::Event { warning, reason, message, container } => {
                let events = &self.env.ctx.events;
                if warning {
                    events.warning(&pod, container.as_deref(), reason, &message);
                } else {
                    events.normal(&pod, container.as_deref(), reason, &message);
                }
            }
        }
    }

    fn start_container(&mut self, name: &str, attempt: u32, image: String, discard: Vec<String>) {
        let Some((slot, sandbox)) = self.slot(name).zip(self.machine.sandbox()) else {
            return;
        };
        let mut ephemeral = self.machine.pod.pod_spec().ephemeral_containers.iter().flatten();
        let target = ephemeral
            .find(|container| container.name == name)
            .and_then(|container| container.target_container_name.clone())
            .and_then(|target| self.slot(&target)?.current.as_ref().map(|current| current.id.clone()));
        let start = exec::Start {
            container: slot.spec.clone(),
            attempt,
            image,
            discard,
            sandbox: sandbox.clone(),
            target,
        };
        let (env, pod) = (self.env.clone(), self.machine.pod.clone());
        self.spawn(exec::start(env, pod, start));
    }

    fn stop_container(&mut self, name: &str, id: String, grace: i64, hook: bool) {
        let pod_ip = self.pod_ip();
        let Some(slot) = self.slot(name) else { return };
        let stop = exec::Stop {
            container: slot.spec.clone(),
            sandbox_id: slot.current.as_ref().map(|current| current.sandbox_id.clone()).unwrap_or_default(),
            id,
            grace,
            hook,
            pod_ip,
        };
        let (env, pod) = (self.env.clone(), self.machine.pod.clone());
        self.spawn(exec::stop(env, pod, stop));
    }

    fn start_probe(&mut self, name: &str, id: String, kind: Kind) {
        let pod_ip = self.pod_ip();
        let Some(slot) = self.slot(name) else { return };
        let Some(probe) = kind.of(&slot.spec).cloned() else {
            return;
        };
        let started_at = slot.current.as_ref().and_then(|current| current.started_at);
        let age = started_at.map(|at| Timestamp::now().duration_since(at));
        let probing = Probing {
            cri: self.env.ctx.cri.clone(),
            probe,
            container: slot.spec.clone(),
            container_id: id.clone(),
            pod_ip,
            age: age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default(),
        };
        let own = self.own.clone();
        let of = name.to_owned();
        let pod = &self.machine.pod;
        let counted = probe::counts::Probe {
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            pod: pod.name().to_owned(),
            container: of.clone(),
            kind,
        };
        let ctx = self.env.ctx.clone();
        let task = probe::start(probing, move |result, took| {
            let Some(own) = own.upgrade().map(Inbox) else { return false };
            ctx.probes.add(&counted, &result, took);
            // A startup probe has done its work when it succeeds once.
            let over = kind == Kind::Startup && result.is_ok();
            own.send(Input::Probed { name: of.clone(), id: id.clone(), kind, result }) && !over
        });
        self.probes.insert((name.to_owned(), kind), task);
    }

    /// Writes volumes anew whose objects, or whose pod, have changed.
    fn refresh_volumes(&mut self) {
        let pod = &self.machine.pod;
        if self.refreshing
            || self.machine.stage != Stage::Active
            || !self.machine.mounted()
            || !(volumes::follows_objects(pod) || self.env.mounted.lock().refresh_at.is_some())
        {
            return;
        }
        self.refreshing = true;
        let task = exec::mount_volumes(self.env.clone(), pod.clone());
        self.tasks.spawn(async move { Done::Refreshed(task.await) });
    }

    fn refreshed(&mut self, input: Input) {
        self.refreshing = false;
        if self.machine.stage != Stage::Active {
            // It ends, and what it needed may end with it: a namespace is deleted, most likely.
            return;
        }
        if let Input::Volumes(Err(failure)) = input {
            // What is mounted stays; the next change, or a minute, tries again. The API is told, and the log once.
            let pod = &self.machine.pod;
            if self.refresh_error.as_ref() != Some(&failure.message) {
                warn!(pod = pod.full_name(), error = failure.message, "cannot renew the pod's volumes");
            }
            self.env.ctx.events.warning(pod, None, &failure.reason, &failure.message);
            self.refresh_error = Some(failure.message);
            let later = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(60)).ok();
            self.env.mounted.lock().refresh_at = later;
        } else {
            self.refresh_error = None;
        }
    }

    /// Once everything is cleaned up and the last status is told, the API object may go.
    fn maybe_finalize(&mut self) {
        if !self.finalize || self.machine.gone || !self.status.settled() {
            return;
        }
        self.finalize = false;
        let task = exec::finalize(self.env.clone(), self.machine.pod.clone());
        self.tasks.spawn(async move {
            task.await;
            Done::Finalized
        });
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
