//! What runs on a node of a cluster: `corten up` on servers, `corten node` on the others, told as a person would tell
//! them on real machines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cluster::host::{File, Program};
use cluster::node::Furniture;
use cluster::plan::{Plan, PlannedNode, Role};
use cluster::record::{Node, Record};

use super::etcd;
use crate::join::Invitation;

const LOG: &str = "/var/log/corten.log";
const KUBELET: &str = "/etc/corten/kubelet.yaml";
/// Where CNI plugins leave their configuration.
const CNI: &str = "/etc/cni/net.d";
pub const API_PORT: u16 = 6443;
/// What every kubelet is told: how full the machine's disk is is not the nodes' business.
const USUAL: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
";

/// What is the same for all nodes of a cluster.
pub struct Common<'a> {
    pub plan: &'a Plan,
    pub record: &'a Record,
    pub invitation: &'a Invitation,
    pub pki: PathBuf,
    pub resolv_conf: String,
    pub kubelet: String,
    pub server_args: &'a [String],
    pub node_args: &'a [String],
    /// The program, where there are several servers.
    pub etcd: Option<PathBuf>,
}

impl Common<'_> {
    pub fn furniture(&self, node: &Node, planned: &PlannedNode) -> Result<Furniture> {
        let mut furniture = Furniture {
            programs: Vec::new(),
            binds: planned.binds.clone(),
            files: vec![
                File { path: "/etc/resolv.conf".into(), contents: self.resolv_conf.clone() },
                File { path: "/etc/hosts".into(), contents: self.hosts() },
                File { path: "/etc/hostname".into(), contents: format!("{}\n", node.name) },
                File { path: KUBELET.into(), contents: self.kubelet_configuration(node) },
            ],
        };
        let mut arguments = match node.role {
            Role::Server => self.server(node, &mut furniture)?,
            Role::Worker => self.worker(),
        };
        arguments.extend([
            format!("--hostname-override={}", node.name),
            format!("--node-ip={}", node.ips().map(|ip| ip.to_string()).collect::<Vec<_>>().join(",")),
            format!("--config={KUBELET}"),
            format!("--cgroup-parent={}", self.record.cgroup_of(&node.name)),
        ]);
        if !planned.labels.is_empty() {
            let labels: Vec<String> =
                planned.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            arguments.push(format!("--node-labels={}", labels.join(",")));
        }
        if self.plan.own_cni {
            arguments.push(format!("--cni-conf-dir={CNI}"));
        }
        arguments.extend(self.node_args.iter().cloned());
        let environment = std::env::var("CORTEN_LOG").map(|value| ("CORTEN_LOG".to_owned(), value));
        furniture.programs.push(Program {
            path: None,
            arguments,
            environment: environment.into_iter().collect(),
            log: LOG.into(),
        });
        Ok(furniture)
    }

    fn server(&self, node: &Node, furniture: &mut Furniture) -> Result<Vec<String>> {
        let mut arguments: Vec<String> = vec!["up".to_owned()];
        arguments.extend([
            format!("--advertise-address={}", node.main_ip()),
            format!("--secure-port={API_PORT}"),
            format!("--cluster-cidr={}", self.plan.pod_subnet),
            format!("--service-cluster-ip-range={}", self.plan.service_subnet),
        ]);
        if !self.plan.api_address.is_loopback() && !self.plan.api_address.is_unspecified() {
            arguments.push(format!("--tls-san={}", self.plan.api_address));
        }
        if self.plan.tainted {
            arguments
                .push("--register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule".to_owned());
        }
        let servers: Vec<&Node> = self.record.nodes.iter().filter(|node| node.role == Role::Server).collect();
        if let Some(program) = &self.etcd {
            let (member, files) = etcd::member(program, &self.pki, node, &servers)?;
            furniture.programs.push(member);
            furniture.files.extend(files);
            arguments.extend(etcd::flags(node, &servers));
        }
        arguments.extend(self.server_args.iter().cloned());
        Ok(arguments)
    }

    fn worker(&self) -> Vec<String> {
        let mut arguments = vec!["node".to_owned()];
        arguments.extend(self.invitation.flags());
        arguments
    }

    fn hosts(&self) -> String {
        let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        for node in &self.record.nodes {
            for ip in node.ips() {
                text.push_str(&format!("{ip} {}\n", node.name));
            }
        }
        text
    }

    fn kubelet_configuration(&self, node: &Node) -> String {
        format!("{USUAL}cgroupRoot: {}\n{}", self.record.cgroup_of(&node.name), self.kubelet)
    }
}

/// What servers must agree on is copied to each of them, before its first start.
pub fn share_pki(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for name in crate::join::SHARED {
        let source = from.join(name);
        let copied = std::fs::copy(&source, to.join(name));
        copied.with_context(|| format!("cannot copy {} to {}", source.display(), to.display()))?;
    }
    Ok(())
}
