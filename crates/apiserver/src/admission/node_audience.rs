//! The audiences for which a kubelet gets tokens: those that a pod's volumes or its CSI drivers ask for, and those that
//! RBAC grants the node with the verb `request-serviceaccounts-token-audience`. So who has taken over a node cannot
//! pass as its pods where these never go.

use std::collections::HashSet;

use api::status::{GroupResource, Status};
use serde_json::Value;

use super::objects::{self, CLAIMS, Objects, PODS, VOLUMES, items};
use super::{AdmissionRequest, Operation};
use crate::authz::Authorizer;
use crate::request::RequestInfo;

const CSI_DRIVERS: GroupResource<'static> = GroupResource::new("storage.k8s.io", "csidrivers");
const VERB: &str = "request-serviceaccounts-token-audience";

pub async fn validate(
    request: &AdmissionRequest<'_>,
    objects: &dyn Objects,
    authorizer: &Authorizer,
) -> Result<(), Status> {
    let Some(node) = request.user.node_name() else {
        return Ok(());
    };
    if request.operation != Operation::Create || !request.is_subresource("", "serviceaccounts", "token") {
        return Ok(());
    }
    let spec = &request.object["spec"];
    let wanted: Vec<&str> = items(&spec["audiences"]).filter_map(Value::as_str).collect();
    let audience = match wanted.as_slice() {
        // The API server's own.
        [] => "",
        [one] => one,
        _ => return Err(request.forbidden("node may only request 0 or 1 audiences")),
    };
    let name = spec["boundObjectRef"]["name"].as_str().unwrap_or_default();
    if let Some(pod) = objects.get(PODS, request.namespace, name)
        && audiences(&pod, objects).contains(audience)
    {
        return Ok(());
    }
    let question = RequestInfo {
        is_resource: true,
        verb: VERB.to_owned(),
        version: "v1".to_owned(),
        namespace: request.namespace.to_owned(),
        resource: audience.to_owned(),
        name: request.object_name().to_owned(),
        ..RequestInfo::default()
    };
    if authorizer.allows(request.user, &question).await {
        return Ok(());
    }
    Err(request.forbidden(format!(
        "audience {audience:?} not found in pod spec volume, system:node:{node} is not authorized to request tokens for \
         this audience"
    )))
}

/// All that a pod's volumes ask tokens for.
fn audiences(pod: &Value, objects: &dyn Objects) -> HashSet<String> {
    let mut found = HashSet::new();
    let (namespace, pod_name) = (objects::namespace(pod), objects::name(pod));
    let mut drivers: Vec<String> = Vec::new();
    for volume in items(&pod["spec"]["volumes"]) {
        for source in items(&volume["projected"]["sources"]) {
            let token = &source["serviceAccountToken"];
            if token.is_object() {
                found.insert(token["audience"].as_str().unwrap_or_default().to_owned());
            }
        }
        drivers.extend(volume["csi"]["driver"].as_str().map(str::to_owned));
        let claim = match volume["ephemeral"].is_object() {
            true => Some(format!("{pod_name}-{}", volume["name"].as_str().unwrap_or_default())),
            false => volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned),
        };
        let claim = claim.and_then(|name| objects.get(CLAIMS, namespace, &name));
        let bound = claim.and_then(|claim| {
            objects.get(VOLUMES, "", claim["spec"]["volumeName"].as_str().unwrap_or_default())
        });
        drivers.extend(bound.and_then(|volume| volume["spec"]["csi"]["driver"].as_str().map(str::to_owned)));
    }
    for driver in drivers.iter().filter_map(|name| objects.get(CSI_DRIVERS, "", name)) {
        let requests = items(&driver["spec"]["tokenRequests"]);
        found.extend(requests.map(|request| request["audience"].as_str().unwrap_or_default().to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::*;

    #[test]
    fn what_volumes_ask_for() {
        let objects = Fixture::new()
            .add(
                CLAIMS,
                json!({"metadata": {"namespace": "ns", "name": "p-e"}, "spec": {"volumeName": "pv"}}),
            )
            .add(VOLUMES, json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "d"}}}))
            .add(
                CSI_DRIVERS,
                json!({"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "gcp"}]}}),
            );
        let pod = |volumes: Value| json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": {"volumes": volumes}});
        let check = |volumes: Value, expected: &[&str]| {
            let found = audiences(&pod(volumes), &objects);
            assert_eq!(found, expected.iter().map(|one| (*one).to_owned()).collect());
        };
        let token = |token: Value| json!([{"projected": {"sources": [{"serviceAccountToken": token}]}}]);
        check(json!([{"emptyDir": {}}]), &[]);
        check(token(json!({"path": "token"})), &[""]);
        check(token(json!({"path": "token", "audience": "vault"})), &["vault"]);
        check(json!([{"csi": {"driver": "d"}}]), &["gcp"]);
        check(json!([{"name": "e", "ephemeral": {}}]), &["gcp"]);
        check(json!([{"csi": {"driver": "other"}}]), &[]);
    }
}
