//! What is there at the moment of asking: requests in work, stored objects, extension servers.

use exposition::{Page, float};

use crate::aggregation;
use crate::state::State;

/// `sizes` of the members of the store.
pub fn write(state: &State, sizes: &[Option<u64>], page: &mut Page) {
    in_flight(state, page);
    storage(state, sizes, page);
    objects(state, page);
    extensions(state, page);
    features(page);
}

fn in_flight(state: &State, page: &mut Page) {
    let (reading, writing) = state.in_flight.now();
    let name = "apiserver_current_inflight_requests";
    page.family(
        name,
        "gauge",
        "Maximal number of currently used inflight request limit of this apiserver per request kind in last second",
    );
    for (kind, count) in [("readOnly", reading), ("mutating", writing)] {
        page.sample(name, &[("request_kind", kind)], float(count as u64));
    }
}

fn storage(state: &State, sizes: &[Option<u64>], page: &mut Page) {
    let name = "apiserver_storage_size_bytes";
    page.family(name, "gauge", "Size of the storage database file physically allocated in bytes.");
    for (number, bytes) in sizes.iter().enumerate() {
        let Some(bytes) = bytes else { continue };
        let cluster = if state.store.is_shared() { format!("etcd-{number}") } else { "embedded".to_owned() };
        page.sample(name, &[("storage_cluster_id", &cluster)], float(*bytes));
    }
}

fn objects(state: &State, page: &mut Page) {
    const HELP: &str = "Number of stored objects at the time of last check split by kind";
    let resources = state.caches.resources();
    let mut counts: Vec<(&str, &str, usize)> = resources
        .iter()
        .flat_map(|(group, of_group)| {
            of_group.iter().map(move |(plural, cache)| (&**group, &**plural, cache.len()))
        })
        .collect();
    counts.sort();
    page.family("apiserver_storage_objects", "gauge", HELP);
    for (group, resource, count) in &counts {
        let name = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
        page.sample("apiserver_storage_objects", &[("resource", &name)], float(*count as u64));
    }
    page.family("apiserver_resource_objects", "gauge", HELP);
    for (group, resource, count) in &counts {
        let labels = [("group", *group), ("resource", *resource)];
        page.sample("apiserver_resource_objects", &labels, float(*count as u64));
    }
}

fn extensions(state: &State, page: &mut Page) {
    let name = "aggregator_unavailable_apiservice";
    page.family(
        name,
        "gauge",
        "Gauge of APIServices which are marked as unavailable broken down by APIService name.",
    );
    let services = state.caches.resource(aggregation::GROUP, aggregation::PLURAL);
    services.scan("", "", |object| {
        let value = object.value();
        let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
        let available = conditions.find(|condition| condition["type"] == "Available");
        let unavailable = u8::from(available.is_none_or(|condition| condition["status"] != "True"));
        let service = value["metadata"]["name"].as_str().unwrap_or_default();
        page.sample(name, &[("name", service)], f64::from(unavailable));
        true
    });
}

fn features(page: &mut Page) {
    let name = "kubernetes_feature_enabled";
    page.family(
        name,
        "gauge",
        "This metric records the data about the stage and enablement of a k8s feature.",
    );
    for (feature, stage, enabled) in api::version::FEATURES {
        page.sample(name, &[("name", feature), ("stage", stage)], f64::from(u8::from(*enabled)));
    }
}
