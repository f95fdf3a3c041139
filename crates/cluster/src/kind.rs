//! kind's configuration file: what of it means something here, and what is told not to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::host::Bind;
use crate::plan::{Families, Plan, PlannedNode, PortMapping, Role};
use crate::relay::Protocol;

const API_VERSION: &str = "kind.x-k8s.io/v1alpha4";

/// A file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {reason}", path = path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Cluster {
    kind: String,
    api_version: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    networking: Networking,
    #[serde(default)]
    feature_gates: BTreeMap<String, bool>,
    #[serde(default)]
    runtime_config: BTreeMap<String, String>,
    #[serde(default)]
    kubeadm_config_patches: Vec<Value>,
    #[serde(default, rename = "kubeadmConfigPatchesJSON6902")]
    kubeadm_config_patches_json: Vec<Value>,
    #[serde(default)]
    containerd_config_patches: Vec<Value>,
    #[serde(default, rename = "containerdConfigPatchesJSON6902")]
    containerd_config_patches_json: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    extra_mounts: Vec<Mount>,
    #[serde(default)]
    extra_port_mappings: Vec<Mapping>,
    #[serde(default)]
    kubeadm_config_patches: Vec<Value>,
    #[serde(default, rename = "kubeadmConfigPatchesJSON6902")]
    kubeadm_config_patches_json: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    selinux_relabel: bool,
    #[serde(default)]
    propagation: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mapping {
    container_port: u16,
    #[serde(default)]
    host_port: i32,
    #[serde(default)]
    listen_address: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Networking {
    #[serde(default)]
    ip_family: Option<String>,
    #[serde(default)]
    api_server_port: Option<i32>,
    #[serde(default)]
    api_server_address: Option<String>,
    #[serde(default)]
    pod_subnet: Option<String>,
    #[serde(default)]
    service_subnet: Option<String>,
    #[serde(default, rename = "disableDefaultCNI")]
    disable_default_cni: bool,
    #[serde(default)]
    kube_proxy_mode: Option<String>,
    #[serde(default)]
    dns_search: Option<Vec<String>>,
}

/// A plan, and what of the file has no effect.
pub struct Read {
    pub plan: Plan,
    pub named: bool,
    pub warnings: Vec<String>,
}

/// Reads a file, for a cluster of that name where it has none.
pub fn read(path: &Path, name: &str) -> Result<Read, ConfigError> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    let malformed = |reason| ConfigError::Malformed { path: path.to_owned(), reason };
    let base = path.parent().unwrap_or(Path::new("."));
    parse(&text, name, base).map_err(malformed)
}

fn parse(text: &str, name: &str, base: &Path) -> Result<Read, String> {
    let file: Cluster = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if file.kind != "Cluster" || file.api_version != API_VERSION {
        return Err(format!(
            "expected kind Cluster of {API_VERSION}, found {} of {}",
            file.kind, file.api_version
        ));
    }
    let mut warnings = Vec::new();
    let mut ignored = |given: bool, field: &str, why: &str| {
        if given {
            warnings.push(format!("{field} is not applicable here: {why}"));
        }
    };
    const KUBEADM: &str = "there is no kubeadm in it";
    const CONTAINERD: &str = "there is no containerd in it";
    ignored(!file.feature_gates.is_empty(), "featureGates", "features are as upstream has them by default");
    ignored(
        !file.runtime_config.is_empty(),
        "runtimeConfig",
        "the API groups are as upstream has them by default",
    );
    ignored(!file.kubeadm_config_patches.is_empty(), "kubeadmConfigPatches", KUBEADM);
    ignored(!file.kubeadm_config_patches_json.is_empty(), "kubeadmConfigPatchesJSON6902", KUBEADM);
    ignored(!file.containerd_config_patches.is_empty(), "containerdConfigPatches", CONTAINERD);
    ignored(!file.containerd_config_patches_json.is_empty(), "containerdConfigPatchesJSON6902", CONTAINERD);
    ignored(file.networking.kube_proxy_mode.is_some(), "networking.kubeProxyMode", "there is one mode");
    let mut nodes = Vec::new();
    for (index, node) in file.nodes.iter().enumerate() {
        let at = |field: &str| format!("nodes[{index}].{field}");
        ignored(node.image.is_some(), &at("image"), "nodes are made of this machine's files");
        ignored(!node.kubeadm_config_patches.is_empty(), &at("kubeadmConfigPatches"), KUBEADM);
        ignored(!node.kubeadm_config_patches_json.is_empty(), &at("kubeadmConfigPatchesJSON6902"), KUBEADM);
        for mount in &node.extra_mounts {
            ignored(mount.selinux_relabel, &at("extraMounts.selinuxRelabel"), "nothing is labelled");
            ignored(
                mount.propagation.is_some(),
                &at("extraMounts.propagation"),
                "mounts stay the node's own",
            );
        }
        nodes.push(node.plan(base).map_err(|reason| format!("nodes[{index}].{reason}"))?);
    }
    if nodes.is_empty() {
        nodes.push(PlannedNode::new(Role::Server));
    }
    if !nodes.iter().any(|node| node.role == Role::Server) {
        return Err("nodes: none has the role control-plane".to_owned());
    }
    let named = file.name.is_some();
    let mut plan = Plan::new(file.name.unwrap_or_else(|| name.to_owned()), nodes);
    plan.tainted = plan.servers() < plan.nodes.len();
    file.networking.apply(&mut plan).map_err(|reason| format!("networking.{reason}"))?;
    Ok(Read { plan, named, warnings })
}

