//! What each role consists of. Roles differ only in which parts they start, and in how those reach the API server: in
//! process, or over HTTPS by a kubeconfig.

mod addons;
mod address;
mod control_plane;
mod leading;
mod pages;
mod ranges;
mod routing;
mod scheduling;
mod up;
mod worker;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use client::Informers;
use tokio::sync::watch;

use crate::cli::{
    CgroupDriver, ClusterArgs, ControllersArgs, KubeletArgs, NodeArgs, RuntimeRoleArgs, SchedulerArgs,
};
use crate::layout::Layout;
use crate::parts::{self, Parts};
use crate::{join, memory, notify, shim, signals};
use leading::Leading;

pub use address::hostname;
#[cfg(test)]
pub use control_plane::controllers_config;
pub use routing::{netpolicy, proxy};
pub use up::up;
pub use worker::{clear_network, runtime_config};

/// When parts that have started have also settled: registered, listed what there is, run what was to be run.
const SETTLED: Duration = Duration::from_secs(60);

/// All parts of the role have started.
fn started() {
    notify::ready();
    memory::give_startup_code_back();
    tokio::spawn(async {
        tokio::time::sleep(SETTLED).await;
        memory::give_startup_code_back();
    });
    tokio::spawn(memory::give_back_after_bursts());
}

pub async fn server(layout: &Layout, mut args: ClusterArgs) -> Result<()> {
    ranges::settle(&mut args)?;
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    let plane = control_plane::start(&mut parts, layout, &args).await?;
    let informers = plane.informers();
    let leading = Leading::beside(&args.leader, args.etcd.options().is_some());
    let (authority, signing) = (plane.authority(), plane.signing()?);
    let config = control_plane::controllers_config(authority, signing, &args.network, &args.lifecycle);
    control_plane::start_controllers(
        &mut parts,
        &informers,
        config,
        &leading,
        pages::Pages::beside(informers.client(), control_plane::CONTROLLERS),
    )?;
    let scheduling = informers.acting_as(plane.scheduler_client());
    let pages = pages::Pages::beside(scheduling.client(), scheduling::PORT);
    scheduling::start(&mut parts, scheduling, &leading, scheduler::Config::default(), pages)?;
    plane.publish(&informers.client(), &args).await?;
    started();
    parts.finish().await
}

pub async fn apiserver(layout: &Layout, mut args: ClusterArgs) -> Result<()> {
    ranges::settle(&mut args)?;
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    let plane = control_plane::start(&mut parts, layout, &args).await?;
    plane.publish(&plane.informers().client(), &args).await?;
    started();
    parts.finish().await
}

pub async fn controllers(layout: &Layout, args: ControllersArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    let root_ca_file = args.root_ca_file.unwrap_or_else(|| layout.pki().join("ca.crt"));
    let authority = read(&root_ca_file)?;
    let informers = informers(&args.kubeconfig.kubeconfig, "kube-controller-manager").await?;
    let certificate = args.cluster_signing_cert_file.unwrap_or_else(|| layout.pki().join("ca.crt"));
    let key = args.cluster_signing_key_file.unwrap_or_else(|| layout.pki().join("ca.key"));
    let signing = control_plane::signing(&certificate, &key)?;
    let leading = Leading::alone(args.leader);
    let pages = pages::Pages::alone(&args.secure, informers.client(), control_plane::CONTROLLERS).await?;
    let mut config = control_plane::controllers_config(&authority, signing, &args.network, &args.lifecycle);
    args.running.apply(&mut config)?;
    control_plane::start_controllers(&mut parts, &informers, config, &leading, pages)?;
    started();
    parts.finish().await
}

pub async fn scheduler(args: SchedulerArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    scheduling::alone(&mut parts, args).await?;
    started();
    parts.finish().await
}

pub async fn node(layout: &Layout, mut args: NodeArgs) -> Result<()> {
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    let joined =
        if args.join.server.is_empty() { None } else { Some(member(&mut parts, layout, &mut args).await?) };
    let node = node_of(&args.kubelet)?;
    let (gate, requests) = netpolicy::Gate::new();
    worker::start_runtime(&mut parts, layout, &args.runtime, &node, shim::unpack(&layout.root)?, gate)?;
    let informers = kubelet_informers(&parts, layout, &args.kubelet, &node).await?;
    start_kubelet(&mut parts, layout, &args.kubelet, &informers, &node, joined.is_some())?;
    worker::start_network(&mut parts, &informers, &node)?;
    worker::start_policies(&mut parts, &informers, &node, &args.runtime, requests);
    worker::start_overlay(&mut parts, &informers, &node, &args.runtime);
    if let Some((membership, servers)) = joined {
        let following =
            join::follow(informers, join::Files::of(layout), membership, servers, parts.shutdown());
        parts.start("list of API servers", following);
    }
    started();
    parts.finish().await
}

