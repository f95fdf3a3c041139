//! CreateContainer: everything is resolved and written down; no process runs yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1::{ContainerConfig, ContainerEventType, NamespaceMode, NamespaceOption};
use shim_protocol::PidNamespace;
use tracing::info;

use super::{Container, Overlay, Record, State, name};
use crate::events::now;
use crate::handler::Handler;
use crate::sandbox::Sandbox;
use crate::spec::process::ImageProcess;
use crate::spec::{self, Namespaces, security};
use crate::state::{Runtime, blocking, new_id};
use crate::{Error, Result, disk};

impl Runtime {
    pub async fn create_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<String> {
        let named = config.metadata.as_ref().is_some_and(|m| !m.name.is_empty());
        if !named {
            return Err(Error::InvalidArgument("container metadata needs a name".into()));
        }
        let id = new_id();
        self.containers.reserve(&name(&config, &sandbox.id), &id)?;
        let (runtime, held, task_id) = (self.clone(), sandbox.clone(), id.clone());
        let made = blocking(move || runtime.make_container(task_id, held, config)).await;
        match made {
            Ok(container) => {
                self.containers.insert(&id, container.clone());
                self.publish_container(&container, ContainerEventType::ContainerCreatedEvent);
                info!(container = id, sandbox = sandbox.id, "container created");
                Ok(id)
            }
            Err(error) => {
                self.containers.remove(&id);
                let (runtime, cgroup) = (self.clone(), self.cgroup_of(sandbox, &id));
                blocking(move || {
                    runtime.cgroups.remove(&cgroup)?;
                    runtime.clean_container(&id)
                })
                .await?;
                Err(error)
            }
        }
    }

