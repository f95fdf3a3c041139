//! CreateContainer: everything is resolved and written down; no process runs yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1::{ContainerConfig, ContainerEventType, NamespaceMode, NamespaceOption};
use shim_protocol::PidNamespace;
use tokio::runtime::Handle;
use tracing::info;

use super::{Container, Overlay, Record, State, image_volumes, name};
use crate::events::now;
use crate::handler::Handler;
use crate::sandbox::Sandbox;
use crate::spec::mounts::ImageVolume;
use crate::spec::process::ImageProcess;
use crate::spec::{self, Namespaces, security, signal};
use crate::state::{Runtime, blocking, new_id};
use crate::systemd::{self, Scope};
use crate::{Error, Result, disk};

/// Where beside a container's record its control group is noted.
pub const CGROUP: &str = "cgroup";

/// Where in a bundle images are mounted, for OCI runtimes other than ours.
pub const IMAGES: &str = "images";

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
        // As with sandboxes: a client that goes away must not leave half a container.
        match tokio::spawn(async move { runtime.create_alone(&task_id, &held, config).await }).await {
            Ok(result) => result.map(|()| id),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn create_alone(
        self: &Arc<Self>,
        id: &str,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<()> {
        let (runtime, held, task_id) = (self.clone(), sandbox.clone(), id.to_owned());
        match blocking(move || runtime.make_container(task_id, held, config)).await {
            Ok(container) => {
                self.containers.insert(id, container.clone());
                if let Err(gone) = self.sandboxes.get(&sandbox.id) {
                    self.remove_container(&container).await?;
                    return Err(gone);
                }
                self.publish_container(&container, ContainerEventType::ContainerCreatedEvent);
                info!(container = id, sandbox = sandbox.id, "container created");
                Ok(())
            }
            Err(error) => {
                self.containers.remove(id);
                let (runtime, cgroup, id) = (self.clone(), self.cgroup_of(sandbox, id), id.to_owned());
                blocking(move || {
                    runtime.cgroups.kill(&cgroup);
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
        let context = spec::context(&config);
        if context.privileged && !spec::is_privileged(&sandbox_config) {
            return Err(Error::InvalidArgument("no privileged container is allowed in this sandbox".into()));
        }
        let edits = spec::cdi::edits(&config.cdi_devices)?;
        let images = self.images_of(&config)?;
        let mut lowers = self.images.snapshots(&images, &id)?.into_iter();
        let (Some(image), Some(mut lower)) = (images.into_iter().next(), lowers.next()) else {
            return Err(Error::not_found("image", ""));
        };
        let mounted: Vec<Vec<PathBuf>> = lowers.collect();
        image_volumes::check(&config, &mounted)?;
        let process = ImageProcess::of(&image.configuration()?);
        let mut user = self.accounts_of(&image, &lower).resolve(&process.user, Some(&context))?;
        user.add_groups(&edits.additional_gids);
        lower.push(self.mount_points.clone());

        let (dir, bundle) = (self.container_dir(&id), self.bundle(&id));
        let overlay = Overlay {
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
            target: bundle.join("rootfs"),
        };
        disk::make_private_dir(&bundle)?;
        overlay.prepare()?;
        let mapping = spec::userns::Mapping::of(&sandbox_config)?;
        if let Some((uid, gid)) = mapping.as_ref().map(|m| m.root()).transpose()? {
            std::os::unix::fs::chown(&overlay.upper, Some(uid), Some(gid))
                .map_err(Error::io("change the owner of", &overlay.upper))?;
        }
        let volumes = match handler {
            Handler::BuiltIn => mounted.into_iter().map(ImageVolume::Layers).collect(),
            Handler::External(_) => image_volumes::mount(&config, mounted, &bundle.join(IMAGES))?,
        };

        let mut edited = config.clone();
        edits.apply(&mut edited);
        let cgroup = self.cgroup_of(&sandbox, &id);
        let input = spec::Input {
            sandbox_id: &sandbox.id,
            sandbox: &sandbox_config,
            config: &edited,
            image: &process,
            user: &user,
            files: &sandbox.files(),
            images: &volumes,
            rootfs: &overlay.target,
            cgroup: &cgroup,
            unified_cgroup: self.cgroups.is_unified(),
            user_namespace: mapping.is_some(),
            apparmor: self.apparmor.profile(&context)?,
            namespaces: self.namespaces(&sandbox, context.namespace_options.as_ref())?,
        };
        let mut spec = spec::build(&input)?;
        let mut joined = PidNamespace::New;
        let scope = self.scope_of(&sandbox, &id);
        let mut keeper = 0;
        let built_in = handler == Handler::BuiltIn;
        match (handler, edits.hooks()) {
            (Handler::BuiltIn, Some(_)) => {
                return Err(Error::Unimplemented(
                    "CDI devices with hooks need a runtime handler with an OCI runtime, such as runc",
                ));
            }
            (Handler::BuiltIn, None) => {
                let limits = config.linux.as_ref().and_then(|l| l.resources.as_ref());
                // Before it is there, so that it is found again if we get no further.
                disk::replace(&dir.join(CGROUP), cgroup.as_bytes())?;
                if let (Some(systemd), Some(scope)) = (&self.systemd, &scope) {
                    keeper = systemd::keeper(&self.config.shim)?;
                    let limits = limits.cloned().unwrap_or_default();
                    let process = keeper.unsigned_abs();
                    let started = systemd.start_scope(scope, process, &limits, self.cgroups.is_unified());
                    // This thread may block, and nobody who needs one like it is waited for.
                    if let Err(error) = Handle::current().block_on(started) {
                        systemd::release(keeper);
                        return Err(error);
                    }
                }
                self.cgroups.create(&cgroup, limits, &spec["linux"]["resources"]["devices"])?;
                let (plan, pid_namespace) = spec::plan::plan(&spec, &overlay, &self.cgroups, &cgroup)?;
                disk::replace(&bundle.join("plan"), &plan.encode())?;
                joined = pid_namespace;
            }
            (Handler::External(_), hooks) => {
                if let Some(hooks) = hooks {
                    spec["hooks"] = hooks;
                }
                if let Some(scope) = &scope {
                    spec["linux"]["cgroupsPath"] = scope.for_oci(&id).into();
                }
                security::soften(&mut spec);
                disk::save(&bundle.join("config.json"), &spec)?;
                overlay.mount()?;
            }
        }

        let record = Record {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            log_file: log_file(&sandbox_config.log_directory, &config.log_path)?,
            image_name: image_name(&config, &image),
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            image_id: image.id,
            user,
            cgroup,
            stop_signal: signal::stop_signal(config.stop_signal, &process.stop_signal)?,
            created_at: now(),
            state: State::Created,
            pid_namespace: match joined {
                PidNamespace::New => None,
                PidNamespace::Host => Some(String::new()),
                PidNamespace::Join(path) => Some(path),
            },
            built_in,
            scope,
            keeper,
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
        let name = self.scope_of(sandbox, id).map_or_else(|| id.to_owned(), |scope| scope.unit);
        let parent = self.cgroup_parent(sandbox);
        format!("{}/{name}", slice_path(parent.trim_end_matches('/')))
    }

    /// None where the group is made by us.
    fn scope_of(&self, sandbox: &Sandbox, id: &str) -> Option<Scope> {
        self.systemd.as_ref().and_then(|_| Scope::of(&self.cgroup_parent(sandbox), id))
    }

    fn cgroup_parent(&self, sandbox: &Sandbox) -> String {
        let record = sandbox.record.lock();
        let parent = record.config.linux.as_ref().map(|l| l.cgroup_parent.clone());
        parent.filter(|p| !p.is_empty()).unwrap_or_else(|| self.config.cgroup_parent.clone())
    }

    /// The group of the pod, if its kubelet has named one.
    pub fn pod_group(&self, sandbox: &Sandbox) -> Option<String> {
        let record = sandbox.record.lock();
        let parent = record.config.linux.as_ref().map(|l| l.cgroup_parent.as_str());
        parent.filter(|p| !p.is_empty()).map(|p| slice_path(p.trim_end_matches('/')))
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

/// A kubelet names the image by its id; people know it by a name.
fn image_name(config: &ContainerConfig, image: &images::Image) -> String {
    let spec = config.image.clone().unwrap_or_default();
    if !image.id.contains(spec.image.trim_start_matches("sha256:")) {
        return spec.image;
    }
    let names = || image.repo_tags.iter().chain(&image.repo_digests);
    let wished = images::normalize(&spec.user_specified_image).ok();
    let name = names().find(|n| Some(*n) == wished.as_ref()).or_else(|| names().next());
    name.cloned().unwrap_or(spec.image)
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
}