impl Node {
    fn plan(&self, base: &Path) -> Result<PlannedNode, String> {
        let role = match self.role.as_deref() {
            None | Some("" | "control-plane") => Role::Server,
            Some("worker") => Role::Worker,
            Some(other) => return Err(format!("role: {other:?} is neither control-plane nor worker")),
        };
        let mut planned = PlannedNode::new(role);
        planned.labels.clone_from(&self.labels);
        for mount in &self.extra_mounts {
            let source =
                std::path::absolute(base.join(&mount.host_path)).map_err(|error| error.to_string())?;
            if !source.exists() {
                return Err(format!("extraMounts: hostPath {} is not there", source.display()));
            }
            if !mount.container_path.is_absolute() || mount.container_path == Path::new("/") {
                return Err(format!(
                    "extraMounts: containerPath {} is no absolute path below /",
                    mount.container_path.display()
                ));
            }
            planned.binds.push(Bind {
                source,
                target: mount.container_path.clone(),
                read_only: mount.read_only,
            });
        }
        for mapping in &self.extra_port_mappings {
            planned.ports.push(mapping.plan().map_err(|reason| format!("extraPortMappings: {reason}"))?);
        }
        Ok(planned)
    }
}

impl Mapping {
    fn plan(&self) -> Result<PortMapping, String> {
        let protocol = match self.protocol.as_deref() {
            None | Some("" | "TCP" | "tcp") => Protocol::Tcp,
            Some("UDP" | "udp") => Protocol::Udp,
            Some(other) => return Err(format!("protocol {other:?} is neither TCP nor UDP")),
        };
        let listen = match self.listen_address.as_deref() {
            None | Some("") => Ipv4Addr::UNSPECIFIED.into(),
            Some(text) => text.parse().map_err(|_| format!("listenAddress {text:?} is no IP address"))?,
        };
        if self.container_port == 0 {
            return Err("containerPort is missing".to_owned());
        }
        Ok(PortMapping {
            listen,
            port: port(self.host_port).ok_or_else(|| format!("hostPort {} is no port", self.host_port))?,
            node_port: self.container_port,
            protocol,
        })
    }
}

/// kind has -1 for any that is free, as we have 0.
fn port(number: i32) -> Option<u16> {
    if number == -1 { Some(0) } else { number.try_into().ok() }
}

