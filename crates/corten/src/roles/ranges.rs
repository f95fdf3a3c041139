//! The networks that a cluster is told of: of Services and of pods, one or one of each family.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use net::IpNet;

use crate::cli::ClusterArgs;

/// The networks of a flag, in its order.
pub fn parse(flag: &str, text: &str) -> Result<Vec<IpNet>> {
    let parse = |part: &str| {
        let network: Result<IpNet, _> = part.trim().parse();
        network.with_context(|| format!("--{flag}: {part:?} is not a network such as 10.96.0.0/12"))
    };
    let networks: Vec<IpNet> = text.split(',').map(parse).collect::<Result<_>>()?;
    let one_of_each = networks.len() <= 2
        && networks.iter().filter(|net| is_ipv6(net)).count() <= 1
        && networks.iter().filter(|net| !is_ipv6(net)).count() <= 1;
    ensure!(one_of_each, "--{flag}: {text:?} is neither one network nor one of each family");
    Ok(networks)
}

pub fn is_ipv6(net: &IpNet) -> bool {
    net.addr().is_ipv6()
}

/// The addresses that Services of the network may have, in their order.
pub fn addresses(net: &IpNet) -> impl Iterator<Item = IpAddr> {
    let network = net.network();
    net.hosts().filter(move |ip| *ip != network)
}

/// Networks and addresses that do not go together are refused before anything is written. The cluster DNS is given the
/// tenth address of the first network of Services where the usual one is none of theirs.
pub fn settle(args: &mut ClusterArgs) -> Result<()> {
    let services = parse("service-cluster-ip-range", &args.service_cluster_ip_range)?;
    let pods = parse("cluster-cidr", &args.network.cluster_cidr)?;
    for service in &services {
        let overlaps = |pod: &&IpNet| service.contains(&pod.network()) || pod.contains(&service.network());
        if let Some(pod) = pods.iter().find(overlaps) {
            anyhow::bail!(
                "--service-cluster-ip-range {service} and --cluster-cidr {pod} overlap: an address would be both a Service's and a pod's; choose another for either"
            );
        }
    }
    let dns = args.network.cluster_dns;
    let usual = crate::cli::CLUSTER_DNS.parse::<IpAddr>().is_ok_and(|usual| usual == dns);
    if services.iter().any(|net| net.contains(&dns)) {
        return Ok(());
    }
    ensure!(
        usual,
        "--cluster-dns {dns} is not in --service-cluster-ip-range {}; choose an address of that network",
        args.service_cluster_ip_range
    );
    let first = services.first().context("--service-cluster-ip-range names no network")?;
    args.network.cluster_dns = addresses(first).nth(9).with_context(|| {
        format!("--service-cluster-ip-range {first} is too small for the cluster DNS: it is to have the tenth address")
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        cluster: ClusterArgs,
    }

    fn settled(services: &str, pods: &str, more: &[&str]) -> Result<IpAddr> {
        let (services, pods) =
            (format!("--service-cluster-ip-range={services}"), format!("--cluster-cidr={pods}"));
        let words = ["corten", &services, &pods];
        let mut args = Flags::try_parse_from(words.iter().chain(more))?.cluster;
        settle(&mut args)?;
        Ok(args.network.cluster_dns)
    }

    #[test]
    fn networks_that_go_together() {
        let check = |services: &str, pods: &str, dns: &str| {
            assert_eq!(settled(services, pods, &[]).unwrap().to_string(), dns, "{services} {pods}");
        };
        check("10.96.0.0/12", "10.244.0.0/16", "10.96.0.10");
        check("10.0.0.0/24", "10.244.0.0/16", "10.0.0.10");
        check("fd96::/112,10.96.0.0/16", "fd44::/56,10.244.0.0/16", "10.96.0.10");
        check("fd96::/112", "fd44::/56", "fd96::a");
        assert_eq!(
            settled("10.0.0.0/24", "10.244.0.0/16", &["--cluster-dns=10.0.0.53"]).unwrap().to_string(),
            "10.0.0.53"
        );
    }

    #[test]
    fn networks_that_clash_are_refused_with_their_names() {
        let check = |services: &str, pods: &str, more: &[&str], parts: &[&str]| {
            let error = settled(services, pods, more).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        };
        check("10.96.0.0/12", "10.100.0.0/16", &[], &["10.96.0.0/12", "10.100.0.0/16", "overlap"]);
        check("10.96.0.0/33", "10.244.0.0/16", &[], &["--service-cluster-ip-range", "10.96.0.0/33"]);
        check("10.96.0.0/12,10.0.0.0/24", "10.244.0.0/16", &[], &["one of each family"]);
        check("10.96.0.0/12", "pods", &[], &["--cluster-cidr", "pods"]);
        check("10.0.0.0/24", "10.244.0.0/16", &["--cluster-dns=10.1.0.53"], &["10.1.0.53", "10.0.0.0/24"]);
        check("10.0.0.0/30", "10.244.0.0/16", &[], &["10.0.0.0/30", "too small"]);
    }
}
