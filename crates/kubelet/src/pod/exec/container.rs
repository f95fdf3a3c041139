//! Starting a container: find out everything, describe it, create it, start it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::sandbox::config as sandbox_config;
use super::{PodEnv, log_links, volumes};
use crate::container::config::{self, Found};
use crate::container::env::{Sources, environment};
use crate::container::expand::expand;
use crate::container::field::Facts;
use crate::container::{sandbox, security, service_env};
use crate::cri::view::{self, Sandbox, State};
use crate::hooks;
use crate::meters;
use crate::pod::ext::PodExt;
use crate::pod::machine::{Input, StartFailure};
use crate::static_pods::is_static;
use crate::turns::in_turn;
use crate::volumes::set_up_subpath;

/// What the machine knows and a start needs.
pub struct Start {
    pub container: Arc<Container>,
    pub attempt: u32,
    pub image: String,
    pub discard: Vec<String>,
    pub sandbox: Sandbox,
    /// For an ephemeral container: the ID of the container that it looks at.
    pub target: Option<String>,
}

pub async fn start(env: Arc<PodEnv>, pod: Arc<Pod>, start: Start) -> Input {
    let name = start.container.name.clone();
    let named = |container: &Container| container.name == name;
    let kind = match pod.pod_spec() {
        spec if spec.containers.iter().any(named) => "container",
        spec if spec.init_containers.iter().flatten().any(named) => "init_container",
        _ => "ephemeral_container",
    };
    meters::count("kubelet_started_containers_total", &[("container_type", kind)]);
    let result = try_start(&env, &pod, start).await;
    if let Err(failure) = &result {
        let labels = [("code", failure.reason.as_str()), ("container_type", kind)];
        meters::count("kubelet_started_containers_errors_total", &labels);
    }
    Input::Started { name, result }
}

fn failure(reason: &str, message: String) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message, container: None }
}

async fn try_start(env: &PodEnv, pod: &Pod, start: Start) -> Result<view::Container, StartFailure> {
    let ctx = &env.ctx;
    let container = &start.container;
    let name = &container.name;
    for id in &start.discard {
        // Its absence is what is wanted; should it stay, the pod's removal takes it along.
        let _ = ctx.cri.remove_container(id).await;
    }
    let images = volumes::images(env, pod, container).await.map_err(|problem| StartFailure {
        reason: problem.reason,
        message: problem.message,
        container: None,
    })?;
    let config = describe(env, pod, &start, &images)
        .await
        .map_err(|message| failure("CreateContainerConfigError", message))?;
    let sandbox_config = sandbox_config(ctx, pod, start.sandbox.attempt)
        .map_err(|message| failure("CreateContainerConfigError", message))?;
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: start.sandbox.id.clone(),
        config: Some(config),
        sandbox_config: Some(sandbox_config),
    };
    let created = ctx.cri.create_container(request).await;
    // The runtime mounts them with the rest of the container.
    let outcome = match &created {
        Ok(_) => "kubelet_image_volume_mounted_succeed_total",
        Err(_) => "kubelet_image_volume_mounted_errors_total",
    };
    images.iter().for_each(|_| meters::count(outcome, &[]));
    let id = created.map_err(|error| failure("CreateContainerError", error.to_string()))?.container_id;
    ctx.events.normal(pod, Some(name), "Created", "Container created");
    let log = ctx.log_dir(pod).join(config::log_path(name, start.attempt));
    log_links::add(ctx, pod, name, &id, &log);
    let started = ctx.cri.start_container(&id).await;
    let status = ctx.cri.container_status(&id).await;
    let known = status.map(|status| view::Container::new(&start.sandbox.id, status));
    match (started, known) {
        (Ok(()), Ok(mut known)) => {
            // The runtime says that it started; its list may be a moment behind.
            known.state = known.state.max(State::Running);
            ctx.events.normal(pod, Some(name), "Started", "Container started");
            Ok(known)
        }
        (Ok(()), Err(error)) => Err(failure("RunContainerError", error.to_string())),
        (Err(error), known) => {
            Err(StartFailure { container: known.ok(), ..failure("RunContainerError", error.to_string()) })
        }
    }
}

