//! The pod network: our bridge, ready when the pod CIDR is known, or whatever CNI plugins make.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_cri::v1::{PodSandboxConfig, Protocol};
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::cni;
use crate::sandbox::Sandbox;
use crate::state::{Runtime, blocking};
use crate::{Error, Result, disk};

/// Annotations of pods that the bandwidth plugin knows.
const BANDWIDTH: [(&str, &str); 2] =
    [("kubernetes.io/ingress-bandwidth", "ingress"), ("kubernetes.io/egress-bandwidth", "egress")];

impl Runtime {
    /// From UpdateRuntimeConfig: one CIDR, or one per address family with a comma between.
    pub fn set_pod_cidr(&self, cidrs: &str) -> Result<()> {
        let parse = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| Error::InvalidArgument(format!("pod CIDR {text:?} is not a network")))
        };
        let networks: Vec<net::IpNet> = cidrs.split(',').map(parse).collect::<Result<_>>()?;
        if self.plugins().is_none() {
            let set = self.bridge.set_pod_cidr(&networks);
            *self.network_problem.lock() = set.as_ref().err().map(ToString::to_string);
            set?;
        }
        disk::replace(&self.pod_cidr_file(), cidrs.as_bytes())
    }

    /// A kubelet tells the CIDR when it learns it, not when the runtime was started again.
    pub fn restore_pod_cidr(&self) {
        let told = fs::read_to_string(self.pod_cidr_file()).ok();
        let Some(cidrs) = told.or_else(|| self.config.pod_cidr.clone()) else { return };
        if let Err(error) = self.set_pod_cidr(&cidrs) {
            warn!(%error, "the pod network cannot be restored");
        }
    }

    /// What attaches pods, if not our bridge. Looks at files.
    fn plugins(&self) -> Option<&cni::Cni> {
        let waits = self.config.cni.as_ref().is_some_and(|config| config.bridge_before);
        self.cni.as_ref().filter(|cni| !waits || cni.is_configured())
    }

    fn pod_cidr_file(&self) -> PathBuf {
        self.config.root_dir.join("pod-cidr")
    }

    /// Why pods cannot have a network now. Looks at files: call it where blocking harms nobody.
    pub fn network_problem(&self) -> Option<String> {
        match self.plugins() {
            Some(cni) => cni.problem(),
            None => self.network_problem.lock().clone(),
        }
    }

    /// Gives a sandbox its addresses, and tells of it whoever must know.
    pub async fn attach_network(self: &Arc<Self>, sandbox: &Arc<Sandbox>, shim: i32) -> Result<()> {
        self.attach(sandbox, shim).await?;
        let Some(admission) = &self.config.admission else { return Ok(()) };
        let (config, ips) = {
            let record = sandbox.record.lock();
            (record.config.clone(), record.ips.clone())
        };
        admission.admit(&config, ips).await
    }

    async fn attach(self: &Arc<Self>, sandbox: &Arc<Sandbox>, shim: i32) -> Result<()> {
        let netns = format!("/proc/{shim}/ns/net");
        let config = sandbox.record.lock().config.clone();
        if let Some(cni) = self.plugins() {
            let cidrs = fs::read_to_string(self.pod_cidr_file()).ok();
            let ips = cni.add(pod(&sandbox.id, netns, &config, cidrs.as_deref())?).await?;
            sandbox.record.lock().ips = ips;
            return Ok(());
        }
        let ports = crate::sandbox::host_ports(&config.port_mappings)?;
        let rates = rates(&config)?;
        let (runtime, sandbox, netns) = (self.clone(), sandbox.clone(), PathBuf::from(netns));
        blocking(move || {
            let attachment = runtime.bridge.attach(&sandbox.id, &netns)?;
            sandbox.record.lock().ips = attachment.ips;
            if !ports.is_empty() {
                runtime.bridge.set_host_ports(&sandbox.id, &ports)?;
            }
            let [ingress, egress] = rates;
            if ingress.is_some() || egress.is_some() {
                let limits = net::bridge::Bandwidth { ingress, egress };
                runtime.bridge.set_bandwidth(&sandbox.id, &netns, limits)?;
            }
            Ok(())
        })
        .await
    }

    /// Whichever of the two it was attached by; one that is not attached is fine.
    pub async fn detach_network(self: &Arc<Self>, id: &str) -> Result<()> {
        if let Some(cni) = &self.cni {
            cni.del(id).await?;
        }
        let (runtime, id) = (self.clone(), id.to_owned());
        blocking(move || Ok(runtime.bridge.detach(&id)?)).await
    }

    /// Detaches all sandboxes but these.
    pub async fn retain_networks(self: &Arc<Self>, alive: &[&str]) -> Result<()> {
        if let Some(cni) = &self.cni {
            // A plugin that does not work now is no reason not to start.
            if let Err(error) = cni.retain(alive).await {
                warn!(%error, "attachments of pods that are gone are left");
            }
            for id in alive {
                if let Err(error) = cni.check(id).await {
                    warn!(sandbox = id, %error, "the pod's network is not as it should be");
                }
            }
        }
        Ok(self.bridge.retain(alive)?)
    }
}

