//! Shares the endpoints of a Service out to zones by the size of the zones, where the Service asks for that
//! (`service.kubernetes.io/topology-mode: Auto`): each zone is served from within, unless that would overload it.
//! Free of IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForZone};

use super::build::{Group, ZONE_LABEL};
use crate::kit::meta;

const MODE: &str = "service.kubernetes.io/topology-mode";
const OLD_MODE: &str = "service.kubernetes.io/topology-aware-hints";
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// So much more than its share the endpoints of a zone may have to bear.
const OVERLOAD: f64 = 0.2;

/// Whether a Service asks for this.
pub fn is_asked(service: &Service) -> bool {
    let mode = meta::annotation(service, MODE).or(meta::annotation(service, OLD_MODE));
    matches!(mode, Some("Auto" | "auto"))
}

/// What of a node decides about shares.
pub fn part(node: &Node) -> Option<(String, i64)> {
    let labels = node.metadata.labels.as_ref();
    let has = |label: &&str| labels.is_some_and(|labels| labels.contains_key(*label));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    if !ready || CONTROL_PLANE.iter().any(has) {
        return None;
    }
    let zone = labels.and_then(|labels| labels.get(ZONE_LABEL)).cloned().unwrap_or_default();
    let cpu = node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get("cpu"));
    let cpu = cpu.and_then(|cpu| Quantity::parse(&cpu.0).ok()).map_or(0, |cpu| cpu.milli_value());
    Some((zone, cpu))
}

/// The share of each zone in all processors of the cluster.
fn shares(nodes: &[Arc<Node>]) -> Result<BTreeMap<String, f64>, &'static str> {
    let mut zones: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.iter().filter_map(|node| part(node)) {
        if zone.is_empty() || cpu <= 0 {
            return Err("One or more nodes do not have allocatable CPU or a zone label");
        }
        *zones.entry(zone).or_default() += cpu;
    }
    if zones.len() < 2 {
        return Err("Nodes only ready in one zone");
    }
    let total: i64 = zones.values().sum();
    Ok(zones.into_iter().map(|(zone, cpu)| (zone, cpu as f64 / total as f64)).collect())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

/// Gives the ready endpoints of one address family their hints; or says why there can be none.
pub fn give_hints(groups: &mut [Group], nodes: &[Arc<Node>]) -> Result<(), String> {
    let shares = shares(nodes)?;
    let mut ready: Vec<&mut Endpoint> = groups
        .iter_mut()
        .flat_map(|group| &mut group.endpoints)
        .filter(|endpoint| is_ready(endpoint))
        .collect();
    if ready.iter().any(|endpoint| endpoint.zone.is_none()) {
        return Err("Endpoint found without zone specified".to_owned());
    }
    let count = ready.len() as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count; `as` saturates"
    )]
    let least: BTreeMap<&String, usize> = shares
        .iter()
        .map(|(zone, share)| (zone, (count * share / (1.0 + OVERLOAD)).ceil() as usize))
        .collect();
    if least.values().sum::<usize>() > ready.len() {
        let count = ready.len();
        return Err(format!(
            "Insufficient number of endpoints ({count}), impossible to safely allocate proportionally"
        ));
    }

    // Each stays in its zone; what a zone lacks comes from whichever has most beyond its share.
    let mut zones: Vec<String> =
        ready.iter().map(|endpoint| endpoint.zone.clone().unwrap_or_default()).collect();
    let held = |zones: &[String], zone: &String| zones.iter().filter(|of| *of == zone).count();
    for (zone, least) in &least {
        while held(&zones, zone) < *least {
            let surplus =
                |zone: &String| held(&zones, zone) as f64 - count * shares.get(zone).copied().unwrap_or(0.0);
            let giver = (0..zones.len()).filter(|at| zones.get(*at) != Some(*zone)).max_by(|a, b| {
                let of = |at: &usize| zones.get(*at).map_or(f64::MIN, surplus);
                of(a).total_cmp(&of(b))
            });
            match giver.and_then(|at| zones.get_mut(at)) {
                Some(given) => *given = (*zone).clone(),
                None => break,
            }
        }
    }
    for (endpoint, zone) in ready.iter_mut().zip(zones) {
        endpoint.hints =
            Some(EndpointHints { for_zones: Some(vec![ForZone { name: zone }]), ..Default::default() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::build::Ports;
    use super::*;

    fn node(zone: &str, cpu: &str) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": zone, "labels": {ZONE_LABEL: zone}}, "status": {
                "allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]}}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn zones_get_their_shares() {
        let check = |nodes: &[(&str, &str)], endpoints: &[&str], expected: Option<&[&str]>| {
            let nodes: Vec<_> = nodes.iter().map(|(zone, cpu)| node(zone, cpu)).collect();
            let endpoints =
                endpoints.iter().map(|zone| Endpoint { zone: Some((*zone).into()), ..Default::default() });
            let group =
                Group { address_type: "IPv4", ports: Ports::default(), endpoints: endpoints.collect() };
            let mut groups = [group];
            let given = give_hints(&mut groups, &nodes).ok().map(|()| {
                let hint = |endpoint: &Endpoint| {
                    endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap()[0].name.clone()
                };
                groups[0].endpoints.iter().map(hint).collect::<Vec<_>>()
            });
            assert_eq!(given, expected.map(|zones| zones.iter().map(|zone| (*zone).to_owned()).collect()));
        };
        let even = [("a", "2"), ("b", "2")];
        check(&even, &["a", "b"], Some(&["a", "b"]));
        check(&even, &["a", "a", "a", "b"], Some(&["a", "a", "b", "b"]));
        check(&even, &["a"], None);
        check(&[("a", "2")], &["a", "a"], None);
        check(&[("a", "2"), ("", "2")], &["a", "a"], None);
        check(&[("a", "6"), ("b", "2")], &["a", "a", "b", "b"], Some(&["a", "a", "b", "a"]));
    }
}