impl Networking {
    fn apply(&self, plan: &mut Plan) -> Result<(), String> {
        match self.ip_family.as_deref() {
            None | Some("" | "ipv4") => {}
            Some("dual") => plan.set_families(Families::Both),
            Some("ipv6") => plan.set_families(Families::Ipv6),
            Some(other) => return Err(format!("ipFamily: {other:?} is none of ipv4, ipv6 and dual")),
        }
        if let Some(number) = self.api_server_port {
            plan.api_port = port(number).ok_or_else(|| format!("apiServerPort: {number} is no port"))?;
        }
        if let Some(text) = self.api_server_address.as_deref().filter(|text| !text.is_empty()) {
            plan.api_address =
                text.parse::<IpAddr>().map_err(|_| format!("apiServerAddress: {text:?} is no IP address"))?;
        }
        for (place, given) in
            [(&mut plan.pod_subnet, &self.pod_subnet), (&mut plan.service_subnet, &self.service_subnet)]
        {
            if let Some(given) = given.as_ref().filter(|given| !given.is_empty()) {
                place.clone_from(given);
            }
        }
        plan.own_cni = self.disable_default_cni;
        plan.dns_search.clone_from(&self.dns_search);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Read, String> {
        let head = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";
        parse(&format!("{head}{text}"), "dev", Path::new("/etc"))
    }

    #[test]
    fn what_kind_has_by_default() {
        let read = read("").unwrap();
        assert_eq!(read.plan.node_names(), ["dev-control-plane"]);
        assert!(!read.named && !read.plan.tainted && read.warnings.is_empty());
    }

    #[test]
    fn fields_that_apply() {
        let read = read(
            "name: other
nodes:
- role: control-plane
  extraPortMappings: [{containerPort: 30080, hostPort: 8080, listenAddress: 127.0.0.1, protocol: UDP}]
- role: worker
  labels: {tier: a}
  image: kindest/node:v1.36.0
  extraMounts: [{hostPath: hosts, containerPath: /files, readOnly: true}]
networking: {podSubnet: 10.10.0.0/16, serviceSubnet: 10.11.0.0/16, apiServerPort: 6500, disableDefaultCNI: true}
featureGates: {A: true}
kubeadmConfigPatches: [x]
",
        )
        .unwrap();
        let plan = &read.plan;
        assert!(read.named && plan.tainted && plan.own_cni);
        assert_eq!(plan.node_names(), ["other-control-plane", "other-worker"]);
        assert_eq!((plan.pod_subnet.as_str(), plan.api_port), ("10.10.0.0/16", 6500));
        let port = &plan.nodes[0].ports[0];
        assert_eq!((port.port, port.node_port, port.protocol), (8080, 30080, Protocol::Udp));
        assert_eq!(plan.nodes[1].labels["tier"], "a");
        let bind = &plan.nodes[1].binds[0];
        assert_eq!((bind.source.as_path(), bind.read_only), (Path::new("/etc/hosts"), true));
        assert_eq!(read.warnings.len(), 3, "{:?}", read.warnings);
        assert!(read.warnings.iter().any(|w| w.starts_with("kubeadmConfigPatches is not applicable")));
    }

    #[test]
    fn both_families() {
        let plan = read("networking: {ipFamily: dual}").unwrap().plan;
        assert_eq!(plan.families, Families::Both);
        assert_eq!(plan.pod_subnet, "10.244.0.0/16,fd00:10:244::/56");
        let plan =
            read("networking: {ipFamily: dual, serviceSubnet: 'fd11::/112,10.11.0.0/16'}").unwrap().plan;
        assert_eq!(plan.service_subnet, "fd11::/112,10.11.0.0/16");
    }

    #[test]
    fn the_other_family_alone() {
        let plan = read("networking: {ipFamily: ipv6}").unwrap().plan;
        assert_eq!(plan.families, Families::Ipv6);
        assert_eq!((&*plan.pod_subnet, &*plan.service_subnet), ("fd00:10:244::/56", "fd00:10:96::/112"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("nodse: []", "nodse"),
            ("nodes: [{role: worker}]", "control-plane"),
            ("nodes: [{role: boss}]", "nodes[0].role"),
            ("nodes: [{extraMounts: [{hostPath: /no/such, containerPath: /x}]}]", "/no/such"),
            ("nodes: [{extraMounts: [{hostPath: /etc, containerPath: x}]}]", "containerPath"),
            ("nodes: [{extraPortMappings: [{containerPort: 1, hostPort: 70000}]}]", "hostPort 70000"),
            ("nodes: [{extraPortMappings: [{containerPort: 1, protocol: SCTP}]}]", "SCTP"),
            ("networking: {ipFamily: ipx}", "networking.ipFamily"),
            ("networking: {apiServerAddress: here}", "apiServerAddress"),
        ] {
            let error = read(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse("kind: Cluster\napiVersion: v1\n", "dev", Path::new("/")).is_err());
    }
}
