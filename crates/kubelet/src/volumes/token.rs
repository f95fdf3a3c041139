//! Service account tokens for pods, from the TokenRequest API, bound to the pod.
//!
//! A token is kept until it has to be renewed (80% of its life, a day at most), so that a change of another
//! source of the same volume does not ask for one again.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

use super::{Source, VolumeError};
use crate::pod::ext::PodExt;
use crate::token_request;

#[derive(Clone)]
pub struct Issued {
    pub token: String,
    pub expires_at: Timestamp,
    pub refresh_at: Timestamp,
}

/// Audience and lifetime: what makes two requests of a pod the same.
type Key = (String, i64);

/// By pod UID.
static KEPT: LazyLock<Mutex<HashMap<String, HashMap<Key, Issued>>>> = LazyLock::new(Mutex::default);

/// The pod has ended, and its tokens are good for nothing.
pub fn forget(uid: &str) {
    KEPT.lock().remove(uid);
}

/// A token for `audience`, the API server when that is empty, that lives for `lifetime` seconds, an hour when nothing is
/// said.
pub async fn request(
    source: &Source<'_>,
    audience: &str,
    lifetime: Option<i64>,
) -> Result<Issued, VolumeError> {
    let pod = source.pod;
    let audience = audience.to_owned();
    let lifetime = lifetime.unwrap_or(3600);
    let key = (audience.clone(), lifetime);
    let now = Timestamp::now();
    let kept = KEPT.lock().get(pod.uid()).and_then(|kept| kept.get(&key)).cloned();
    if let Some(kept) = kept.filter(|kept| kept.refresh_at > now) {
        return Ok(kept);
    }
    let account = pod.pod_spec().service_account_name.as_deref().unwrap_or("default");
    let audiences = (!audience.is_empty()).then(|| vec![audience]);
    let request = token_request::bound_to(pod, audiences, lifetime);
    let api: Api<ServiceAccount> = Api::namespaced(source.ctx.client.clone(), pod.namespace());
    let failed = |error: String| {
        VolumeError::Invalid(format!(
            "failed to fetch token: serviceaccount {:?}/{account:?}: {error}",
            pod.namespace()
        ))
    };
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let status = answer.status.ok_or_else(|| failed("the answer has no token".into()))?;
    let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err(failed("the answer has no token".into()));
    };
    let life = expires.0.duration_since(now);
    let refresh_in = (life * 4 / 5).clamp(SignedDuration::from_secs(1), SignedDuration::from_hours(24));
    let issued =
        Issued { token, expires_at: expires.0, refresh_at: now.checked_add(refresh_in).unwrap_or(now) };
    KEPT.lock().entry(pod.uid().to_owned()).or_default().insert(key, issued.clone());
    Ok(issued)
}
