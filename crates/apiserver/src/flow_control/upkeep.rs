//! Looks after the FlowSchemas and PriorityLevelConfigurations: puts them in force when they change, keeps the
//! mandatory and the suggested ones as they should be, and tells in a schema's status whether its level exists.

use std::sync::{Arc, Weak};

use api::status::{GroupResource, Status};
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use super::defaults;
use crate::admission::objects::{self, Objects, items};
use crate::bootstrap;
use crate::state::State;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: GroupResource<'static> = GroupResource { group: GROUP, resource: "flowschemas" };
const LEVELS: GroupResource<'static> =
    GroupResource { group: GROUP, resource: "prioritylevelconfigurations" };

/// Makes what is missing, puts what is there in force, and follows it from there.
pub async fn start(state: &Arc<State>) -> Result<(), Status> {
    keep(state).await?;
    put_in_force(state);
    tokio::spawn(run(Arc::downgrade(state)));
    tokio::spawn(state.flow_control.lend());
    Ok(())
}

/// Follows the objects as long as the server lives.
/// As whom upstream does the same.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

async fn run(state: Weak<State>) {
    let Some(first) = state.upgrade() else { return };
    let mut schemas = first.caches.resource(SCHEMAS.group, SCHEMAS.resource).changes();
    let mut levels = first.caches.resource(LEVELS.group, LEVELS.resource).changes();
    drop(first);
    loop {
        schemas.mark_unchanged();
        levels.mark_unchanged();
        let Some(state) = state.upgrade() else { return };
        put_in_force(&state);
        if let Err(status) = keep(&state).await {
            warn!(%status, "cannot keep the FlowSchemas and PriorityLevelConfigurations as they should be");
        }
        drop(state);
        let changed = tokio::select! {
            changed = schemas.changed() => changed,
            changed = levels.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What the cache holds, and of the mandatory objects that are missing, what they will be.
fn put_in_force(state: &State) {
    let stored = |resource, defaults: Vec<Value>| {
        let mut objects: Vec<Value> =
            state.caches.list(resource, "").iter().map(|object| Value::clone(object)).collect();
        for object in defaults {
            let name = objects::name(&object);
            if defaults::is_mandatory(name) && !objects.iter().any(|have| objects::name(have) == name) {
                objects.push(object);
            }
        }
        objects
    };
    state.flow_control.configure(&stored(SCHEMAS, defaults::schemas()), &stored(LEVELS, defaults::levels()));
}

/// Makes what is missing and sets right what is not as it should be.
async fn keep(state: &Arc<State>) -> Result<(), Status> {
    let wanted = defaults::levels()
        .into_iter()
        .map(|object| (LEVELS, object))
        .chain(defaults::schemas().into_iter().map(|object| (SCHEMAS, object)));
    let writes = wanted.filter_map(|(resource, object)| {
        let current = state.caches.get(resource, "", objects::name(&object));
        let due = current.as_deref().is_none_or(|current| is_due(current, &object));
        due.then(|| bootstrap::put_quietly(state, resource, object))
    });
    for done in futures::future::join_all(writes).await {
        done?;
    }
    for schema in state.caches.list(SCHEMAS, "") {
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
        let dangling = state.caches.get(LEVELS, "", level).is_none();
        if !is_told(&schema, dangling) {
            tell(state, objects::name(&schema), level, dangling).await?;
        }
    }
    Ok(())
}

/// Whether the server should write its own spec over the one that is there.
fn is_due(current: &Value, wanted: &Value) -> bool {
    let differs = current["spec"] != wanted["spec"];
    if defaults::is_mandatory(objects::name(wanted)) {
        return differs;
    }
    let annotation = objects::annotation(current, defaults::AUTOUPDATE);
    // Nobody has touched what is of the first generation.
    let ours = annotation == "true"
        || (annotation.is_empty() && current["metadata"]["generation"].as_u64() == Some(1));
    differs && ours
}

fn is_told(schema: &Value, dangling: bool) -> bool {
    let wanted = if dangling { "True" } else { "False" };
    items(&schema["status"]["conditions"]).any(|condition| {
        condition["type"].as_str() == Some("Dangling") && condition["status"].as_str() == Some(wanted)
    })
}

async fn tell(state: &Arc<State>, name: &str, level: &str, dangling: bool) -> Result<(), Status> {
    let (status, reason, message) = match dangling {
        true => (
            "True",
            "NotFound",
            format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} but there is no such object"
            ),
        ),
        false => (
            "False",
            "Found",
            format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"
            ),
        ),
    };
    let condition = json!({
        "type": "Dangling", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let make = |live: &Value| {
        let mut object = live.clone();
        let mut conditions: Vec<Value> = items(&live["status"]["conditions"])
            .filter(|known| known["type"].as_str() != Some("Dangling"))
            .cloned()
            .collect();
        conditions.push(condition.clone());
        *objects::at(&mut object, &["status", "conditions"]) = Value::Array(conditions);
        Ok(object)
    };
    match bootstrap::update_status(state, SCHEMAS, name, MANAGER, &make).await {
        // Deleted meanwhile.
        Err(status) if status.is("NotFound") => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_spec_it_is() {
        let wanted = |name: &str| json!({"metadata": {"name": name}, "spec": {"a": 1}});
        let check = |name: &str, annotations: Value, generation: u64, spec: Value, expected: bool| {
            let current =
                json!({"metadata": {"annotations": annotations, "generation": generation}, "spec": spec});
            assert_eq!(is_due(&current, &wanted(name)), expected, "{name} {current}");
        };
        let (auto, manual) = (json!({defaults::AUTOUPDATE: "true"}), json!({defaults::AUTOUPDATE: "false"}));
        check("exempt", manual.clone(), 9, json!({"a": 2}), true);
        check("exempt", json!({}), 9, json!({"a": 1}), false);
        check("system", auto.clone(), 9, json!({"a": 2}), true);
        check("system", auto, 9, json!({"a": 1}), false);
        check("system", manual, 1, json!({"a": 2}), false);
        check("system", json!({}), 1, json!({"a": 2}), true);
        check("system", json!({}), 2, json!({"a": 2}), false);
    }
}
