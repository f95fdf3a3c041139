//! The sandbox configuration of a pod: names, DNS, ports, cgroup, namespaces.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::resources::{quota, shares};
use super::{qos, security};
use crate::cri::view::keys;
use crate::pod::ext::PodExt;
use crate::users::Block;

/// The kernel's bound on host names.
const HOSTNAME_MAX: usize = 63;

const FQDN_MAX: usize = 64;
/// What resolvers read of a `resolv.conf`.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

/// What sandboxes take from the node.
pub struct Cluster<'a> {
    pub dns: &'a [IpAddr],
    pub domain: &'a str,
    /// The node's own resolver configuration.
    pub host: &'a cri::DnsConfig,
}

pub fn config(
    pod: &Pod,
    attempt: u32,
    cluster: &Cluster<'_>,
    log_directory: &Path,
    cgroup_parent: &str,
    block: Option<Block>,
) -> cri::PodSandboxConfig {
    let spec = pod.pod_spec();
    let requests = qos::requests(spec);
    let limits = qos::limits(spec);
    let quota = quota(limits.get("cpu"));
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.clone());
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname: if pod.host_network() { String::new() } else { hostname(pod, cluster.domain) },
        log_directory: log_directory.display().to_string(),
        dns_config: Some(dns(pod, cluster)),
        port_mappings: ports(spec),
        labels: labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(security::sandbox(pod, block)),
            sysctls: sysctls
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value))
                .collect(),
            overhead: None,
            resources: Some(cri::LinuxContainerResources {
                cpu_period: quota.map_or(0, |_| 100_000),
                cpu_quota: quota.unwrap_or(0),
                cpu_shares: shares(requests.get("cpu")),
                memory_limit_in_bytes: limits.get("memory"),
                ..Default::default()
            }),
        }),
        windows: None,
    }
}

