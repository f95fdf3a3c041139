//! What this node must do for one Service: a pure function of the Service, its slices and the node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use net::IpNet;

use crate::class::{Masquerade, View};
use crate::endpoints::{Endpoint, Slice};
use crate::service::{Protocol, ServicePort, ServiceSpec};
use crate::{Config, Local};

/// The node's part in routing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub config: Config,
    pub zone: Option<String>,
}

/// A destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Frontend {
    pub ip: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// Which endpoints a policy lets this node use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

/// The endpoints of one port under one policy in one address family. Its place in [`Desired::backends`] is of no
/// meaning; what makes it the same one as before is all but the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub port: String,
    pub protocol: Protocol,
    pub policy: Policy,
    pub ipv6: bool,
    /// Sorted, each once.
    pub endpoints: Vec<SocketAddr>,
    pub affinity: u32,
    pub ranges: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Reject,
    Drop,
    Backend {
        /// Index in [`Desired::backends`].
        index: usize,
        masquerade: Masquerade,
        ranges: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    pub backends: Vec<Backend>,
    pub frontends: Vec<(View, Frontend, To)>,
    /// Addresses of which every port is this Service's: what is asked for another port is told so.
    pub own_ips: Vec<IpAddr>,
    /// Addresses of endpoints on this node, which may be sent their own packets.
    pub local_ips: BTreeSet<IpAddr>,
    /// How many endpoints on this node are ready, for the health check; and whether a policy found none.
    pub local_ready: usize,
    pub no_local_internal: bool,
    pub no_local_external: bool,
}

/// What becomes of `spec` on `node`.
pub(crate) fn render(spec: &ServiceSpec, slices: &[&Slice], node: &Node) -> Desired {
    let mut desired = Desired::default();
    let vips = &node.config.node_local_vips;
    let routed = |ip: &IpAddr| !vips.contains(ip);
    desired.own_ips = spec.cluster_ips.iter().copied().filter(routed).collect();
    for port in &spec.ports {
        for ipv6 in [false, true] {
            render_port(&mut desired, spec, port, ipv6, slices, node);
        }
    }
    let is_local = |endpoint: &&Endpoint| endpoint.is_on(node);
    let endpoints = || slices.iter().flat_map(|slice| &slice.endpoints);
    desired.local_ips = endpoints().filter(is_local).map(|endpoint| endpoint.ip).collect();
    let ready = endpoints().filter(is_local).filter(|endpoint| endpoint.ready);
    desired.local_ready = ready.map(|endpoint| endpoint.ip).collect::<BTreeSet<_>>().len();
    desired
}

fn render_port(
    desired: &mut Desired,
    spec: &ServiceSpec,
    port: &ServicePort,
    ipv6: bool,
    slices: &[&Slice],
    node: &Node,
) {
    let wanted = |ip: &IpAddr| ip.is_ipv6() == ipv6 && !node.config.node_local_vips.contains(ip);
    let internal: Vec<IpAddr> = spec.cluster_ips.iter().copied().filter(wanted).collect();
    let external: Vec<(IpAddr, u16)> = {
        let external_ips = spec.external_ips.iter().map(|ip| (*ip, port.port));
        let node_ips = node.config.node_ips.iter().filter_map(|ip| Some((*ip, port.node_port?)));
        external_ips.chain(node_ips).filter(|(ip, _)| wanted(ip)).collect()
    };
    let balanced: Vec<IpAddr> = spec.load_balancer_ips.iter().copied().filter(wanted).collect();
    if internal.is_empty() && external.is_empty() && balanced.is_empty() {
        return;
    }

    let candidates = candidates(port, ipv6, slices);
    let (cluster, local) = (choose_cluster(&candidates, node), choose_local(&candidates, node));
    let any = !cluster.is_empty() || candidates.iter().any(|(endpoint, _)| endpoint.usable());
    let ranges = allowed_sources(spec, &balanced, ipv6, node);

    let mut indexes = [None; 2];
    let mut to = |policy: Policy, masquerade, ranged: bool| {
        let endpoints = if policy == Policy::Local { &local } else { &cluster };
        if endpoints.is_empty() {
            return if any { To::Drop } else { To::Reject };
        }
        let index = *indexes[policy as usize].get_or_insert_with(|| {
            desired.backends.push(Backend {
                port: port.name.clone(),
                protocol: port.protocol,
                policy,
                ipv6,
                endpoints: endpoints.clone(),
                affinity: spec.affinity.unwrap_or(0),
                ranges: ranges.clone(),
            });
            desired.backends.len() - 1
        });
        To::Backend { index, masquerade, ranges: ranged && !spec.source_ranges.is_empty() }
    };
    let mut frontends = Vec::new();
    let mut add = |view, ip, number, to| {
        frontends.push((view, Frontend { ip, protocol: port.protocol, port: number }, to));
    };

    let masquerade = to_cluster_ips(&node.config);
    let internal_policy = if spec.internal_local { Policy::Local } else { Policy::Cluster };
    for ip in internal {
        add(View::Services, ip, port.port, to(internal_policy, masquerade, false));
    }
    let balanced = balanced.into_iter().map(|ip| (ip, port.port, true));
    for (ip, number, ranged) in external.into_iter().map(|(ip, n)| (ip, n, false)).chain(balanced) {
        if spec.external_local {
            add(View::Services, ip, number, to(Policy::Local, Masquerade::Never, ranged));
            add(View::Inside, ip, number, to(Policy::Cluster, Masquerade::FromNode, ranged));
        } else {
            add(View::Services, ip, number, to(Policy::Cluster, Masquerade::Always, ranged));
        }
    }
    desired.frontends.append(&mut frontends);
    desired.no_local_internal |= spec.internal_local && local.is_empty() && any;
    desired.no_local_external |= spec.external_local && local.is_empty() && any;
}

