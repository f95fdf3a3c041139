//! Finding a network for a cluster's nodes, and refusing networks that clash.

use net::{IpNet, Ipv4Net, segment};

/// A network cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SubnetError {
    #[error(transparent)]
    Kernel(#[from] net::Error),
    #[error("{text:?} is not a network such as 198.19.0.0/24")]
    Malformed { text: String },
    #[error("the {one} {a} and the {other} {b} overlap; choose another")]
    Clash { one: &'static str, a: IpNet, other: &'static str, b: IpNet },
    #[error(
        "the nodes' network {wanted} overlaps {taken}, to which this machine has a route; choose another with --subnet"
    )]
    Taken { wanted: Ipv4Net, taken: Ipv4Net },
    #[error("the nodes' network {wanted} has no room for {nodes} nodes; choose a larger one with --subnet")]
    Small { wanted: Ipv4Net, nodes: usize },
    #[error("every network of 198.19.0.0/16 is in use; choose one with --subnet")]
    None,
}

/// The network that was asked for, or one that is free: of those that are kept for tests of networks (RFC 2544), which
/// no other machine has.
pub fn choose(wanted: Option<&str>, nodes: usize) -> Result<Ipv4Net, SubnetError> {
    let taken = segment::networks()?;
    let overlapping = |net: &Ipv4Net| {
        taken.iter().copied().find(|other| other.contains(&net.network()) || net.contains(&other.network()))
    };
    let Some(text) = wanted else {
        let mut free = (0..=255u8).filter_map(|third| Ipv4Net::new([198, 19, third, 0].into(), 24).ok());
        return free.find(|net| overlapping(net).is_none()).ok_or(SubnetError::None);
    };
    let malformed = || SubnetError::Malformed { text: text.to_owned() };
    let net: Ipv4Net = text.parse().map_err(|_| malformed())?;
    let net = net.trunc();
    // Its own name, the bridge, the broadcast.
    if net.hosts().count() < nodes.saturating_add(1) {
        return Err(SubnetError::Small { wanted: net, nodes });
    }
    match overlapping(&net) {
        Some(taken) => Err(SubnetError::Taken { wanted: net, taken }),
        None => Ok(net),
    }
}

/// The networks of a cluster may not overlap.
pub fn check_apart(networks: &[(&'static str, &str)]) -> Result<(), SubnetError> {
    let mut known: Vec<(&'static str, IpNet)> = Vec::new();
    for (what, text) in networks {
        for part in text.split(',') {
            let net: IpNet = part.parse().map_err(|_| SubnetError::Malformed { text: part.to_owned() })?;
            let overlaps = |other: &IpNet| other.contains(&net.network()) || net.contains(&other.network());
            if let Some((other, b)) = known.iter().find(|(_, other)| overlaps(other)) {
                return Err(SubnetError::Clash { one: what, a: net, other, b: *b });
            }
            known.push((what, net));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_overlap_are_refused() {
        let check =
            |pods: &str, services: &str| check_apart(&[("pod network", pods), ("Service network", services)]);
        check("10.244.0.0/16", "10.96.0.0/16").unwrap();
        let error = check("10.244.0.0/16", "10.240.0.0/12").unwrap_err().to_string();
        assert!(error.contains("10.240.0.0/12") && error.contains("10.244.0.0/16"), "{error}");
        assert!(check("10.244.0.0/16,10.244.1.0/24", "10.96.0.0/16").is_err());
        assert!(check("pods", "10.96.0.0/16").is_err());
    }

    #[test]
    fn a_network_has_room() {
        assert!(matches!(choose(Some("198.19.7.0/30"), 3), Err(SubnetError::Small { .. })));
        assert!(matches!(choose(Some("x"), 1), Err(SubnetError::Malformed { .. })));
    }
}