    fn make_container(
        &self,
        id: String,
        sandbox: Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<Arc<Container>> {
        let (sandbox_config, handler) = {
            let record = sandbox.record.lock();
            if !record.ready {
                return Err(Error::FailedPrecondition(format!("sandbox {} is not running", sandbox.id)));
            }
            (record.config.clone(), self.handler(&record.handler)?)
        };
        let wanted = config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default();
        let image = self.images.get(&wanted)?.ok_or_else(|| Error::not_found("image", &wanted))?;
        let process = ImageProcess::of(&image.configuration()?);
        let lower = self.images.snapshot(&image, &id)?;
        let context = spec::context(&config);
        let user = self.accounts_of(&image, &lower).resolve(&process.user, Some(&context))?;

        let (dir, bundle) = (self.container_dir(&id), self.bundle(&id));
        let overlay = Overlay {
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
            target: bundle.join("rootfs"),
        };
        disk::make_private_dir(&bundle)?;
        overlay.prepare()?;

        let cgroup = self.cgroup_of(&sandbox, &id);
        let input = spec::Input {
            sandbox_id: &sandbox.id,
            sandbox: &sandbox_config,
            config: &config,
            image: &process,
            user: &user,
            files: &sandbox.files(),
            rootfs: &overlay.target,
            cgroup: &cgroup,
            unified_cgroup: self.cgroups.is_unified(),
            namespaces: self.namespaces(&sandbox, context.namespace_options.as_ref())?,
        };
        let mut spec = spec::build(&input)?;
        let mut joined = PidNamespace::New;
        match handler {
            Handler::BuiltIn => {
                let limits = config.linux.as_ref().and_then(|l| l.resources.as_ref());
                self.cgroups.create(&cgroup, limits, &spec["linux"]["resources"]["devices"])?;
                let (plan, pid_namespace) = spec::plan::plan(&spec, &overlay, &self.cgroups, &cgroup)?;
                disk::replace(&bundle.join("plan"), &plan.encode())?;
                joined = pid_namespace;
            }
            Handler::External(_) => {
                security::soften(&mut spec);
                disk::save(&bundle.join("config.json"), &spec)?;
                overlay.mount()?;
            }
        }

        let record = Record {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            log_file: log_file(&sandbox_config.log_directory, &config.log_path)?,
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            image_id: image.id,
            user,
            cgroup,
            stop_signal: signal_number(&process.stop_signal)?,
            created_at: now(),
            state: State::Created,
            pid_namespace: match joined {
                PidNamespace::New => None,
                PidNamespace::Host => Some(String::new()),
                PidNamespace::Join(path) => Some(path),
            },
            pid: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            config,
        };
        let container = Arc::new(Container::new(record, sandbox));
        self.save_container(&container)?;
        Ok(container)
    }

    fn cgroup_of(&self, sandbox: &Sandbox, id: &str) -> String {
        let record = sandbox.record.lock();
        let parent = record.config.linux.as_ref().map(|l| l.cgroup_parent.as_str()).filter(|p| !p.is_empty());
        let parent = parent.unwrap_or(&self.config.cgroup_parent).trim_end_matches('/');
        format!("{}/{id}", slice_path(parent))
    }

    /// The PID namespace to join may be another container's.
    fn namespaces(&self, sandbox: &Sandbox, options: Option<&NamespaceOption>) -> Result<Namespaces> {
        let mut namespaces = sandbox.namespaces();
        if let Some(options) = options.filter(|o| o.pid() == NamespaceMode::Target) {
            let target = self.containers.get(&options.target_id)?;
            let record = target.record.lock();
            if record.sandbox != sandbox.id || record.state != State::Running {
                return Err(Error::FailedPrecondition(format!(
                    "target container {} is not running in sandbox {}",
                    options.target_id, sandbox.id
                )));
            }
            namespaces.pid = Some(record.pid);
        }
        Ok(namespaces)
    }

    pub fn save_container(&self, container: &Container) -> Result<()> {
        let _in_order = container.saving.lock();
        let record = container.record.lock().clone();
        disk::save(&self.container_dir(&container.id).join("container.json"), &record)
    }
}

/// A kubelet that leaves cgroups to systemd names a slice, which stands for its place in the tree: `a-b.slice` is in
/// `a.slice`.
fn slice_path(parent: &str) -> String {
    let Some(name) = parent.strip_suffix(".slice").filter(|name| !name.contains('/')) else {
        return parent.to_owned();
    };
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.filter_map(|end| name.get(..end)).map(|part| format!("/{part}.slice")).collect()
}

fn log_file(directory: &str, path: &str) -> Result<String> {
    if directory.is_empty() || path.is_empty() {
        return Ok(String::new());
    }
    let file: PathBuf = Path::new(directory).join(path);
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("make log directory", parent))?;
    }
    Ok(file.display().to_string())
}

/// An image's `StopSignal`: `SIGQUIT`, `QUIT`, `3`, `RTMIN+3`.
fn signal_number(name: &str) -> Result<i32> {
    if name.is_empty() {
        return Ok(libc::SIGTERM);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Ok(number) = short.parse() {
        Some(number)
    } else if let Some(offset) = short.strip_prefix("RTMIN") {
        offset
            .parse()
            .or(if offset.is_empty() { Ok(0) } else { Err(()) })
            .ok()
            .map(|n: i32| libc::SIGRTMIN() + n)
    } else {
        use std::str::FromStr;
        nix::sys::signal::Signal::from_str(&format!("SIG{short}")).ok().map(|s| s as i32)
    };
    number
        .filter(|n| (1..=libc::SIGRTMAX()).contains(n))
        .ok_or_else(|| Error::InvalidArgument(format!("the image's stop signal {name:?} is not a signal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices() {
        for (parent, expected) in [
            ("/kubepods/burstable/podx", "/kubepods/burstable/podx"),
            (
                "kubepods-burstable-podx.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice",
            ),
            ("a.slice", "/a.slice"),
            ("/a.slice/b.slice", "/a.slice/b.slice"),
        ] {
            assert_eq!(slice_path(parent), expected);
        }
    }

    #[test]
    fn stop_signals() {
        for (name, expected) in [
            ("", Some(15)),
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGNOPE", None),
            ("0", None),
            ("99", None),
        ] {
            assert_eq!(signal_number(name).ok(), expected, "{name}");
        }
    }
}