/// Whose packets to a cluster IP are masqueraded.
pub(crate) fn to_cluster_ips(config: &Config) -> Masquerade {
    let told_apart = match config.local {
        Local::ClusterCidr | Local::NodeCidr => !config.cluster_cidr.is_empty(),
        Local::Interface(_) | Local::InterfacePrefix(_) => true,
    };
    match told_apart {
        _ if config.masquerade_all => Masquerade::Always,
        true => Masquerade::OffCluster,
        false => Masquerade::Never,
    }
}

/// The endpoints that have the port, with the number that it has there.
fn candidates<'a>(port: &ServicePort, ipv6: bool, slices: &[&'a Slice]) -> Vec<(&'a Endpoint, SocketAddr)> {
    let mut found = Vec::new();
    for slice in slices {
        let matching = |p: &&crate::SlicePort| p.name == port.name && p.protocol == port.protocol;
        for slice_port in slice.ports.iter().filter(matching) {
            for endpoint in slice.endpoints.iter().filter(|e| e.ip.is_ipv6() == ipv6) {
                found.push((endpoint, SocketAddr::new(endpoint.ip, slice_port.port)));
            }
        }
    }
    found
}

type Candidates<'a> = [(&'a Endpoint, SocketAddr)];

impl Endpoint {
    fn is_on(&self, node: &Node) -> bool {
        self.node.as_deref() == Some(node.config.node_name.as_str())
    }

    /// Still answers while it ends: better than nothing.
    fn ending(&self) -> bool {
        self.serving && self.terminating
    }

    fn usable(&self) -> bool {
        self.ready || self.ending()
    }
}

/// Ready endpoints, or failing that those that still serve while they end.
fn pick<'a>(
    candidates: &Candidates<'a>,
    ready_too: impl Fn(&Endpoint) -> bool,
    ending_too: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let choose = |keep: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let kept = candidates.iter().filter(|(endpoint, _)| keep(endpoint));
        let mut addresses: Vec<SocketAddr> = kept.map(|(_, address)| *address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    };
    let ready = choose(&|endpoint| endpoint.ready && ready_too(endpoint));
    if !ready.is_empty() {
        return ready;
    }
    choose(&|endpoint| endpoint.ending() && ending_too(endpoint))
}

fn choose_local(candidates: &Candidates<'_>, node: &Node) -> Vec<SocketAddr> {
    pick(candidates, |endpoint| endpoint.is_on(node), |endpoint| endpoint.is_on(node))
}

fn choose_cluster(candidates: &Candidates<'_>, node: &Node) -> Vec<SocketAddr> {
    match nearness(candidates, node) {
        Nearness::Anywhere => pick(candidates, |_| true, |_| true),
        Nearness::Node => {
            let name = &node.config.node_name;
            pick(candidates, |endpoint| endpoint.for_nodes().contains(name), |_| true)
        }
        Nearness::Zone(zone) => pick(candidates, |endpoint| endpoint.for_zones().contains(zone), |_| true),
    }
}

enum Nearness<'a> {
    Anywhere,
    Node,
    Zone(&'a String),
}

/// Hints count only when every ready endpoint has them and at least one is meant for us.
fn nearness<'n>(candidates: &Candidates<'_>, node: &'n Node) -> Nearness<'n> {
    let ready = || candidates.iter().map(|(endpoint, _)| endpoint).filter(|e| e.ready);
    let name = &node.config.node_name;
    if ready().all(|e| !e.for_nodes().is_empty()) && ready().any(|e| e.for_nodes().contains(name)) {
        return Nearness::Node;
    }
    match &node.zone {
        Some(zone)
            if ready().all(|e| !e.for_zones().is_empty())
                && ready().any(|e| e.for_zones().contains(zone)) =>
        {
            Nearness::Zone(zone)
        }
        _ => Nearness::Anywhere,
    }
}

/// The source ranges of one family, without overlap. A node that may use the load balancer does so from the
/// balancer's address, when that is local to it.
fn allowed_sources(spec: &ServiceSpec, balanced: &[IpAddr], ipv6: bool, node: &Node) -> Vec<IpNet> {
    if spec.source_ranges.is_empty() || balanced.is_empty() {
        return Vec::new();
    }
    let mut ranges = spec.source_ranges.clone();
    let ours = |range: &IpNet| node.config.node_ips.iter().any(|ip| range.contains(ip));
    if ranges.iter().any(ours) {
        ranges.extend(balanced.iter().map(|ip| IpNet::from(*ip)));
    }
    ranges.retain(|range| range.addr().is_ipv6() == ipv6);
    let ranges: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
    IpNet::aggregate(&ranges)
}