async fn describe(
    env: &PodEnv,
    pod: &Pod,
    start: &Start,
    images: &HashMap<String, String>,
) -> Result<cri::ContainerConfig, String> {
    let ctx = &env.ctx;
    let container = &start.container;
    let name = &container.name;
    let image = if security::depends_on_image_user(pod, container) {
        ctx.cri.image_status(&start.image).await.map_err(|error| error.to_string())?
    } else {
        None
    };
    security::verify_non_root(pod, container, image.as_ref())?;
    let host_ips = env.host_ips();
    let pod_ips = if pod.host_network() { host_ips.clone() } else { start.sandbox.ips.clone() };
    let allocatable = ctx.allocatable();
    let facts = Facts {
        pod,
        node_name: &ctx.options.node_name,
        host_ips: &host_ips,
        pod_ips: &pod_ips,
        allocatable: &allocatable,
    };
    // A static pod may be what serves the API: it does not wait for it.
    if !is_static(pod) {
        ctx.services.synced().await;
    }
    let namespace = pod.namespace();
    let links = pod.pod_spec().enable_service_links.unwrap_or(true);
    let services = ctx.services.filter(|service| {
        let of = service.metadata.namespace.as_deref();
        of == Some(namespace) || of == Some("default")
    });
    let services = service_env::variables(services.iter().map(|service| &**service), namespace, links);
    let places = env.mounted.lock().paths.clone();
    let sources = Sources { facts: &facts, objects: &env.objects, volumes: &places };
    let env_vars = environment(&sources, container, services).await?;
    let devices = volumes::devices(container, &places)?;
    let mut extras = ctx.devices.allocate(pod, container).await?;
    extras.cdi_devices.extend(ctx.claims.cdi_devices(pod, container)?);
    // Given on admission, unless that was another kubelet's.
    ctx.cpus.allocate(pod, container, None).map_err(|refused| refused.message)?;
    ctx.memory.allocate(pod, container, None).map_err(|refused| refused.message)?;
    let mounts = in_turn(|| mounts(env, pod, start, &env_vars, &pod_ips, images)).await?;
    let seccomp_root = ctx.options.root_dir.join("seccomp");
    Ok(config::config(
        pod,
        container,
        Found {
            attempt: start.attempt,
            image: &start.image,
            env: env_vars,
            mounts,
            devices,
            extras,
            block: ctx.users.of(pod)?,
            cpuset: ctx.cpus.list(pod, container).unwrap_or_default(),
            memory_nodes: ctx.memory.list(pod.uid(), name).unwrap_or_default(),
            own_cpus: !ctx.cpus.given(pod.uid(), name).is_empty(),
            node: ctx.container_defaults(),
            seccomp_root: &seccomp_root,
            seccomp_default: ctx.options.config.seccomp_default,
            image_user: image.as_ref(),
            target: start.target.as_deref(),
        },
    ))
}

/// The volumes, `/etc/hosts` and the termination message file.
fn mounts(
    env: &PodEnv,
    pod: &Pod,
    start: &Start,
    env_vars: &[(String, String)],
    pod_ips: &[String],
    images: &HashMap<String, String>,
) -> Result<Vec<cri::Mount>, String> {
    let container = &start.container;
    let dir = env.ctx.pod_dir(pod.uid());
    let mut mounts = Vec::new();
    let log_dir = env.ctx.log_dir(pod).join(&container.name);
    fs::create_dir_all(&log_dir)
        .map_err(|error| format!("cannot make the log directory {}: {error}", log_dir.display()))?;
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        if let Some(image) = images.get(&mount.name) {
            mounts.push(volumes::image_mount(mount, image));
            continue;
        }
        let mut made = volume_mount(env, &dir, container, index, mount, env_vars)?;
        made.readonly |= is_written_by_kubelet(pod, &mount.name);
        mounts.push(made);
    }
    let own_hosts = |mount: &cri::Mount| mount.container_path == "/etc/hosts";
    if !mounts.iter().any(own_hosts) {
        let file = hosts_file(env, pod, &dir, pod_ips)?;
        mounts.push(cri::Mount {
            container_path: "/etc/hosts".into(),
            host_path: file.display().to_string(),
            ..Default::default()
        });
    }
    if let Some(path) = container.termination_message_path.as_deref().filter(|path| !path.is_empty()) {
        let at = dir.join("containers").join(&container.name);
        let file = at.join(format!("{:08x}", rand::random::<u32>()));
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(&at)?;
            fs::write(&file, b"")?;
            // The container may run as anybody.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666))
        };
        make().map_err(|error| {
            format!("cannot make the termination message file {}: {error}", file.display())
        })?;
        mounts.push(cri::Mount {
            container_path: path.to_owned(),
            host_path: file.display().to_string(),
            ..Default::default()
        });
    }
    Ok(mounts)
}

