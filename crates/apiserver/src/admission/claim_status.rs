//! Who may write which part of a ResourceClaim's status (`DRAResourceClaimGranularStatusAuthorization`): besides
//! `resourceclaims/status`, schedulers need `resourceclaims/binding` for the allocation and who uses it, and drivers
//! `resourceclaims/driver` for what they tell of their own devices; a driver that runs on the node of the claim needs
//! it for that node alone.

use std::collections::BTreeSet;

use api::field::{FieldErrors, Path};
use api::status::Status;
use serde_json::Value;

use super::objects::items;
use super::{AdmissionRequest, Operation};
use crate::authz::Authorizer;
use crate::request::RequestInfo;

const GROUP: &str = "resource.k8s.io";
const RESOURCE: &str = "resourceclaims";
/// What tokens of service accounts say about the node of their pod.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// A right that a change takes, by any of several verbs.
#[derive(Debug, PartialEq, Eq)]
struct Needed {
    /// The field of the status that has changed.
    field: &'static str,
    subresource: &'static str,
    name: String,
    verbs: Vec<String>,
}

pub async fn validate(request: &AdmissionRequest<'_>, authorizer: &Authorizer) -> Result<(), Status> {
    if !request.is_subresource(GROUP, RESOURCE, "status") || request.operation != Operation::Update {
        return Ok(());
    }
    let mut errors = FieldErrors::new();
    for needed in needed(request) {
        if !may(request, authorizer, &needed).await {
            let Needed { field, subresource, name, verbs } = needed;
            let why = format!(
                "changing status.{field} requires {} permission on {RESOURCE}/{subresource} {name:?} in API group {GROUP:?}",
                verbs.join(" or ")
            );
            errors.forbidden(&Path::new("status").child(field), why);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, &request.kind.kind, request.object_name(), &errors))
}

fn needed(request: &AdmissionRequest<'_>) -> Vec<Needed> {
    let (new, old) = (&request.object["status"], &request.old_object["status"]);
    let verb = if request.options["kind"] == "PatchOptions" { "patch" } else { "update" };
    let mut needed = Vec::new();
    for field in ["allocation", "reservedFor"] {
        let differs = match field {
            // No users, and an empty list of them.
            "reservedFor" => !items(&new[field]).eq(items(&old[field])),
            _ => new[field] != old[field],
        };
        if differs {
            let verbs = vec![verb.to_owned()];
            let name = request.name.to_owned();
            needed.push(Needed { field, subresource: "binding", name, verbs });
        }
    }
    let node = request.user.extra.get(NODE_NAME).and_then(|names| names.first());
    let associated = node.is_some_and(|node| Some(node.as_str()) == only_node(&new["allocation"]));
    for driver in changed_drivers(new, old) {
        let mut verbs = vec![format!("arbitrary-node:{verb}")];
        if associated {
            verbs.insert(0, format!("associated-node:{verb}"));
        }
        needed.push(Needed { field: "devices", subresource: "driver", name: driver.to_owned(), verbs });
    }
    needed
}

/// The node that the devices are on, if they are on one.
fn only_node(allocation: &Value) -> Option<&str> {
    let [term] = allocation["nodeSelector"]["nodeSelectorTerms"].as_array()?.as_slice() else { return None };
    let [field] = term["matchFields"].as_array()?.as_slice() else { return None };
    let [node] = field["values"].as_array()?.as_slice() else { return None };
    let by_name = field["key"] == "metadata.name" && field["operator"] == "In";
    node.as_str().filter(|_| by_name && items(&term["matchExpressions"]).next().is_none())
}

/// The drivers of whose devices something else is told than before. That nothing is told any more of a device that has
/// been taken back is part of taking it back.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let id = |device: &'a Value| ["driver", "pool", "device", "shareID"].map(|field| &device[field]);
    let allocated = |device: &'a Value| {
        items(&new["allocation"]["devices"]["results"]).any(|result| id(result) == id(device))
    };
    let said = |status: &'a Value, device: &Value| items(&status["devices"]).any(|other| other == device);
    let added = items(&new["devices"]).filter(|device| !said(old, device));
    let removed = items(&old["devices"]).filter(|device| !said(new, device) && allocated(device));
    added.chain(removed).filter_map(|device| device["driver"].as_str()).collect()
}