/// The pod's labels, under upstream's identifying ones.
pub fn labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    for (key, value) in
        [(keys::POD_NAME, pod.name()), (keys::POD_NAMESPACE, pod.namespace()), (keys::POD_UID, pod.uid())]
    {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

fn ports(spec: &PodSpec) -> Vec<cri::PortMapping> {
    if spec.host_network == Some(true) {
        return Vec::new();
    }
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.unwrap_or(0) > 0)
        .map(|port| cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// `hostnameOverride`, `hostname` or the pod's name, cut to what the kernel takes.
pub fn short_hostname(pod: &Pod) -> String {
    let spec = pod.pod_spec();
    let name = match (&spec.hostname_override, &spec.hostname) {
        (Some(name), _) if !name.is_empty() => return name.clone(),
        (_, Some(name)) if !name.is_empty() => name,
        _ => pod.name(),
    };
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// `subdomain.namespace.svc.domain`, for a pod with a subdomain.
pub fn domain_name(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let spec = pod.pod_spec();
    // Whoever has chosen the whole name has no other.
    let chosen = spec.hostname_override.as_deref().is_some_and(|name| !name.is_empty());
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty() && !chosen)?;
    Some(format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()))
}

/// The whole name has to fit into what the kernel takes.
pub fn check_hostname(pod: &Pod, cluster_domain: &str) -> Result<(), String> {
    let name = hostname(pod, cluster_domain);
    if pod.pod_spec().set_hostname_as_fqdn == Some(true) && name.len() > FQDN_MAX {
        return Err(format!(
            "Failed to construct FQDN from Pod hostname and cluster domain, FQDN {name} is too long ({FQDN_MAX} characters is the max, {} characters requested)",
            name.len()
        ));
    }
    Ok(())
}

fn hostname(pod: &Pod, cluster_domain: &str) -> String {
    let short = short_hostname(pod);
    match domain_name(pod, cluster_domain) {
        Some(domain) if pod.pod_spec().set_hostname_as_fqdn == Some(true) => {
            format!("{short}.{domain}")
        }
        _ => short,
    }
}

/// What goes into the pod's `resolv.conf`, by `dnsPolicy`, with `dnsConfig` on top.
fn dns(pod: &Pod, cluster: &Cluster<'_>) -> cri::DnsConfig {
    let spec = pod.pod_spec();
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" if pod.host_network() => "Default",
        "ClusterFirstWithHostNet" => "ClusterFirst",
        policy => policy,
    };
    let mut dns = match policy {
        "None" => cri::DnsConfig::default(),
        "ClusterFirst" if !cluster.dns.is_empty() => {
            let mut searches = vec![
                format!("{}.svc.{}", pod.namespace(), cluster.domain),
                format!("svc.{}", cluster.domain),
                cluster.domain.to_owned(),
            ];
            searches.extend(cluster.host.searches.iter().cloned());
            cri::DnsConfig {
                servers: cluster.dns.iter().map(IpAddr::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        _ => cluster.host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        dns.servers.extend(own.nameservers.clone().unwrap_or_default());
        dns.searches.extend(own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let text = match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            dns.options.retain(|known| known.split(':').next() != Some(name.as_str()));
            dns.options.push(text);
        }
    }
    let mut seen = std::collections::HashSet::new();
    dns.servers.retain(|server| seen.insert(server.clone()));
    let mut seen = std::collections::HashSet::new();
    dns.searches.retain(|search| seen.insert(search.clone()));
    dns.servers.truncate(NAMESERVERS_MAX);
    dns.searches.truncate(SEARCHES_MAX);
    let mut left = SEARCH_CHARACTERS_MAX + 1;
    // Each takes a space, too.
    let mut fits = |search: &String| {
        search.len() < left && {
            left -= search.len() + 1;
            true
        }
    };
    let count = dns.searches.iter().take_while(|search| fits(search)).count();
    dns.searches.truncate(count);
    dns
}

/// Reads a `resolv.conf`.
pub fn parse_resolv_conf(text: &str) -> cri::DnsConfig {
    let mut dns = cri::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                dns.searches = words
                    .map(|word| word.trim_end_matches('.').to_owned())
                    .filter(|word| !word.is_empty())
                    .collect();
            }
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

/// The pod's `/etc/hosts`.
pub fn hosts(pod: &Pod, pod_ips: &[String], cluster_domain: &str, node_hosts: Option<&str>) -> String {
    let spec = pod.pod_spec();
    let mut text = match node_hosts {
        Some(node) => format!("# Kubernetes-managed hosts file (host network).\n{node}"),
        None => {
            let mut text = String::from(
                "# Kubernetes-managed hosts file.\n\
                 127.0.0.1\tlocalhost\n\
                 ::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::\tip6-localnet\n\
                 fe00::\tip6-mcastprefix\n\
                 fe00::1\tip6-allnodes\n\
                 fe00::2\tip6-allrouters\n",
            );
            let short = short_hostname(pod);
            for ip in pod_ips {
                match domain_name(pod, cluster_domain) {
                    Some(domain) => text.push_str(&format!("{ip}\t{short}.{domain}\t{short}\n")),
                    None => text.push_str(&format!("{ip}\t{short}\n")),
                }
            }
            text
        }
    };
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "web-0", "namespace": "shop", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    fn dns_of(spec: serde_json::Value) -> cri::DnsConfig {
        let host = parse_resolv_conf("nameserver 9.9.9.9\nsearch corp.example.\noptions edns0\n");
        let cluster = Cluster { dns: &["10.96.0.10".parse().unwrap()], domain: "cluster.local", host: &host };
        dns(&pod(spec), &cluster)
    }

    #[test]
    fn dns_policies() {
        let own = dns_of(json!({"containers": []}));
        assert_eq!(own.servers, ["10.96.0.10"]);
        assert_eq!(
            own.searches,
            ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]
        );
        assert_eq!(own.options, ["ndots:5"]);
        assert_eq!(dns_of(json!({"containers": [], "dnsPolicy": "Default"})).servers, ["9.9.9.9"]);
        assert_eq!(dns_of(json!({"containers": [], "hostNetwork": true})).servers, ["9.9.9.9"]);
        assert_eq!(
            dns_of(json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}))
                .servers,
            ["10.96.0.10"]
        );
        let none = dns_of(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "debug"}]}}));
        assert_eq!((none.servers.len(), none.options), (1, vec!["ndots:2".into(), "debug".into()]));
    }

    #[test]
    fn what_resolvers_do_not_read_is_left_out() {
        let servers: Vec<String> = (1..6).map(|last| format!("1.1.1.{last}")).collect();
        let searches: Vec<String> = (0..40).map(|number| format!("{number}.{}", "x".repeat(100))).collect();
        let dns = dns_of(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": servers, "searches": searches}}));
        assert_eq!(dns.servers, ["1.1.1.1", "1.1.1.2", "1.1.1.3"]);
        let characters = dns.searches.join(" ").len();
        assert!((1900..=2048).contains(&characters), "{characters}");
    }

    #[test]
    fn a_whole_name_has_to_fit() {
        let check = |hostname: &str, whole: bool, ok: bool| {
            let pod = pod(
                json!({"containers": [], "hostname": hostname, "subdomain": "sub", "setHostnameAsFQDN": whole}),
            );
            assert_eq!(check_hostname(&pod, "cluster.local").is_ok(), ok, "{hostname}");
        };
        check("short", true, true);
        check(&"x".repeat(60), false, true);
        check(&"x".repeat(60), true, false);
    }

    #[test]
    fn hosts_file() {
        let pod = pod(
            json!({"containers": [], "subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let text = hosts(&pod, &["10.244.0.9".into()], "cluster.local", None);
        assert!(text.contains("10.244.0.9\tweb-0.db.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
    }
}
