//! RunPodSandbox.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_cri::v1::{ContainerEventType, NamespaceMode, PodSandboxConfig, PortMapping, Protocol};
use net::hostport::HostPort;
use tracing::{info, warn};

use super::{Record, Sandbox, files, name, sysctls};
use crate::events::now;
use crate::handler::Handler;
use crate::shim_client;
use crate::state::{Runtime, blocking, new_id};
use crate::{Error, Result, disk, spec};

impl Runtime {
    pub async fn run_sandbox(self: &Arc<Self>, config: PodSandboxConfig, handler: String) -> Result<String> {
        validate(&config)?;
        if self.handler(&handler)? != Handler::BuiltIn && spec::userns::Mapping::of(&config)?.is_some() {
            return Err(Error::InvalidArgument(format!(
                "runtime handler {handler:?} has no user namespaces; see its features in the runtime's status"
            )));
        }
        let id = new_id();
        self.sandboxes.reserve(&name(config.metadata.as_ref()), &id)?;
        let runtime = self.clone();
        let task_id = id.clone();
        // A client that goes away in the middle must not leave half a sandbox: the work goes on without it.
        let made = tokio::spawn(async move { runtime.make_sandbox(task_id, config, handler).await });
        match made.await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn make_sandbox(
        self: &Arc<Self>,
        id: String,
        config: PodSandboxConfig,
        handler: String,
    ) -> Result<()> {
        let record = Record {
            id: id.clone(),
            config,
            handler,
            created_at: now(),
            ready: true,
            released: false,
            shim_pid: 0,
            pod_init: None,
            ips: Vec::new(),
            boot_id: self.boot_id.clone(),
        };
        let sandbox = Arc::new(Sandbox::new(record, self.sandbox_dir(&id)));
        if let Err(error) = self.build_sandbox(&sandbox).await {
            warn!(sandbox = id, %error, "could not make a sandbox; what there is of it is removed");
            sandbox.record.lock().ready = false;
            // What stays attached is detached by the next start: nobody else will ask for it.
            if let Err(error) = self.detach_network(&id).await {
                warn!(sandbox = id, %error, "could not take it off its network");
            }
            if let Err(error) = self.take_down_sandbox(&sandbox).await {
                warn!(sandbox = id, %error, "could not clean up after it");
            }
            self.sandboxes.remove(&id);
            return Err(error);
        }
        self.sandboxes.insert(&id, sandbox.clone());
        self.publish_sandbox(&sandbox, ContainerEventType::ContainerCreatedEvent);
        self.publish_sandbox(&sandbox, ContainerEventType::ContainerStartedEvent);
        info!(sandbox = id, name = sandbox.record.lock().name(), "sandbox runs");
        Ok(())
    }

    async fn build_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        disk::make_private_dir(&sandbox.dir)?;
        let (config, host_network) = {
            let record = sandbox.record.lock();
            (record.config.clone(), record.host_network())
        };
        let mut arguments = shim_arguments(&config)?;
        let refuge = self.cgroups.refuge(&format!("{}/shims", self.config.cgroup_parent));
        let refuge = refuge.unwrap_or_else(|error| {
            warn!(sandbox = sandbox.id, %error, "the shim stays in the control group of this process");
            None
        });
        // With version 1 it enters by itself, at once; see there.
        let legacy = refuge.as_ref().filter(|_| !self.cgroups.is_unified());
        if let Some(tasks) = legacy {
            arguments.extend(["--cgroup".to_owned(), tasks.display().to_string()]);
        }
        let dir: PathBuf = sandbox.dir.clone();
        let make_files = blocking(move || files::make(&dir, &config));
        let start = shim_client::spawn(&self.config.shim, &sandbox.id, &sandbox.dir, &arguments);
        let (spawned, made) = tokio::join!(start, make_files);
        let spawned = spawned?;
        {
            let mut record = sandbox.record.lock();
            record.shim_pid = spawned.pid;
            record.pod_init = spawned.pod_init;
        }
        made?;
        if let Some(entrance) = refuge.filter(|_| self.cgroups.is_unified()) {
            // Nobody waits for this.
            let (runtime, id) = (self.clone(), sandbox.id.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(error) = runtime.cgroups.adopt(&entrance, spawned.pid) {
                    warn!(sandbox = id, %error, "the shim stays in the control group of this process");
                }
            });
        }
        if !host_network {
            self.attach_network(sandbox, spawned.pid).await?;
        }
        self.watch_shim(sandbox).await?;
        self.save_sandbox(sandbox)
    }

    pub fn save_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        let _in_order = sandbox.saving.lock();
        let record = sandbox.record.lock().clone();
        disk::save(&self.sandbox_record(&sandbox.id), &record)
    }
}

