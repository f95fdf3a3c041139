//! A container by itself: a sandbox made for it, and removed with it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatusRequest, CreateContainerRequest, GetEventsRequest,
    ImageSpec, ImageStatusRequest, Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RunPodSandboxRequest,
    SecurityProfile, StartContainerRequest, StatusRequest,
};

use crate::clean::remove_log;
use crate::logs::Log;
use crate::{Ctr, LABEL, told};

/// How it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// By the pod network where that is ready, else by the node's.
    #[default]
    Auto,
    Pod,
    Host,
}

#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    pub image: String,
    pub command: Vec<String>,
    pub name: Option<String>,
    pub detach: bool,
    pub remove: bool,
    pub stdin: bool,
    pub tty: bool,
    pub environment: Vec<String>,
    /// `HOST:CONTAINER[:ro]`
    pub volumes: Vec<String>,
    pub network: Network,
    /// `UID[:GID]`, or a name.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub privileged: bool,
    /// Bytes.
    pub memory: Option<i64>,
    /// Where logs are.
    pub logs: PathBuf,
}

/// The name of a container's log, in a directory of its own.
pub(crate) const LOG: &str = "container.log";

impl Ctr {
    /// Runs it; returns its exit code, or 0 when it goes on in the background.
    pub async fn run(&mut self, options: RunOptions) -> Result<i32> {
        let image = self.image(&options.image).await?;
        let config = self.sandbox_config(&options).await?;
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let sandbox = self.runtime.run_pod_sandbox(request).await.map_err(told)?.into_inner().pod_sandbox_id;
        let log = PathBuf::from(&config.log_directory).join(LOG);
        let outcome = self.run_in(&sandbox, config, image, &options).await;
        if outcome.is_err() || (options.remove && !options.detach) {
            self.remove_sandbox(&sandbox).await?;
            remove_log(&log);
        }
        outcome
    }

    async fn run_in(
        &mut self,
        sandbox: &str,
        config: PodSandboxConfig,
        image: String,
        options: &RunOptions,
    ) -> Result<i32> {
        let events = self.runtime.get_container_events(GetEventsRequest {}).await.map_err(told)?;
        let log = PathBuf::from(&config.log_directory).join(LOG);
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container_config(options, image, &config)?),
            sandbox_config: Some(config),
        };
        let id = self.runtime.create_container(request).await.map_err(told)?.into_inner().container_id;
        let request = StartContainerRequest { container_id: id.clone() };
        self.runtime.start_container(request).await.map_err(told)?;
        if options.detach {
            println!("{id}");
            return Ok(0);
        }
        if options.stdin || options.tty {
            // One that has ended already has said all in its log.
            if self.attach(&id, options.stdin, options.tty).await.is_err() {
                Log::open(&log)?.print()?;
            }
        } else {
            let mut log = Log::open(&log)?;
            log.print()?;
            self.follow(&id, log, events.into_inner()).await?;
        }
        let request = ContainerStatusRequest { container_id: id, verbose: false };
        let status = self.runtime.container_status(request).await.map_err(told)?.into_inner().status;
        Ok(status.map_or(0, |s| s.exit_code))
    }

    /// The image's id; what is not there is pulled.
    async fn image(&mut self, name: &str) -> Result<String> {
        let spec = || Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
        let request = ImageStatusRequest { image: spec(), verbose: false };
        if let Some(image) = self.images.image_status(request).await.map_err(told)?.into_inner().image {
            return Ok(image.id);
        }
        eprintln!("pulling {name}");
        let request = PullImageRequest { image: spec(), ..PullImageRequest::default() };
        Ok(self.images.pull_image(request).await.map_err(told)?.into_inner().image_ref)
    }

    async fn sandbox_config(&mut self, options: &RunOptions) -> Result<PodSandboxConfig> {
        let status = self.runtime.status(StatusRequest { verbose: false }).await.map_err(told)?.into_inner();
        let conditions = status.status.unwrap_or_default().conditions;
        let connected = conditions.iter().any(|c| c.r#type == "NetworkReady" && c.status);
        let pod = match options.network {
            Network::Pod => true,
            Network::Host => false,
            Network::Auto => connected,
        };
        let now = jiff::Timestamp::now().as_nanosecond();
        let name = options.name.clone().unwrap_or_else(|| format!("ctr-{:x}", now & 0xffff_ffff));
        let network = if pod { NamespaceMode::Pod } else { NamespaceMode::Node };
        let namespaces = NamespaceOption {
            network: network as i32,
            pid: NamespaceMode::Container as i32,
            ..NamespaceOption::default()
        };
        Ok(PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.clone(),
                uid: format!("{now:x}"),
                namespace: "ctr".to_owned(),
                attempt: 0,
            }),
            hostname: if pod { name.clone() } else { String::new() },
            log_directory: options.logs.join(format!("{name}-{now:x}")).display().to_string(),
            labels: [(LABEL.to_owned(), "true".to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    privileged: options.privileged,
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        })
    }
}

