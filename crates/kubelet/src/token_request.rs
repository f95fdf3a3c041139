//! Asking for tokens of service accounts that are good for as long as their pod is there.

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::Pod;

use crate::pod::ext::PodExt;

/// A token bound to the pod, for these audiences (the API server, when none are named), that lives so many seconds.
pub fn bound_to(pod: &Pod, audiences: Option<Vec<String>>, seconds: i64) -> TokenRequest {
    TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences,
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name().to_owned()),
                uid: Some(pod.uid().to_owned()),
            }),
        }),
        ..Default::default()
    }
}