/// Whether the volume shows what the API server has: containers only read those.
fn is_written_by_kubelet(pod: &Pod, volume: &str) -> bool {
    pod.pod_spec().volumes.iter().flatten().any(|v| {
        v.name == volume
            && (v.config_map.is_some()
                || v.secret.is_some()
                || v.projected.is_some()
                || v.downward_api.is_some())
    })
}

fn volume_mount(
    env: &PodEnv,
    pod_dir: &Path,
    container: &Container,
    index: usize,
    mount: &VolumeMount,
    env_vars: &[(String, String)],
) -> Result<cri::Mount, String> {
    let mounted = env.mounted.lock();
    let volume =
        mounted.paths.get(&mount.name).cloned().ok_or_else(|| {
            format!("volume {:?} of container {} is not mounted", mount.name, container.name)
        })?;
    drop(mounted);
    let expression = mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty());
    let sub_path = match expression {
        Some(expression) => Some(expand_strictly(expression, env_vars)?),
        None => mount.sub_path.clone().filter(|path| !path.is_empty()),
    };
    let host_path = match sub_path {
        Some(sub_path) => {
            let target = pod_dir
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&container.name)
                .join(index.to_string());
            set_up_subpath(&volume, &sub_path, &target).map_err(|error| {
                format!(
                    "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                    mount.name, container.name
                )
            })?
        }
        None => volume,
    };
    let container_path = match mount.mount_path.as_str() {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    use cri::MountPropagation::{PropagationBidirectional, PropagationHostToContainer, PropagationPrivate};
    Ok(cri::Mount {
        container_path,
        host_path: host_path.display().to_string(),
        readonly: mount.read_only == Some(true),
        recursive_read_only: match mount.recursive_read_only.as_deref() {
            Some("Enabled") => true,
            Some("IfPossible") => env.recursive_read_only(),
            _ => false,
        },
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => PropagationHostToContainer,
            Some("Bidirectional") => PropagationBidirectional,
            _ => PropagationPrivate,
        } as i32,
        ..Default::default()
    })
}

/// `subPathExpr`: unlike in commands, an unknown variable is an error.
fn expand_strictly(expression: &str, env_vars: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(Vec::new());
    let expanded = expand(expression, |name| {
        let known = env_vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        if known.is_none() {
            missing.borrow_mut().push(name.to_owned());
        }
        known
    });
    match missing.into_inner() {
        missing if missing.is_empty() => Ok(expanded),
        missing => Err(format!("missing value for {}", missing.join(", "))),
    }
}

/// One file for all containers of the pod, written before each start: the pod's address may be new.
fn hosts_file(env: &PodEnv, pod: &Pod, dir: &Path, pod_ips: &[String]) -> Result<PathBuf, String> {
    let node = pod.host_network().then(|| fs::read_to_string("/etc/hosts").unwrap_or_default());
    let domain = &env.ctx.options.cluster_domain;
    let text = sandbox::hosts(pod, pod_ips, domain, node.as_deref());
    let path = dir.join("etc-hosts");
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(dir)?;
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        // In place: running containers have this very file mounted.
        fs::write(&path, &text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
    };
    make().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// Runs the postStart hook of a container that has just been started.
pub async fn post_start(
    env: Arc<PodEnv>,
    pod: Arc<Pod>,
    container: Arc<Container>,
    id: String,
    pod_ip: String,
) -> Input {
    let name = container.name.clone();
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    let result = match hook {
        Some(hook) => {
            let run = hooks::run(&env.ctx.cri, hook, &container, &id, &pod_ip, None).await;
            run.map_err(|error| format!("PostStartHook failed: {error} (pod {})", pod.full_name()))
        }
        None => Ok(()),
    };
    Input::Hooked { name, result }
}
