//! OwnerReferencesPermissionEnforcement: who gives an object another owner must be allowed to delete it, since that is
//! what may come of it; and who holds up an owner's deletion must be allowed to change that owner's finalizers.

use api::gvk::{GroupVersion, GroupVersionKind};
use api::registry::Registry;
use api::status::Status;
use serde_json::Value;

use super::objects::items;
use super::{AdmissionRequest, Operation};
use crate::authz::Authorizer;
use crate::request::RequestInfo;

pub async fn validate(
    request: &AdmissionRequest<'_>,
    authorizer: &Authorizer,
    registry: &Registry,
) -> Result<(), Status> {
    // Kubelets write statuses, and may not delete pods of others.
    if !matches!(request.operation, Operation::Create | Operation::Update)
        || request.is_subresource("", "pods", "status")
    {
        return Ok(());
    }
    let references =
        |object: &Value| -> Vec<Value> { items(&object["metadata"]["ownerReferences"]).cloned().collect() };
    let (new, old) = (references(&request.object), references(request.old_object));
    if new == old {
        return Ok(());
    }
    // What has just been made is waited for by nobody.
    if request.operation == Operation::Update {
        let delete = RequestInfo {
            is_resource: true,
            verb: "delete".to_owned(),
            group: request.resource.group.clone(),
            version: request.resource.version.clone(),
            namespace: request.namespace.to_owned(),
            resource: request.resource.resource.clone(),
            name: request.name.to_owned(),
            ..RequestInfo::default()
        };
        if !authorizer.allows(request.user, &delete).await {
            return Err(request.forbidden("cannot set an ownerRef on a resource you can't delete"));
        }
    }
    for reference in new.iter().filter(|reference| blocks(reference) && !was_blocking(&old, reference)) {
        may_block(request, authorizer, registry, reference).await?;
    }
    Ok(())
}

fn blocks(reference: &Value) -> bool {
    reference["blockOwnerDeletion"] == true
}

fn was_blocking(old: &[Value], reference: &Value) -> bool {
    old.iter().any(|known| known["uid"] == reference["uid"] && blocks(known))
}

async fn may_block(
    request: &AdmissionRequest<'_>,
    authorizer: &Authorizer,
    registry: &Registry,
    reference: &Value,
) -> Result<(), Status> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let resource = version
        .parse::<GroupVersion>()
        .ok()
        .and_then(|version| registry.kind(&GroupVersionKind::new(&version.group, &version.version, kind)));
    let Some(resource) = resource else {
        return Err(request.forbidden(format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} Kind {kind}"
        )));
    };
    let update = RequestInfo {
        is_resource: true,
        verb: "update".to_owned(),
        group: resource.gvk.group.clone(),
        version: resource.gvk.version.clone(),
        namespace: if resource.namespaced { request.namespace.to_owned() } else { String::new() },
        resource: resource.plural.to_string(),
        subresource: "finalizers".to_owned(),
        name: text("name").to_owned(),
        ..RequestInfo::default()
    };
    if authorizer.allows(request.user, &update).await {
        return Ok(());
    }
    Err(request.forbidden(
        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on",
    ))
}
