//! What a cluster is to be, whether flags say it or a file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::host::Bind;
use crate::relay::Protocol;

/// As kind has them.
pub const POD_SUBNET: &str = "10.244.0.0/16";
pub const SERVICE_SUBNET: &str = "10.96.0.0/16";
const POD_SUBNET_6: &str = "fd00:10:244::/56";
const SERVICE_SUBNET_6: &str = "fd00:10:96::/112";
/// Of names of clusters: those of nodes, which are host names, begin with it.
const LONGEST_NAME: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Has the control plane, and is a node too.
    Server,
    Worker,
}

/// Of which families the addresses of nodes, pods and Services are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Families {
    #[default]
    Ipv4,
    Both,
    /// Nodes have IPv4 addresses too, by which the machine reaches them; the cluster knows nothing of these.
    Ipv6,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub nodes: Vec<PlannedNode>,
    /// Servers take no pods but those that tolerate it.
    pub tainted: bool,
    pub pod_subnet: String,
    pub service_subnet: String,
    pub families: Families,
    /// Where the machine's users find the API server; port 0 for one that is free.
    pub api_address: IpAddr,
    pub api_port: u16,
    /// Pods are connected by plugins that somebody installs.
    pub own_cni: bool,
    pub dns_search: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct PlannedNode {
    pub role: Role,
    pub labels: BTreeMap<String, String>,
    pub binds: Vec<Bind>,
    pub ports: Vec<PortMapping>,
}

/// A port of the machine that leads to one of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub listen: IpAddr,
    /// 0 for one that is free.
    pub port: u16,
    pub node_port: u16,
    pub protocol: Protocol,
}

impl PlannedNode {
    pub fn new(role: Role) -> Self {
        Self { role, labels: BTreeMap::new(), binds: Vec::new(), ports: Vec::new() }
    }
}

impl Plan {
    pub fn new(name: String, nodes: Vec<PlannedNode>) -> Self {
        Self {
            name,
            nodes,
            tainted: false,
            pod_subnet: POD_SUBNET.to_owned(),
            service_subnet: SERVICE_SUBNET.to_owned(),
            families: Families::Ipv4,
            api_address: Ipv4Addr::LOCALHOST.into(),
            api_port: 0,
            own_cni: false,
            dns_search: None,
        }
    }

    /// So many nodes, the first of which are servers too.
    pub fn of_size(name: String, servers: usize, nodes: usize) -> Self {
        let role = |index| if index < servers { Role::Server } else { Role::Worker };
        Self::new(name, (0..nodes).map(|index| PlannedNode::new(role(index))).collect())
    }

    /// With the networks of pods and Services that kind has for these families.
    pub fn set_families(&mut self, families: Families) {
        self.families = families;
        let of = |four: &str, six: &str| match families {
            Families::Ipv4 => four.to_owned(),
            Families::Both => format!("{four},{six}"),
            Families::Ipv6 => six.to_owned(),
        };
        self.pod_subnet = of(POD_SUBNET, POD_SUBNET_6);
        self.service_subnet = of(SERVICE_SUBNET, SERVICE_SUBNET_6);
    }

    pub fn servers(&self) -> usize {
        self.nodes.iter().filter(|node| node.role == Role::Server).count()
    }

    /// The names of the nodes: as kind's.
    pub fn node_names(&self) -> Vec<String> {
        let (mut servers, mut workers) = (0, 0);
        let name = |node: &PlannedNode| {
            let (kind, count) = match node.role {
                Role::Server => ("control-plane", &mut servers),
                Role::Worker => ("worker", &mut workers),
            };
            *count += 1;
            let number = if *count > 1 { count.to_string() } else { String::new() };
            format!("{}-{kind}{number}", self.name)
        };
        self.nodes.iter().map(name).collect()
    }
}

/// A name that can be part of host names and directories.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name for a cluster: up to {LONGEST_NAME} lower-case letters, digits and '-', not at the ends"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["dev", "a", "a-1"] {
            check_name(good).unwrap();
        }
        for bad in ["", "-a", "a-", "A", "a_b", "../x", "a/b", &"a".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        let plan = Plan::of_size("c".into(), 2, 4);
        assert_eq!(plan.node_names(), ["c-control-plane", "c-control-plane2", "c-worker", "c-worker2"]);
        assert_eq!(plan.servers(), 2);
    }
}
