//! KubeProxyConfiguration, the file that upstream's proxy reads, and what of it has a meaning here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Config, Local, NodePorts};

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// A configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("cannot read the proxy's configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot understand the proxy's configuration {path}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("{field}: {value:?} is not {expected}")]
    Value { field: &'static str, value: String, expected: &'static str },
}

/// The fields of the file that are honoured; the others are in `unknown` and warned about when they are set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyConfiguration {
    pub api_version: String,
    pub kind: String,
    pub client_connection: ClientConnection,
    pub hostname_override: String,
    pub bind_address: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    pub mode: String,
    pub iptables: Masquerading,
    pub nftables: Masquerading,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub node_port_addresses: Option<Vec<String>>,
    pub conntrack: Conntrack,
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Masquerading {
    pub masquerade_bit: Option<u32>,
    pub masquerade_all: bool,
    pub localhost_node_ports: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conntrack {
    pub max_per_core: Option<u32>,
    pub min: Option<u32>,
    pub tcp_established_timeout: Option<String>,
    pub tcp_close_wait_timeout: Option<String>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: Option<String>,
    pub udp_stream_timeout: Option<String>,
}

/// What upstream's file has besides, without a meaning for this proxy: it has no sync periods, other modes or profiles.
const WITHOUT_MEANING: [&str; 11] = [
    "featureGates",
    "logging",
    "enableProfiling",
    "showHiddenMetricsForVersion",
    "ipvs",
    "winkernel",
    "oomScoreAdj",
    "configSyncPeriod",
    "portRange",
    "windowsRunAsService",
    "metadata",
];

impl KubeProxyConfiguration {
    /// Reads a YAML or JSON file.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
        let parse = |reason: String| ConfigurationError::Parse { path: path.to_owned(), reason };
        let configuration = Self::parse(&text).map_err(parse)?;
        for field in configuration.unknown.keys().filter(|field| !WITHOUT_MEANING.contains(&field.as_str())) {
            tracing::warn!(path = %path.display(), field, "no such field of the proxy's configuration is known");
        }
        Ok(configuration)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let configuration: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if configuration.api_version != API_VERSION || configuration.kind != KIND {
            return Err(format!("it must be of apiVersion {API_VERSION} and kind {KIND}"));
        }
        Ok(configuration)
    }

    /// What it asks of the proxy on the node of that name.
    pub fn apply(&self, config: Config) -> Result<Config, ConfigurationError> {
        let masquerading = if self.mode == "iptables" { &self.iptables } else { &self.nftables };
        let bit = masquerading.masquerade_bit.unwrap_or(14);
        let cluster_cidr = networks("clusterCIDR", self.cluster_cidr.split(',').map(str::trim))?;
        let bind = optional_ip("bindAddress", &self.bind_address)?;
        let healthz = address("healthzBindAddress", &self.healthz_bind_address, [0, 0, 0, 0], HEALTHZ_PORT)?;
        let metrics =
            address("metricsBindAddress", &self.metrics_bind_address, [127, 0, 0, 1], METRICS_PORT)?;
        Ok(Config {
            mark: 1u32.checked_shl(bit).filter(|_| bit < 32).ok_or_else(|| ConfigurationError::Value {
                field: "masqueradeBit",
                value: bit.to_string(),
                expected: "a number below 32",
            })?,
            masquerade_all: masquerading.masquerade_all,
            local: self.local()?,
            cluster_cidr: if cluster_cidr.is_empty() { config.cluster_cidr } else { cluster_cidr },
            node_ips: bind.filter(|ip| !ip.is_unspecified()).map_or(config.node_ips, |ip| vec![ip]),
            node_ports: self.node_ports()?,
            localhost_node_ports: masquerading.localhost_node_ports.unwrap_or(true),
            healthz,
            metrics,
            shown: self.shown(),
            ..config
        })
    }

    /// As it is in force, in the file's form.
    fn shown(&self) -> Value {
        let given =
            |text: &str, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
        let shown = Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            mode: "nftables".to_owned(),
            healthz_bind_address: given(&self.healthz_bind_address, "0.0.0.0:10256"),
            metrics_bind_address: given(&self.metrics_bind_address, "127.0.0.1:10249"),
            detect_local_mode: given(&self.detect_local_mode, "ClusterCIDR"),
            ..self.clone()
        };
        serde_json::to_value(shown).unwrap_or_default()
    }

    /// The file that says the same, in JSON, which is YAML.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.shown())
    }

    fn local(&self) -> Result<Local, ConfigurationError> {
        let needs = |field: &'static str, value: &str| {
            let unset = || ConfigurationError::Value {
                field,
                value: String::new(),
                expected: "set, as detectLocalMode asks",
            };
            if value.is_empty() { Err(unset()) } else { Ok(value.to_owned()) }
        };
        let detect = &self.detect_local;
        match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => Ok(Local::ClusterCidr),
            "NodeCIDR" => Ok(Local::NodeCidr),
            "BridgeInterface" => {
                Ok(Local::Interface(needs("detectLocal.bridgeInterface", &detect.bridge_interface)?))
            }
            "InterfaceNamePrefix" => Ok(Local::InterfacePrefix(needs(
                "detectLocal.interfaceNamePrefix",
                &detect.interface_name_prefix,
            )?)),
            other => Err(ConfigurationError::Value {
                field: "detectLocalMode",
                value: other.to_owned(),
                expected: "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
            }),
        }
    }

    fn node_ports(&self) -> Result<NodePorts, ConfigurationError> {
        match self.node_port_addresses.as_deref().unwrap_or_default() {
            [] => Ok(NodePorts::Primary),
            [word] if word == "primary" => Ok(NodePorts::Primary),
            cidrs => {
                Ok(NodePorts::Networks(networks("nodePortAddresses", cidrs.iter().map(String::as_str))?))
            }
        }
    }

    /// The limits of the kernel's connection tracker, with upstream's defaults; zero leaves one as it is.
    pub fn conntrack(&self) -> Result<net::conntrack::Limits, ConfigurationError> {
        let conntrack = &self.conntrack;
        let seconds = |field, text: &Option<String>, default: Option<u64>| match text {
            None => Ok(default),
            Some(text) => {
                let duration = duration(text).ok_or_else(|| ConfigurationError::Value {
                    field,
                    value: text.clone(),
                    expected: "a duration such as 1h30m",
                })?;
                Ok(Some(duration.as_secs()).filter(|seconds| *seconds > 0))
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let per_core = conntrack.max_per_core.unwrap_or(32_768);
        let most = per_core.saturating_mul(cores).max(conntrack.min.unwrap_or(131_072));
        Ok(net::conntrack::Limits {
            entries: (per_core > 0).then_some(most),
            tcp_established: seconds(
                "conntrack.tcpEstablishedTimeout",
                &conntrack.tcp_established_timeout,
                Some(24 * 3600),
            )?,
            tcp_close_wait: seconds(
                "conntrack.tcpCloseWaitTimeout",
                &conntrack.tcp_close_wait_timeout,
                Some(3600),
            )?,
            udp: seconds("conntrack.udpTimeout", &conntrack.udp_timeout, None)?,
            udp_stream: seconds("conntrack.udpStreamTimeout", &conntrack.udp_stream_timeout, None)?,
            tcp_be_liberal: conntrack.tcp_be_liberal,
        })
    }
}

fn networks<'a>(
    field: &'static str,
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<IpNet>, ConfigurationError> {
    let bad = |value: &str| ConfigurationError::Value {
        field,
        value: value.to_owned(),
        expected: "a network such as 10.244.0.0/16",
    };
    texts.filter(|text| !text.is_empty()).map(|text| text.parse().map_err(|_| bad(text))).collect()
}

fn optional_ip(field: &'static str, text: &str) -> Result<Option<IpAddr>, ConfigurationError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| ConfigurationError::Value { field, value: text.to_owned(), expected: "an address" };
    text.parse().map(Some).map_err(bad)
}

/// An address, with or without a port; none when the port is 0.
fn address(
    field: &'static str,
    text: &str,
    default: [u8; 4],
    port: u16,
) -> Result<Option<SocketAddr>, ConfigurationError> {
    let default: IpAddr = Ipv4Addr::from(default).into();
    let address = match text {
        "" => SocketAddr::new(default, port),
        text => {
            let with_port = text.parse::<SocketAddr>().ok();
            let alone = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
            let only_port =
                || text.strip_prefix(':')?.parse().ok().map(|port| SocketAddr::new(default, port));
            with_port.or_else(alone).or_else(only_port).ok_or_else(|| ConfigurationError::Value {
                field,
                value: text.to_owned(),
                expected: "an address, with or without a port",
            })?
        }
    };
    Ok(Some(address).filter(|address| address.port() != 0))
}

/// A duration as Go writes it: `1h30m`, `90s`, `100ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest == "0" {
        return Some(total);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let scale = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> KubeProxyConfiguration {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{fields}");
        KubeProxyConfiguration::parse(&text).expect("a configuration")
    }

    /// As kubeadm writes it into the ConfigMap `kube-proxy`.
    const KUBEADM: &str = r#"
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd44::/48
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: 2h, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false}
logging: {flushFrequency: 0, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false}
"#;

    #[test]
    fn kubeadms_file() {
        let read = read(KUBEADM);
        let unknown: Vec<&String> =
            read.unknown.keys().filter(|field| !WITHOUT_MEANING.contains(&field.as_str())).collect();
        assert_eq!(unknown, Vec::<&String>::new());
        assert_eq!(read.client_connection.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
        let config = read.apply(Config::default()).expect("a configuration");
        assert_eq!(config.healthz, Some("0.0.0.0:10256".parse().expect("address")));
        assert_eq!(config.metrics, Some("127.0.0.1:10249".parse().expect("address")));
        assert_eq!(config.cluster_cidr.len(), 2);
        assert_eq!((config.mark, config.masquerade_all, config.local), (0x4000, false, Local::ClusterCidr));
        assert_eq!(config.node_ports, NodePorts::Primary);
        let limits = read.conntrack().expect("limits");
        assert_eq!(
            (limits.tcp_established, limits.udp, limits.tcp_close_wait),
            (Some(7200), None, Some(3600))
        );
    }

    #[test]
    fn fields() {
        let config = |fields| read(fields).apply(Config::default());
        let is = config(
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: br0}\nnftables: {masqueradeAll: true, \
             masqueradeBit: 3}\nnodePortAddresses: [10.0.0.0/8]\nhealthzBindAddress: ':0'\nmetricsBindAddress: '[::]:9'",
        )
        .expect("a configuration");
        assert_eq!(is.local, Local::Interface("br0".to_owned()));
        assert_eq!((is.mark, is.masquerade_all, is.healthz), (8, true, None));
        assert_eq!(is.metrics, Some("[::]:9".parse().expect("address")));
        assert_eq!(is.node_ports, NodePorts::Networks(vec!["10.0.0.0/8".parse().expect("net")]));
        for (bad, named) in [
            ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface"),
            ("detectLocalMode: Nearby", "detectLocalMode"),
            ("clusterCIDR: 10.0.0.0", "clusterCIDR"),
            ("nftables: {masqueradeBit: 32}", "masqueradeBit"),
            ("healthzBindAddress: here", "healthzBindAddress"),
            ("nodePortAddresses: [primary, 10.0.0.0/8]", "nodePortAddresses"),
        ] {
            let error = config(bad).expect_err(bad).to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(read("conntrack: {udpTimeout: soon}").conntrack().is_err());
        assert!(KubeProxyConfiguration::parse("kind: KubeletConfiguration").is_err());
    }
}
