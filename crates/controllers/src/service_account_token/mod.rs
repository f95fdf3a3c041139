//! Fills Secrets of type `kubernetes.io/service-account-token`, deletes those whose account is gone, and (in
//! [`cleaner`]) those that nobody has used for a year.
//!
//! The token is one that the API server issues, bound to the Secret: it ends with the Secret, and no signing key has
//! to be known here.

mod cleaner;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use crate::kit::{Context, Controller, Key, Queue, SyncError, World, meta};
use crate::{Config, Loops};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
const TOKEN: &str = "token";
/// The longest that can be asked for: these tokens are to last as long as their Secrets.
const LIFETIME_SECONDS: i64 = 1 << 32;

pub fn start(world: &Arc<World>, loops: &mut Loops, config: &Config) {
    loops.start("serviceaccount-token-controller", |loops| start_tokens(world, loops, config));
    loops.start("legacy-serviceaccount-token-cleaner-controller", |loops| cleaner::start(world, loops));
}

fn start_tokens(world: &Arc<World>, loops: &mut Loops, config: &Config) {
    let queue = Queue::default();
    let due = queue.clone();
    world.account_tokens.on(move |change| {
        if let Some(secret) = change.new {
            due.add(Key::of(&**secret));
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.service_accounts.on(move |change| {
        // Accounts come and go; what else they say does not matter to their tokens.
        let Some(account) = change.object().filter(|_| !change.is_update()) else { return };
        for secret in seen.account_tokens.by_namespace(meta::namespace(&**account)) {
            if meta::annotation(&*secret, ACCOUNT_NAME) == Some(meta::name(&**account)) {
                due.add(Key::of(&*secret));
            }
        }
    });
    let controller = AccountTokens { world: world.clone(), root_ca: config.root_ca_pem.clone() };
    loops.add(controller, queue);
}

struct AccountTokens {
    world: Arc<World>,
    root_ca: String,
}

impl Controller for AccountTokens {
    const NAME: &'static str = "serviceaccount-token-controller";
    const QUEUE: &'static str = "serviceaccount_tokens_secret";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(secret) = self.world.account_tokens.by_key(key) else { return Ok(None) };
        let Some(name) = meta::annotation(&*secret, ACCOUNT_NAME) else { return Ok(None) };
        if meta::is_terminating(&*secret) {
            return Ok(None);
        }
        let Some(account) = self.account(key, name, &secret).await? else {
            self.world.account_tokens.delete(&*secret, DeleteParams::default()).await?;
            return Ok(None);
        };
        let Some(mut filled) = fill(&secret, &account, &self.root_ca) else { return Ok(None) };
        if is_missing(&secret, TOKEN) {
            let token = self.issue(&secret, &account).await?;
            filled.data.get_or_insert_default().insert(TOKEN.to_owned(), ByteString(token.into_bytes()));
        }
        match self.world.account_tokens.replace(&filled).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(None),
        }
    }
}

impl AccountTokens {
    /// The account of a Secret. One that is not seen here may only have come a moment ago: the API server knows.
    async fn account(
        &self,
        key: &Key,
        name: &str,
        secret: &Secret,
    ) -> Result<Option<Arc<ServiceAccount>>, SyncError> {
        let uid = meta::annotation(secret, ACCOUNT_UID);
        let is_same = |account: &ServiceAccount| uid.is_none_or(|uid| uid == meta::uid(account));
        if let Some(account) = self.world.service_accounts.get(&key.namespace, name)
            && is_same(&account)
        {
            return Ok(Some(account));
        }
        let api = self.world.service_accounts.api(&key.namespace);
        let found = api.get_opt(name).await.context("get", || format!("ServiceAccount {name}"))?;
        Ok(found.filter(is_same).map(Arc::new))
    }

    async fn issue(&self, secret: &Secret, account: &ServiceAccount) -> Result<String, SyncError> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: None,
                expiration_seconds: Some(LIFETIME_SECONDS),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Secret".to_owned()),
                    name: secret.metadata.name.clone(),
                    uid: secret.metadata.uid.clone(),
                }),
            }),
            ..Default::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.world.client.clone(), meta::namespace(account));
        let issued = api.create_token_request(meta::name(account), &PostParams::default(), &request).await;
        let issued =
            issued.context("create a token of", || format!("ServiceAccount {}", Key::of(account)))?;
        Ok(issued.status.and_then(|status| status.token).unwrap_or_default())
    }
}

fn is_missing(secret: &Secret, key: &str) -> bool {
    secret.data.as_ref().and_then(|data| data.get(key)).is_none_or(|value| value.0.is_empty())
}

/// The Secret as it should be, apart from the token, if anything about it is missing.
fn fill(secret: &Secret, account: &ServiceAccount, root_ca: &str) -> Option<Secret> {
    let mut filled = secret.clone();
    let annotations: &mut BTreeMap<String, String> = filled.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.to_owned(), meta::uid(account).to_owned());
    let data = filled.data.get_or_insert_default();
    if !root_ca.is_empty() {
        data.insert(CA.to_owned(), ByteString(root_ca.as_bytes().to_vec()));
    }
    if is_missing(secret, NAMESPACE) {
        data.insert(NAMESPACE.to_owned(), ByteString(meta::namespace(secret).as_bytes().to_vec()));
    }
    (filled != *secret || is_missing(secret, TOKEN)).then_some(filled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_filled_once() {
        let secret: Secret = serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "s",
            "annotations": {ACCOUNT_NAME: "robot"}}, "type": "kubernetes.io/service-account-token"}))
        .unwrap();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "robot", "uid": "u"}}))
                .unwrap();
        let mut filled = fill(&secret, &account, "PEM").expect("all is missing");
        assert_eq!(meta::annotation(&filled, ACCOUNT_UID), Some("u"));
        let data = filled.data.as_mut().unwrap();
        assert_eq!((&*data[CA].0, &*data[NAMESPACE].0), (&b"PEM"[..], &b"ns"[..]));
        data.insert(TOKEN.to_owned(), ByteString(b"t".to_vec()));
        assert_eq!(fill(&filled, &account, "PEM"), None);
        assert!(fill(&filled, &account, "NEW").is_some(), "the authority has changed");
    }
}