fn pod(id: &str, netns: String, config: &PodSandboxConfig, cidrs: Option<&str>) -> Result<cni::Pod> {
    let metadata = config.metadata.clone().unwrap_or_default();
    let mut capabilities = Map::new();
    let ports: Vec<Value> = config
        .port_mappings
        .iter()
        .filter(|m| m.host_port > 0)
        .map(|m| {
            let protocol = match m.protocol() {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            json!({"hostPort": m.host_port, "containerPort": m.container_port, "protocol": protocol,
                "hostIP": m.host_ip})
        })
        .collect();
    if !ports.is_empty() {
        capabilities.insert("portMappings".to_owned(), ports.into());
    }
    let mut bandwidth = Map::new();
    for ((_, direction), rate) in BANDWIDTH.into_iter().zip(rates(config)?) {
        let Some(rate) = rate else { continue };
        bandwidth.insert(format!("{direction}Rate"), rate.into());
        // As much as there can be: the rate is what is asked for.
        bandwidth.insert(format!("{direction}Burst"), i32::MAX.into());
    }
    if !bandwidth.is_empty() {
        capabilities.insert("bandwidth".to_owned(), bandwidth.into());
    }
    if let Some(dns) = &config.dns_config {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        capabilities.insert("dns".to_owned(), dns);
    }
    if let Some(cidrs) = cidrs {
        let ranges: Vec<Value> = cidrs.split(',').map(|c| json!([{"subnet": c.trim()}])).collect();
        capabilities.insert("ipRanges".to_owned(), ranges.into());
    }
    let parent = config.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    if !parent.is_empty() {
        capabilities.insert("cgroupPath".to_owned(), parent.into());
    }
    Ok(cni::Pod {
        id: id.to_owned(),
        netns,
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        capabilities,
    })
}

/// How fast the pod may receive and send.
fn rates(config: &PodSandboxConfig) -> Result<[Option<u64>; 2]> {
    let rate = |annotation: &str| {
        let Some(text) = config.annotations.get(annotation) else { return Ok(None) };
        let rate = bits(text);
        rate.map(Some)
            .ok_or_else(|| Error::InvalidArgument(format!("annotation {annotation}: {text:?} is no rate")))
    };
    let [(ingress, _), (egress, _)] = BANDWIDTH;
    Ok([rate(ingress)?, rate(egress)?])
}

/// Bits per second: `10M`, `1Gi`, `100000`.
fn bits(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..)? {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1_u64 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(scale).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, expected) in [
            ("10M", Some(10_000_000)),
            ("1Ki", Some(1024)),
            ("5", Some(5)),
            ("0", None),
            ("-1", None),
            ("1.5M", None),
            ("M", None),
            ("", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(bits(text), expected, "{text}");
        }
    }
}
