//! Makes the claims of a pod's generic ephemeral volumes; they go with the pod.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.pods.on(move |change| {
        if let Some(pod) = change.new
            && change.old.is_none()
            && templates(pod).next().is_some()
        {
            due.add(Key::of(&**pod));
        }
    });
    loops.add(EphemeralVolumes { world: world.clone() }, queue);
}

fn templates(pod: &Pod) -> impl Iterator<Item = (String, &PersistentVolumeClaimTemplate)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        Some((format!("{}-{}", meta::name(pod), volume.name), template))
    })
}

struct EphemeralVolumes {
    world: Arc<World>,
}

impl Controller for EphemeralVolumes {
    const NAME: &'static str = "ephemeral-volume-controller";
    const QUEUE: &'static str = "ephemeral_volume";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(pod) = self.world.pods.by_key(key) else { return Ok(None) };
        if meta::is_terminating(&*pod) {
            return Ok(None);
        }
        for (name, template) in templates(&pod) {
            if let Some(claim) = self.world.persistent_volume_claims.get(&key.namespace, &name) {
                // Somebody else's data must not be mounted by accident.
                if !meta::is_controlled_by(&claim.metadata, meta::uid(&*pod)) {
                    let message = format!("PVC {}/{name} was not created for pod {key}", key.namespace);
                    self.world.events.warning("ephemeral_volume", &*pod, "EphemeralClaimConflict", message);
                }
                continue;
            }
            match self.world.persistent_volume_claims.create(&claim(&pod, name, template)).await {
                Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => {
                    let message = format!("Failed to create PVC: {}", error.api_message());
                    self.world.events.warning("ephemeral_volume", &*pod, "FailedCreate", message);
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

fn claim(pod: &Pod, name: String, template: &PersistentVolumeClaimTemplate) -> PersistentVolumeClaim {
    let from = template.metadata.clone().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            namespace: pod.metadata.namespace.clone(),
            name: Some(name),
            labels: from.labels,
            annotations: from.annotations,
            owner_references: Some(vec![meta::controller_reference(pod)]),
            ..Default::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_named_after_pod_and_volume_and_owned_by_the_pod() {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "spec": {"containers": [],
            "volumes": [{"name": "plain"}, {"name": "scratch", "ephemeral": {"volumeClaimTemplate":
                {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}}}]}}),
        )
        .unwrap();
        let made: Vec<_> = templates(&pod).map(|(name, template)| claim(&pod, name, template)).collect();
        assert_eq!(made.len(), 1);
        assert_eq!(meta::name(&made[0]), "web-scratch");
        assert!(meta::is_controlled_by(&made[0].metadata, "u"));
    }
}
