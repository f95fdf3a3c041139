//! Deletes everything in a namespace, whatever its kind: built in, or of a CRD that was made a second ago.

use futures::StreamExt;
use kube::api::{DeleteParams, ListParams};
use kube::core::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope, verbs};
use kube::{Api, ResourceExt};

use super::conditions::Leftovers;
use crate::kit::{Context, SyncError};

/// Requests under way at a time.
const CONCURRENCY: usize = 4;

/// Deletes what can be deleted; tells what is left. Pods go first, and alone: what they still need until their end
/// (Secrets, ConfigMaps, policies that protect them) must not be taken from under them.
pub async fn delete_all(client: &kube::Client, namespace: &str) -> Result<Leftovers, SyncError> {
    let kinds = discover(client, namespace).await?;
    let (pods, others): (Vec<_>, Vec<_>) =
        kinds.into_iter().partition(|(kind, _)| kind.group.is_empty() && kind.plural == "pods");
    let mut left = Leftovers::default();
    delete_kinds(client, namespace, pods, &mut left).await;
    if left.is_empty() {
        delete_kinds(client, namespace, others, &mut left).await;
    }
    left.refused.sort();
    Ok(left)
}

async fn delete_kinds(
    client: &kube::Client,
    namespace: &str,
    kinds: Vec<(ApiResource, ApiCapabilities)>,
    left: &mut Leftovers,
) {
    let mut rounds = futures::stream::iter(kinds)
        .map(|(kind, capabilities)| async move {
            let result = delete_kind(client, namespace, &kind, &capabilities).await;
            (kind, result)
        })
        .buffer_unordered(CONCURRENCY);
    while let Some((kind, result)) = rounds.next().await {
        let resource = format!("{}.{}", kind.plural, kind.group);
        match result {
            Ok(objects) if objects.is_empty() => {}
            Ok(objects) => {
                for finalizer in objects.iter().flat_map(|object| object.finalizers()) {
                    *left.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
                left.remaining.insert(resource, objects.len());
            }
            // A CRD may have gone away together with its objects.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {}
            Err(error) => left.refused.push(format!("{resource}: {error}")),
        }
    }
}

async fn discover(
    client: &kube::Client,
    namespace: &str,
) -> Result<Vec<(ApiResource, ApiCapabilities)>, SyncError> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        // Servers before 1.30 do not aggregate.
        Err(_) => {
            let discovery = Discovery::new(client.clone()).run().await;
            discovery.context("discover the resources of", || format!("Namespace {namespace}"))?
        }
    };
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    let deletable = all.filter(|(_, capabilities)| {
        capabilities.scope == Scope::Namespaced
            && capabilities.supports_operation(verbs::LIST)
            && capabilities.supports_operation(verbs::DELETE)
    });
    Ok(deletable.collect())
}

type Objects = Vec<PartialObjectMeta<DynamicObject>>;

async fn delete_kind(
    client: &kube::Client,
    namespace: &str,
    kind: &ApiResource,
    capabilities: &ApiCapabilities,
) -> Result<Objects, kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    let everything = ListParams::default();
    let objects = api.list_metadata(&everything).await?.items;
    if objects.is_empty() {
        return Ok(objects);
    }
    if capabilities.supports_operation(verbs::DELETE_COLLECTION) {
        api.delete_collection(&DeleteParams::background(), &everything).await?;
    } else {
        for object in &objects {
            api.delete(&object.name_any(), &DeleteParams::background()).await?;
        }
    }
    Ok(api.list_metadata(&everything).await?.items)
}