fn container_config(
    options: &RunOptions,
    image: String,
    sandbox: &PodSandboxConfig,
) -> Result<ContainerConfig> {
    let variable = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok(KeyValue { key: key.to_owned(), value: value.to_owned() }),
        // As it is here.
        None => match std::env::var(text) {
            Ok(value) => Ok(KeyValue { key: text.clone(), value }),
            Err(_) => bail!("variable {text} has no value here: give it as {text}=VALUE"),
        },
    };
    let namespaces = NamespaceOption { pid: NamespaceMode::Container as i32, ..NamespaceOption::default() };
    let mut context = LinuxContainerSecurityContext {
        namespace_options: Some(namespaces),
        privileged: options.privileged,
        seccomp: Some(SecurityProfile::default()),
        ..LinuxContainerSecurityContext::default()
    };
    if let Some(user) = &options.user {
        let (user, group) = user.split_once(':').map_or((user.as_str(), None), |(u, g)| (u, Some(g)));
        match user.parse() {
            Ok(value) => context.run_as_user = Some(Int64Value { value }),
            Err(_) => context.run_as_username = user.to_owned(),
        }
        if let Some(group) = group {
            let value = group.parse().with_context(|| format!("{group:?} is no group id"))?;
            context.run_as_group = Some(Int64Value { value });
        }
    }
    let name = sandbox.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name, attempt: 0 }),
        image: Some(ImageSpec { image, user_specified_image: options.image.clone(), ..ImageSpec::default() }),
        args: options.command.clone(),
        working_dir: options.working_dir.clone().unwrap_or_default(),
        envs: options.environment.iter().map(variable).collect::<Result<_>>()?,
        mounts: options.volumes.iter().map(|v| volume(v)).collect::<Result<_>>()?,
        labels: [(LABEL.to_owned(), "true".to_owned())].into(),
        log_path: LOG.to_owned(),
        stdin: options.stdin,
        stdin_once: options.stdin,
        tty: options.tty,
        linux: Some(LinuxContainerConfig {
            resources: options.memory.map(|memory_limit_in_bytes| LinuxContainerResources {
                memory_limit_in_bytes,
                ..LinuxContainerResources::default()
            }),
            security_context: Some(context),
        }),
        ..ContainerConfig::default()
    })
}

fn volume(text: &str) -> Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, readonly) = match parts.as_slice() {
        [host, container] => (host, container, false),
        [host, container, "ro"] => (host, container, true),
        [host, container, "rw"] => (host, container, false),
        _ => bail!("{text:?}: a volume is HOST:CONTAINER, or HOST:CONTAINER:ro"),
    };
    let host = std::path::absolute(host).with_context(|| format!("{host:?} is no path"))?;
    if !container.starts_with('/') {
        bail!("{text:?}: the path in the container must be absolute");
    }
    Ok(Mount {
        host_path: host.display().to_string(),
        container_path: (*container).to_owned(),
        readonly,
        ..Mount::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        for (text, expected) in [
            ("/a:/b", Some(("/a", "/b", false))),
            ("/a:/b:ro", Some(("/a", "/b", true))),
            ("/a", None),
            ("/a:b", None),
            ("/a:/b:x", None),
        ] {
            let found = volume(text).ok();
            let found = found.as_ref().map(|m| (m.host_path.as_str(), m.container_path.as_str(), m.readonly));
            assert_eq!(found, expected, "{text}");
        }
    }
}
