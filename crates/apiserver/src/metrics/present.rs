//! What is there at the moment of asking: requests in work, stored objects, extension servers.

use std::fmt::Write;

use crate::aggregation;
use crate::state::State;

/// `sizes` of the members of the store.
pub fn text(state: &State, sizes: &[Option<u64>]) -> String {
    let mut text = String::new();
    in_flight(state, &mut text);
    storage(state, sizes, &mut text);
    objects(state, &mut text);
    extensions(state, &mut text);
    text
}

// Writing to a string cannot fail.
fn in_flight(state: &State, text: &mut String) {
    let (reading, writing) = state.in_flight.now();
    let _ = writeln!(
        text,
        "# HELP apiserver_current_inflight_requests Maximal number of currently used inflight request limit of this apiserver per request kind in last second\n\
         # TYPE apiserver_current_inflight_requests gauge\n\
         apiserver_current_inflight_requests{{request_kind=\"readOnly\"}} {reading}\n\
         apiserver_current_inflight_requests{{request_kind=\"mutating\"}} {writing}"
    );
}

fn storage(state: &State, sizes: &[Option<u64>], text: &mut String) {
    text.push_str(
        "# HELP apiserver_storage_size_bytes Size of the storage database file physically allocated in bytes.\n\
         # TYPE apiserver_storage_size_bytes gauge\n",
    );
    for (number, bytes) in sizes.iter().enumerate() {
        let Some(bytes) = bytes else { continue };
        let cluster = if state.store.is_shared() { format!("etcd-{number}") } else { "embedded".to_owned() };
        let _ = writeln!(text, "apiserver_storage_size_bytes{{storage_cluster_id={cluster:?}}} {bytes}");
    }
}

fn objects(state: &State, text: &mut String) {
    text.push_str(
        "# HELP apiserver_storage_objects Number of stored objects at the time of last check split by kind\n\
         # TYPE apiserver_storage_objects gauge\n",
    );
    let resources = state.caches.resources();
    let mut counts: Vec<(&str, &str, usize)> = resources
        .iter()
        .flat_map(|(group, of_group)| {
            of_group.iter().map(move |(plural, cache)| (&**group, &**plural, cache.len()))
        })
        .collect();
    counts.sort();
    for (group, resource, count) in &counts {
        let name = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
        let _ = writeln!(text, "apiserver_storage_objects{{resource={name:?}}} {count}");
    }
    text.push_str(
        "# HELP apiserver_resource_objects Number of stored objects at the time of last check split by kind\n\
         # TYPE apiserver_resource_objects gauge\n",
    );
    for (group, resource, count) in &counts {
        let _ = writeln!(text, "apiserver_resource_objects{{group={group:?},resource={resource:?}}} {count}");
    }
}

fn extensions(state: &State, text: &mut String) {
    text.push_str(
        "# HELP aggregator_unavailable_apiservice Gauge of APIServices which are marked as unavailable broken down by APIService name.\n\
         # TYPE aggregator_unavailable_apiservice gauge\n",
    );
    let services = state.caches.resource(aggregation::GROUP, aggregation::PLURAL);
    services.scan("", "", |object| {
        let value = object.value();
        let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
        let available = conditions.find(|condition| condition["type"] == "Available");
        let unavailable = u8::from(available.is_none_or(|condition| condition["status"] != "True"));
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let _ = writeln!(text, "aggregator_unavailable_apiservice{{name={name:?}}} {unavailable}");
        true
    });
}