fn validate(config: &PodSandboxConfig) -> Result<()> {
    let invalid = |message: &str| Err(Error::InvalidArgument(message.to_owned()));
    let Some(metadata) = &config.metadata else { return invalid("sandbox config has no metadata") };
    if metadata.name.is_empty() || metadata.uid.is_empty() || metadata.namespace.is_empty() {
        return invalid("sandbox metadata needs name, namespace and uid");
    }
    if config.hostname.len() > 64 {
        return invalid("host name is longer than 64 bytes");
    }
    let context = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
    if context.is_some_and(|c| c.run_as_group.is_some() && c.run_as_user.is_none()) {
        return invalid("sandbox security context has run_as_group without run_as_user");
    }
    sysctls::check(config)?;
    let options = spec::namespace_options(config);
    let Some(mapping) = spec::userns::Mapping::of(config)? else { return Ok(()) };
    if options.network() == NamespaceMode::Node || options.pid() == NamespaceMode::Node {
        return invalid("a pod with a user namespace cannot be in the node's network or PID namespace");
    }
    mapping.root().map(drop)
}

/// The mappings that want a port of the node.
pub fn host_ports(mappings: &[PortMapping]) -> Result<Vec<HostPort>> {
    let port = |n: i32| {
        u16::try_from(n)
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| Error::InvalidArgument(format!("{n} is not a port")))
    };
    let map = |m: &PortMapping| {
        let invalid = |_| Error::InvalidArgument(format!("{:?} is not an address", m.host_ip));
        Ok(HostPort {
            protocol: match m.protocol() {
                Protocol::Tcp => libc::IPPROTO_TCP as u8,
                Protocol::Udp => libc::IPPROTO_UDP as u8,
                Protocol::Sctp => libc::IPPROTO_SCTP as u8,
            },
            host_ip: if m.host_ip.is_empty() { None } else { Some(m.host_ip.parse().map_err(invalid)?) },
            host_port: port(m.host_port)?,
            pod_port: port(m.container_port)?,
        })
    };
    mappings.iter().filter(|m| m.host_port > 0).map(map).collect()
}

fn shim_arguments(config: &PodSandboxConfig) -> Result<Vec<String>> {
    let options = spec::namespace_options(config);
    let mut namespaces = Vec::new();
    if options.network() != NamespaceMode::Node {
        namespaces.extend(["net", "uts"]);
    }
    if options.ipc() != NamespaceMode::Node {
        namespaces.push("ipc");
    }
    if options.pid() == NamespaceMode::Pod {
        namespaces.push("pid");
    }
    let mut arguments =
        vec!["--new".to_owned(), namespaces.join(","), "--hostname".to_owned(), config.hostname.clone()];
    for (key, value) in config.linux.iter().flat_map(|l| &l.sysctls) {
        arguments.extend(["--sysctl".to_owned(), format!("{key}={value}")]);
    }
    if let Some(mapping) = spec::userns::Mapping::of(config)? {
        arguments.extend(mapping.shim_arguments());
    }
    Ok(arguments)
}
