//! NamespaceAutoProvision: who writes into a namespace that is not there gets it.

use std::sync::Arc;

use api::status::Status;

use super::objects::{NAMESPACES, Objects};
use super::{AdmissionRequest, Operation};
use crate::bootstrap;
use crate::state::State;

pub async fn provision(
    request: &AdmissionRequest<'_>,
    objects: &dyn Objects,
    state: &Arc<State>,
) -> Result<(), Status> {
    let namespace = request.namespace;
    let creates = request.operation == Operation::Create && !request.dry_run;
    if !creates || namespace.is_empty() || request.resource.resource == "namespaces" {
        return Ok(());
    }
    if objects.get(NAMESPACES, "", namespace).is_some() {
        return Ok(());
    }
    bootstrap::make_namespace(state, namespace).await
}
