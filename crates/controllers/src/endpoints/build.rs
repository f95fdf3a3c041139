//! The Endpoints object of a Service: what EndpointSlices tell, in the older form. Free of IO.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpointslice::build::{self, Ports};
use crate::kit::{meta, pods};

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses that one object holds at most.
const MOST: usize = 1000;

/// `current` is the object as it is: what others have annotated it with stays.
pub fn endpoints(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Endpoints {
    let (subsets, truncated) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    if build::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    let mut metadata = current.map_or_else(
        || ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            ..Default::default()
        },
        |current| current.metadata.clone(),
    );
    metadata.labels = Some(labels);
    let annotations = metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) }
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let publish_not_ready =
        service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let family = build::address_types(service).into_iter().next().unwrap_or("IPv4");
    let mut by_ports: BTreeMap<_, EndpointSubset> = BTreeMap::new();
    let mut count = 0;
    for pod in pods {
        let Some(ip) = address(pod, family) else { continue };
        if pods::is_finished(pod) || (meta::is_terminating(&**pod) && !publish_not_ready) {
            continue;
        }
        count += 1;
        if count > MOST {
            break;
        }
        let ports = build::ports(service, pod);
        let key = ports.key();
        let subset = by_ports
            .entry(key)
            .or_insert_with(|| EndpointSubset { ports: plain(ports), ..Default::default() });
        let address = EndpointAddress {
            ip,
            hostname: build::hostname(service, pod),
            node_name: pods::node_name(pod).map(str::to_owned),
            target_ref: Some(build::pod_reference(pod)),
        };
        let ready = publish_not_ready || pods::is_ready(pod);
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    (by_ports.into_values().collect(), count > MOST)
}

fn address(pod: &Pod, family: &str) -> Option<String> {
    let ips = pod.status.as_ref()?.pod_ips.as_ref()?;
    let fits = |ip: &str| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == (family == "IPv4"));
    ips.iter().find(|ip| fits(&ip.ip)).map(|ip| ip.ip.clone())
}

fn plain(ports: Ports) -> Option<Vec<EndpointPort>> {
    let ports: Vec<_> = ports
        .0
        .into_iter()
        .map(|port| EndpointPort {
            name: port.name.filter(|name| !name.is_empty()),
            port: port.port.unwrap_or(0),
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        })
        .collect();
    (!ports.is_empty()).then_some(ports)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_and_other_addresses_are_told_apart() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}))
        .unwrap();
        let pod = |name: &str, ip: &str, ready: &str| -> Arc<Pod> {
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"containers": [], "nodeName": "n"},
                "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap())
        };
        let endpoints =
            endpoints(&service, &[pod("a", "10.0.0.1", "True"), pod("b", "10.0.0.2", "False")], None);
        let value = serde_json::to_value(&endpoints.subsets).unwrap();
        let target = |name: &str| json!({"kind": "Pod", "name": name, "namespace": "ns", "uid": name});
        assert_eq!(
            value,
            json!([{
                "addresses": [{"ip": "10.0.0.1", "nodeName": "n", "targetRef": target("a")}],
                "notReadyAddresses": [{"ip": "10.0.0.2", "nodeName": "n", "targetRef": target("b")}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            }])
        );
    }
}