async fn may(request: &AdmissionRequest<'_>, authorizer: &Authorizer, needed: &Needed) -> bool {
    for verb in &needed.verbs {
        let question = RequestInfo {
            is_resource: true,
            verb: verb.clone(),
            group: GROUP.to_owned(),
            version: request.resource.version.clone(),
            resource: RESOURCE.to_owned(),
            subresource: needed.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: needed.name.clone(),
            ..RequestInfo::default()
        };
        if authorizer.allows(request.user, &question).await {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Case;
    use super::*;

    fn status(node: &str, devices: Value) -> Value {
        let results = json!([{"driver": "d.example", "pool": "p", "device": "one"}]);
        let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
        let selector = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        json!({"allocation": {"devices": {"results": results}, "nodeSelector": selector}, "devices": devices})
    }

    fn rights(user: Option<&str>, options: &str, old: Value, new: Value) -> Vec<String> {
        let object = |status: Value| json!({"metadata": {"namespace": "ns", "name": "c"}, "status": status});
        let mut case = Case::update(GROUP, RESOURCE, object(old), object(new));
        case.subresource = "status";
        case.options = json!({"kind": options});
        if let Some(node) = user {
            case.user.extra.insert(NODE_NAME.to_owned(), vec![node.to_owned()]);
        }
        let mut found = Vec::new();
        case.run(|request| {
            found = needed(request)
                .into_iter()
                .map(|n| format!("{} {}/{}", n.verbs.join("|"), n.subresource, n.name))
                .collect();
            Ok(())
        })
        .expect("only asked");
        found
    }

    #[test]
    fn what_schedulers_write() {
        let none = json!({"reservedFor": []});
        let users = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
        let mut reserved = status("n1", Value::Null);
        reserved["reservedFor"] = users;
        let allocated = rights(None, "UpdateOptions", none.clone(), reserved.clone());
        assert_eq!(allocated, ["update binding/c", "update binding/c"]);
        let by_patch = rights(None, "PatchOptions", status("n1", Value::Null), reserved.clone());
        assert_eq!(by_patch, ["patch binding/c"]);
        assert!(rights(None, "UpdateOptions", json!({}), none.clone()).is_empty());
        // Taking devices back takes back what was told of them.
        reserved["devices"] = json!([{"driver": "d.example", "pool": "p", "device": "one"}]);
        let freed = rights(None, "UpdateOptions", reserved, none);
        assert_eq!(freed, ["update binding/c", "update binding/c"]);
    }

    #[test]
    fn what_drivers_write() {
        let device = |data: u8| json!([{"driver": "d.example", "pool": "p", "device": "one", "data": data}]);
        let (old, new) = (status("n1", device(1)), status("n1", device(2)));
        let check = |user, old: &Value, new: &Value, expected: &[&str]| {
            assert_eq!(rights(user, "UpdateOptions", old.clone(), new.clone()), expected);
        };
        let anywhere = "arbitrary-node:update driver/d.example";
        check(Some("n1"), &old, &new, &["associated-node:update|arbitrary-node:update driver/d.example"]);
        check(Some("n2"), &old, &new, &[anywhere]);
        check(None, &old, &new, &[anywhere]);
        check(None, &old, &status("n1", json!([])), &[anywhere]);
        check(Some("n1"), &old, &old, &[]);
        let mut several = new.clone();
        let terms = &mut several["allocation"]["nodeSelector"]["nodeSelectorTerms"];
        let term = terms[0].clone();
        *terms = json!([term, term]);
        check(Some("n1"), &several, &several, &[]);
        let mut before = several.clone();
        before["devices"] = device(1);
        check(Some("n1"), &before, &several, &[anywhere]);
    }
}