/// Joins the cluster that is named, and has the kubelet use what came of that. The way to its servers is there when this
/// returns.
async fn member(
    parts: &mut Parts,
    layout: &Layout,
    args: &mut NodeArgs,
) -> Result<(join::Membership, watch::Sender<Vec<SocketAddr>>)> {
    let membership = join::join(layout, &args.join, parts.shutdown()).await?;
    membership.network.apply(&mut args.kubelet.network);
    let files = join::Files::of(layout);
    let kubelet = &mut args.kubelet;
    kubelet.kubeconfig = Some(files.kubeconfig());
    kubelet.bootstrap_kubeconfig = Some(files.bootstrap_kubeconfig());
    kubelet.client_ca_file.get_or_insert_with(|| files.authority());
    let servers = join::relay(parts, membership.servers.clone()).await?;
    Ok((membership, servers))
}

pub async fn kubelet(layout: &Layout, args: KubeletArgs) -> Result<()> {
    layout.ensure()?;
    let mut parts = Parts::new(signals::shutdown()?);
    let node = node_of(&args)?;
    let informers = kubelet_informers(&parts, layout, &args, &node).await?;
    start_kubelet(&mut parts, layout, &args, &informers, &node, false)?;
    started();
    parts.finish().await
}

fn node_of(args: &KubeletArgs) -> Result<worker::Node> {
    worker::Node::from_args(&args.node, &args.network, &args.flags, &args.further)
}

fn cert_dir(layout: &Layout, args: &KubeletArgs) -> PathBuf {
    args.cert_dir.clone().unwrap_or_else(|| layout.kubelet().join("pki"))
}

/// With the kubelet's own identity, which it may have to ask for.
async fn kubelet_informers(
    parts: &Parts,
    layout: &Layout,
    args: &KubeletArgs,
    node: &worker::Node,
) -> Result<Informers> {
    let kubeconfig = args.kubeconfig.as_ref().context(
        "which API server? name a kubeconfig with --kubeconfig, or join a cluster with corten node --server",
    )?;
    if let Some(bootstrap) = &args.bootstrap_kubeconfig {
        let dir = cert_dir(layout, args);
        tokio::select! {
            () = parts.shutdown().cancelled_owned() => anyhow::bail!("stopped while waiting for a client certificate"),
            ready = kubelet::bootstrap(bootstrap, kubeconfig, &dir, &node.name) => ready?,
        }
    }
    informers(kubeconfig, "kubelet").await
}

fn start_kubelet(
    parts: &mut Parts,
    layout: &Layout,
    args: &KubeletArgs,
    informers: &Informers,
    node: &worker::Node,
    joined: bool,
) -> Result<()> {
    let files = worker::KubeletFiles {
        cri_socket: match &args.container_runtime_endpoint {
            Some(endpoint) => kubelet::socket_path(&endpoint.to_string_lossy()).to_owned(),
            None => layout.cri_socket(),
        },
        tls_cert: args.tls_cert_file.clone().unwrap_or_default(),
        tls_key: args.tls_private_key_file.clone().unwrap_or_default(),
        client_ca: args.client_ca_file.clone().unwrap_or_default(),
        cert_dir: cert_dir(layout, args),
        bootstrapped: args.bootstrap_kubeconfig.is_some(),
        joined,
        tls_signed: false,
    };
    worker::start_kubelet(parts, layout, informers.client(), node, files)
}

/// For a runtime that no kubelet has told a network yet; what one tells holds from then on.
const LONE_POD_CIDR: &str = "10.88.0.0/16";

pub async fn runtime(layout: &Layout, mut args: RuntimeRoleArgs) -> Result<()> {
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    args.runtime.pod_cidr.get_or_insert_with(|| LONE_POD_CIDR.to_owned());
    let mut config = runtime_config(layout, &args.runtime, &args.network, shim::unpack(&layout.root)?)?;
    config.systemd_bus = (args.cgroup_driver == CgroupDriver::Systemd).then(|| SYSTEM_BUS.into());
    // As other runtimes: where somebody configures the network of pods, be it later, that is it.
    config.cni.get_or_insert_with(|| runtime::CniConfig {
        conf_dir: CNI_CONF_DIR.into(),
        bin_dirs: args.runtime.cni_bin_dir.clone(),
        bridge_before: true,
    });
    parts.start("container runtime", runtime::run(config, parts.shutdown()));
    started();
    parts.finish().await
}

/// Where systemd is found.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// Where CNI configurations of the machine are.
const CNI_CONF_DIR: &str = "/etc/cni/net.d";

async fn informers(kubeconfig: &Path, agent: &str) -> Result<Informers> {
    Ok(Informers::new(client::from_kubeconfig(kubeconfig, agent).await?))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
