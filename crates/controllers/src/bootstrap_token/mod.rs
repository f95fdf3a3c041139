//! Bootstrap tokens: signs the `cluster-info` ConfigMap with each of them, so that a new node that knows one token can
//! tell the right cluster from a wrong one; deletes those that have expired.

mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

const TOKENS: &str = "kube-system";
const NAME_PREFIX: &str = "bootstrap-token-";
const INFO: (&str, &str) = ("kube-public", "cluster-info");
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    loops.start("bootstrap-signer-controller", |loops| start_signer(world, loops));
    loops.start("token-cleaner-controller", |loops| start_cleaner(world, loops));
}

fn start_signer(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let info = || Key::new(INFO.0, INFO.1);
    let due = queue.clone();
    world.config_maps.on(move |change| {
        if let Some(map) = change.new.filter(|map| Key::of(&***map) == info()) {
            due.add(Key::of(&**map));
        }
    });
    let due = queue.clone();
    world.bootstrap_tokens.on(move |change| {
        if change.object().is_some_and(|secret| meta::namespace(&**secret) == TOKENS) {
            due.add(info());
        }
    });
    loops.add(Signer { world: world.clone() }, queue);
}

fn start_cleaner(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.bootstrap_tokens.on(move |change| {
        if let Some(secret) = change.new.filter(|secret| meta::namespace(&***secret) == TOKENS) {
            due.add(Key::of(&**secret));
        }
    });
    loops.add(Cleaner { world: world.clone() }, queue);
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let value = secret.data.as_ref()?.get(key)?;
    std::str::from_utf8(&value.0).ok()
}

/// When a token expires; one that has a malformed time is as good as expired.
fn expiry(secret: &Secret) -> Option<Timestamp> {
    text(secret, "expiration").map(|time| time.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The id and secret of a token by which the cluster's information may be signed.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let id = text(secret, "token-id")?;
    let named = meta::name(secret).strip_prefix(NAME_PREFIX) == Some(id);
    let well_formed = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let token = text(secret, "token-secret").filter(|token| well_formed(token, 16))?;
    let usable = named
        && well_formed(id, 6)
        && text(secret, "usage-bootstrap-signing") == Some("true")
        && expiry(secret).is_none_or(|expiry| expiry > now)
        && !meta::is_terminating(secret);
    usable.then_some((id, token))
}

struct Signer {
    world: Arc<World>,
}

impl Controller for Signer {
    const NAME: &'static str = "bootstrap-signer-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(map) = self.world.config_maps.by_key(key) else { return Ok(None) };
        let data = map.data.clone().unwrap_or_default();
        let Some(content) = data.get(KUBECONFIG) else { return Ok(None) };
        let secrets = self.world.bootstrap_tokens.by_namespace(TOKENS);
        let tokens = secrets.iter().filter_map(|secret| signing_token(secret, Timestamp::now()));
        let wanted = signed(&data, content, tokens);
        if wanted != data {
            let mut updated = (*map).clone();
            updated.data = Some(wanted);
            self.world.config_maps.replace(&updated).await?;
        }
        Ok(None)
    }
}

/// The data of the ConfigMap, with the signatures of these tokens and no others.
fn signed<'a>(
    data: &BTreeMap<String, String>,
    content: &str,
    tokens: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    let mut wanted = data.clone();
    wanted.retain(|key, _| !key.starts_with(SIGNATURE_PREFIX));
    for (id, secret) in tokens {
        wanted.insert(format!("{SIGNATURE_PREFIX}{id}"), signature::detached(content, id, secret));
    }
    wanted
}

struct Cleaner {
    world: Arc<World>,
}

impl Controller for Cleaner {
    const NAME: &'static str = "token-cleaner-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(secret) = self.world.bootstrap_tokens.by_key(key) else { return Ok(None) };
        let Some(expiry) = expiry(&secret) else { return Ok(None) };
        match Duration::try_from(expiry.duration_since(Timestamp::now())) {
            Ok(left) if !left.is_zero() => Ok(Some(left)),
            _ => {
                self.world.bootstrap_tokens.delete(&*secret, DeleteParams::default()).await?;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn token(name: &str, fields: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<_, _> = fields.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        serde_json::from_value(json!({"metadata": {"namespace": TOKENS, "name": name}, "data": data}))
            .unwrap()
    }

    #[test]
    fn only_good_tokens_sign() {
        let good = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
        ];
        let check = |name: &str, change: Option<(&str, &str)>, expected: bool| {
            let fields: Vec<_> = good
                .iter()
                .copied()
                .filter(|(key, _)| change.is_none_or(|(k, _)| k != *key))
                .chain(change)
                .collect();
            let found =
                signing_token(&token(name, &fields), "2026-01-01T00:00:00Z".parse().unwrap()).is_some();
            assert_eq!(found, expected, "{name} {change:?}");
        };
        check("bootstrap-token-abcdef", None, true);
        check("bootstrap-token-zzzzzz", None, false);
        check("bootstrap-token-abcdef", Some(("token-secret", "short")), false);
        check("bootstrap-token-abcdef", Some(("usage-bootstrap-signing", "false")), false);
        check("bootstrap-token-abcdef", Some(("expiration", "2025-01-01T00:00:00Z")), false);
        check("bootstrap-token-abcdef", Some(("expiration", "2027-01-01T00:00:00Z")), true);
        check("bootstrap-token-abcdef", Some(("expiration", "soon")), false);
    }

    #[test]
    fn signatures_of_gone_tokens_go() {
        let data = BTreeMap::from([
            (KUBECONFIG.to_owned(), "content".to_owned()),
            ("jws-kubeconfig-gonegn".to_owned(), "x".to_owned()),
        ]);
        let signed = signed(&data, "content", [("abcdef", "0123456789abcdef")].into_iter());
        let keys: Vec<_> = signed.keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", KUBECONFIG]);
    }
}
