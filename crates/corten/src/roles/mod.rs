//! What each role consists of. Roles differ only in which parts they start, and in how those reach the API server: in
//! process, or over HTTPS by a kubeconfig.

mod addons;
mod address;
mod control_plane;
mod leading;
mod up;
mod worker;

use std::path::Path;

use anyhow::{Context, Result};
use client::Informers;

use crate::cli::{
    ClusterArgs, ControllersArgs, KubeconfigArgs, KubeletArgs, NodeArgs, ProxyArgs, RuntimeRoleArgs,
    SchedulerArgs,
};
use crate::layout::Layout;
use crate::parts::{self, Parts};
use crate::{notify, shim, signals};
use leading::Leading;

pub use up::up;
pub use worker::{clear_network, runtime_config};

pub async fn server(layout: &Layout, args: ClusterArgs) -> Result<()> {
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    let plane = control_plane::start(&mut parts, layout, &args).await?;
    let informers = plane.informers();
    let leading = Leading::beside(&args.leader, args.etcd.options().is_some());
    let (authority, signing) = (plane.authority(), plane.signing()?);
    control_plane::start_controllers(&mut parts, &informers, authority, signing, &args.network, &leading)?;
    control_plane::start_scheduler(&mut parts, informers.acting_as(plane.scheduler_client()), &leading)?;
    addons::ensure(&informers.client(), &args.network).await?;
    notify::ready();
    parts.finish().await
}

pub async fn apiserver(layout: &Layout, args: ClusterArgs) -> Result<()> {
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    let plane = control_plane::start(&mut parts, layout, &args).await?;
    addons::ensure(&plane.informers().client(), &args.network).await?;
    notify::ready();
    parts.finish().await
}

pub async fn controllers(layout: &Layout, args: ControllersArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    let root_ca_file = args.root_ca_file.unwrap_or_else(|| layout.pki().join("ca.crt"));
    let authority = read(&root_ca_file)?;
    let informers = informers(&args.kubeconfig).await?;
    let certificate = args.cluster_signing_cert_file.unwrap_or_else(|| layout.pki().join("ca.crt"));
    let key = args.cluster_signing_key_file.unwrap_or_else(|| layout.pki().join("ca.key"));
    let signing = control_plane::signing(&certificate, &key)?;
    let leading = Leading::alone(args.leader);
    control_plane::start_controllers(&mut parts, &informers, &authority, signing, &args.network, &leading)?;
    notify::ready();
    parts.finish().await
}

pub async fn scheduler(args: SchedulerArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    let leading = Leading::alone(args.leader);
    control_plane::start_scheduler(&mut parts, informers(&args.kubeconfig).await?, &leading)?;
    notify::ready();
    parts.finish().await
}

pub async fn node(layout: &Layout, args: NodeArgs) -> Result<()> {
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    let informers = informers(&args.kubelet.kubeconfig).await?;
    let node = worker::Node::from_args(&args.kubelet.node, &args.kubelet.network)?;
    worker::start_runtime(
        &mut parts,
        layout,
        &args.runtime,
        &args.kubelet.network,
        shim::unpack(&layout.root)?,
    )?;
    start_kubelet(&mut parts, layout, &args.kubelet, &informers, &node)?;
    worker::start_network(&mut parts, &informers, &node)?;
    notify::ready();
    parts.finish().await
}

pub async fn kubelet(layout: &Layout, args: KubeletArgs) -> Result<()> {
    layout.ensure()?;
    let mut parts = Parts::new(signals::shutdown()?);
    let informers = informers(&args.kubeconfig).await?;
    let node = worker::Node::from_args(&args.node, &args.network)?;
    start_kubelet(&mut parts, layout, &args, &informers, &node)?;
    notify::ready();
    parts.finish().await
}

fn start_kubelet(
    parts: &mut Parts,
    layout: &Layout,
    args: &KubeletArgs,
    informers: &Informers,
    node: &worker::Node,
) -> Result<()> {
    let files = worker::KubeletFiles {
        cri_socket: args.container_runtime_endpoint.clone().unwrap_or_else(|| layout.cri_socket()),
        tls_cert: args.tls_cert_file.clone(),
        tls_key: args.tls_private_key_file.clone(),
        client_ca: args.client_ca_file.clone(),
    };
    worker::start_kubelet(parts, layout, informers.client(), node, files)
}

pub async fn proxy(args: ProxyArgs) -> Result<()> {
    let mut parts = Parts::new(signals::shutdown()?);
    let node = worker::Node::from_args(&args.node, &args.network)?;
    worker::start_network(&mut parts, &informers(&args.kubeconfig).await?, &node)?;
    notify::ready();
    parts.finish().await
}

pub async fn runtime(layout: &Layout, args: RuntimeRoleArgs) -> Result<()> {
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    worker::start_runtime(&mut parts, layout, &args.runtime, &args.network, shim::unpack(&layout.root)?)?;
    notify::ready();
    parts.finish().await
}

async fn informers(args: &KubeconfigArgs) -> Result<Informers> {
    Ok(Informers::new(client::from_kubeconfig(&args.kubeconfig).await?))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
