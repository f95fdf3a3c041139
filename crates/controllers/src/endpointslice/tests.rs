use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde_json::{Value, json};

use super::build::groups;
use super::reconcile::{Changes, Kept, reconcile};
use crate::kit::meta;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}}, "spec": spec})).unwrap()
}

fn pod(name: &str, ip: &str, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"nodeName": "n", "hostname": name, "subdomain": "web", "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [
            {"type": "Ready", "status": if ready {"True"} else {"False"}}]},
    }))
    .unwrap()
}

fn simple() -> Service {
    service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}))
}

fn change(service: &Service, pods: Vec<Pod>, existing: &[Arc<EndpointSlice>]) -> Changes {
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let labels = service.metadata.labels.as_ref();
    let kept = Kept { service, manager: super::MANAGER, labels, trigger: None };
    reconcile(&kept, groups(service, &pods, |_| None), existing)
}

fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap()
}

fn stored(slices: Vec<EndpointSlice>) -> Vec<Arc<EndpointSlice>> {
    let name = |(at, mut slice): (usize, EndpointSlice)| {
        slice.metadata.name.get_or_insert(format!("web-{at}"));
        Arc::new(slice)
    };
    slices.into_iter().enumerate().map(name).collect()
}

#[test]
fn conditions_follow_readiness_and_termination() {
    let check = |publish: bool, ready: bool, terminating: bool, expected: [bool; 3]| {
        let mut pod = pod("a", "10.0.0.1", ready);
        if terminating {
            pod.metadata.deletion_timestamp = Some(meta::now());
        }
        let mut service = simple();
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(publish);
        let changes = change(&service, vec![pod], &[]);
        let conditions = endpoints(&changes.create[0])[0].conditions.clone().unwrap();
        let found = [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap);
        assert_eq!(found, expected, "publish {publish} ready {ready} terminating {terminating}");
    };
    check(false, true, false, [true, true, false]);
    check(false, false, false, [false, false, false]);
    check(false, true, true, [false, true, true]);
    check(false, false, true, [false, false, true]);
    check(true, true, true, [true, true, true]);
}

#[test]
fn a_slice_tells_pod_node_port_and_service() {
    let changes = change(&simple(), vec![pod("a", "10.0.0.1", true)], &[]);
    let slice = serde_json::to_value(&changes.create[0]).unwrap();
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    assert_eq!(slice["metadata"]["labels"]["team"], "a");
    assert_eq!(slice["metadata"]["generateName"], "web-");
    assert_eq!(slice["ports"], json!([{"name": "", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(
        slice["endpoints"][0]["targetRef"],
        json!({"kind": "Pod", "name": "a", "namespace": "ns", "uid": "a"})
    );
    assert_eq!(slice["endpoints"][0]["hostname"], "a");
    assert_eq!(slice["endpoints"][0]["nodeName"], "n");
}

#[test]
fn named_ports_that_differ_make_two_slices() {
    let mut other = pod("b", "10.0.0.2", true);
    other.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 9090;
    let changes = change(&simple(), vec![pod("a", "10.0.0.1", true), other], &[]);
    assert_eq!(changes.create.len(), 2);
}

#[test]
fn finished_pods_and_pods_without_address_are_no_endpoints() {
    let mut finished = pod("a", "10.0.0.1", true);
    finished.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let mut starting = pod("b", "10.0.0.2", false);
    starting.status.as_mut().unwrap().pod_ips = None;
    let changes = change(&simple(), vec![finished, starting], &[]);
    assert_eq!(changes.create.len(), 1, "a placeholder");
    assert!(endpoints(&changes.create[0]).is_empty());
}

#[test]
fn only_slices_that_differ_are_touched() {
    let pods = |count: usize| {
        (0..count)
            .map(|n| pod(&format!("p{n:03}"), &format!("10.0.{}.{}", n / 200, n % 200 + 1), true))
            .collect::<Vec<_>>()
    };
    let changes = change(&simple(), pods(250), &[]);
    let sizes: Vec<_> = changes.create.iter().map(|slice| endpoints(slice).len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let existing = stored(changes.create);

    let none = change(&simple(), pods(250), &existing);
    assert!(none.create.is_empty() && none.update.is_empty() && none.delete.is_empty(), "{none:?}");

    let mut one_lost = pods(250);
    one_lost[120] = pod("p120", "10.0.0.121", false);
    let one = change(&simple(), one_lost, &existing);
    assert_eq!((one.create.len(), one.update.len(), one.delete.len()), (0, 1, 0));

    let more = change(&simple(), pods(260), &existing);
    assert_eq!((more.create.len(), more.update.len(), more.delete.len()), (0, 1, 0));

    let fewer = change(&simple(), pods(100), &existing);
    assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 0, 2));

    let nothing = change(&simple(), Vec::new(), &existing);
    assert_eq!(
        (nothing.create.len(), nothing.update.len(), nothing.delete.len()),
        (0, 1, 2),
        "one stays, empty"
    );
}

#[test]
fn dual_stack_services_have_slices_of_both_families() {
    let service =
        service(json!({"selector": {"app": "web"}, "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}]}));
    let changes = change(&service, vec![pod("a", "10.0.0.1", true)], &[]);
    let mut types: Vec<_> =
        changes.create.iter().map(|slice| (slice.address_type.clone(), endpoints(slice).len())).collect();
    types.sort();
    assert_eq!(types, [("IPv4".into(), 1), ("IPv6".into(), 0)]);
}
