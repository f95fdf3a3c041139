//! A simulated runtime and clock around the state machine.

use super::*;

/// Does at once what the machine asks for, and notes it in short words.
pub struct Sim {
    pub machine: Machine,
    pub now: Timestamp,
    pub last: PodStatus,
    pub log: Vec<String>,
    /// Messages of events.
    pub told: Vec<String>,
    /// Exit codes of containers that end as soon as they start, by name; used up one by one.
    pub exits: HashMap<String, VecDeque<i32>>,
    pub missing_images: Vec<String>,
    /// Actions that are left unanswered, by their first word.
    pub held: Vec<&'static str>,
    pub sandboxes: u32,
}

pub fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

pub fn plain(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]})
}

impl Sim {
    pub fn new(spec: Value) -> Self {
        Self::adopting(pod(spec), PodView::default())
    }

    pub fn adopting(pod: Pod, view: PodView) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        Self {
            last: pod.status.clone().unwrap_or_default(),
            machine: Machine::new(Arc::new(pod), view, now),
            now,
            log: Vec::new(),
            told: Vec::new(),
            exits: HashMap::new(),
            missing_images: Vec::new(),
            held: Vec::new(),
            sandboxes: 0,
        }
    }

    pub fn exits(mut self, name: &str, codes: &[i32]) -> Self {
        self.exits.insert(name.into(), codes.iter().copied().collect());
        self
    }

    pub fn holding(mut self, actions: &[&'static str]) -> Self {
        self.held = actions.to_vec();
        self
    }

    pub fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.machine.step(input, self.now) {
                inputs.extend(self.perform(action));
            }
            let facts = NodeFacts {
                devices: Default::default(),
                ips: vec!["10.0.0.1".parse().unwrap()],
                runtime: "r".into(),
                recursive_read_only: false,
            };
            self.last = status(&self.machine, &self.last, &facts, self.now);
        }
    }

    pub fn tick(&mut self) {
        self.input(Input::Tick);
    }

    /// Lets time pass, waking the machine whenever it wants.
    pub fn pass(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        while let Some(at) = self.machine.wake(self.now).filter(|at| *at <= end) {
            self.now = at;
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    pub fn container(&self, name: &str, attempt: u32, state: State, exit_code: i32) -> Container {
        Container {
            id: format!("{name}-{attempt}"),
            sandbox_id: self.machine.sandbox().map(|s| s.id.clone()).unwrap_or_default(),
            name: name.into(),
            restart_count: attempt,
            state,
            created_at: self.now,
            started_at: Some(self.now),
            finished_at: (state == State::Exited).then_some(self.now),
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: "i".into(),
            image_id: "sha".into(),
            images: Default::default(),
            log_path: String::new(),
            message_file: None,
            message_policy: String::new(),
            user: None,
            resources: None,
            stop_signal: None,
        }
    }

    pub fn ends(&mut self, name: &str, exit_code: i32) {
        let slot = self.machine.slots.iter().find(|slot| slot.name == name).unwrap();
        let attempt = slot.current.as_ref().unwrap().restart_count;
        let mut view = PodView::default();
        let ended = self.container(name, attempt, State::Exited, exit_code);
        view.containers.insert(ended.id.clone(), ended);
        self.input(Input::Runtime(view));
    }

    pub fn probe(&mut self, name: &str, kind: Kind, ok: bool) {
        let slot = self.machine.slots.iter().find(|slot| slot.name == name).unwrap();
        let id = slot.current.as_ref().unwrap().id.clone();
        let result = if ok { Ok(None) } else { Err(Unsuccessful::Failed("no".into())) };
        self.input(Input::Probed { name: name.into(), id, kind, result });
    }

    pub fn delete(&mut self, grace: i64) {
        let mut pod = (*self.machine.pod).clone();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            self.now + SignedDuration::from_secs(grace),
        ));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.input(Input::Desired(Arc::new(pod)));
    }

    pub fn perform(&mut self, action: Action) -> Option<Input> {
        let (word, input) = match action {
            Action::MountVolumes => ("mount".to_owned(), Some(Input::Volumes(Ok(())))),
            Action::RunSandbox { attempt, .. } => {
                self.sandboxes += 1;
                let sandbox = Sandbox {
                    id: format!("s{attempt}"),
                    attempt,
                    ready: true,
                    created_at: self.now,
                    ips: vec!["10.244.0.2".into()],
                };
                (format!("sandbox {attempt}"), Some(Input::Sandbox(Ok(sandbox))))
            }
            Action::EnsureImage { name } => {
                let result = if self.missing_images.contains(&name) {
                    Err(Failure { reason: "ErrImagePull".into(), message: "not there".into() })
                } else {
                    Ok("sha".to_owned())
                };
                (format!("image {name}"), Some(Input::Image { name, result }))
            }
            Action::CancelImage { name } => (format!("cancel {name}"), None),
            Action::Start { name, attempt, .. } => {
                let exit = self.exits.get_mut(&name).and_then(VecDeque::pop_front);
                let container = match exit {
                    Some(code) => self.container(&name, attempt, State::Exited, code),
                    None => self.container(&name, attempt, State::Running, 0),
                };
                let word = format!("start {name} {attempt}");
                (word, Some(Input::Started { name, result: Ok(container) }))
            }
            Action::PostStart { name, .. } => {
                (format!("hook {name}"), Some(Input::Hooked { name, result: Ok(()) }))
            }
            Action::Stop { name, grace, id, .. } => {
                let word = format!("stop {name} {grace}");
                let attempt = id.rsplit('-').next().unwrap().parse().unwrap();
                let container = self.container(&name, attempt, State::Exited, 143);
                (word, Some(Input::Stopped { name, result: Ok(Some(container)) }))
            }
            Action::Resize { name, .. } => {
                let slot = self.machine.slots.iter().find(|slot| slot.name == name).unwrap();
                let resources = slot.spec.resources.clone().unwrap_or_default();
                (format!("resize {name}"), Some(Input::Resized { name, result: Ok(resources) }))
            }
            Action::ResizePod => ("resize pod".into(), None),
            Action::Probe { name, kind, .. } => (format!("probe {name} {kind:?}"), None),
            Action::EndProbes { .. } => return None,
            Action::Event { message, .. } => {
                self.told.push(message);
                return None;
            }
            Action::TearDown { remove, .. } => (format!("teardown {remove}"), Some(Input::TornDown(Ok(())))),
            Action::Finalize => ("finalize".into(), None),
            Action::End => ("end".into(), None),
        };
        let held = self.held.iter().any(|held| word.starts_with(held));
        self.log.push(word);
        input.filter(|_| !held)
    }

    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    pub fn phase(&self) -> &str {
        self.last.phase.as_deref().unwrap()
    }

    pub fn condition(&self, name: &str) -> &str {
        let mut conditions = self.last.conditions.iter().flatten();
        &conditions.find(|condition| condition.type_ == name).unwrap().status
    }

    pub fn waiting(&self) -> Option<&str> {
        let statuses = self.last.container_statuses.as_ref().unwrap();
        statuses[0].state.as_ref().unwrap().waiting.as_ref()?.reason.as_deref()
    }
}
