//! Tokens that are kept in Secrets: on which day each was last used, and which are not to be used any more.
//!
//! Nobody waits for the note of a use: it goes to a task, and one that does not fit into its queue is made at the
//! next use.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::warn;

use super::UserInfo;
use super::user::MASTERS;
use crate::admission::objects::{CONFIG_MAPS, Objects, SECRETS, name, namespace};
use crate::bootstrap::{USER, ensure_quietly};
use crate::state::State;
use crate::write::Writer;
use crate::write::update::Change;

const TYPE: &str = "kubernetes.io/service-account-token";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Since when uses are noted.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const MANAGER: &str = "kube-apiserver";
const WAITING: usize = 64;

/// Uses that are still to be noted: namespaces and names of Secrets.
pub struct Uses {
    sender: mpsc::Sender<(String, String)>,
    receiver: Mutex<Option<mpsc::Receiver<(String, String)>>>,
}

impl Default for Uses {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Uses {
    /// The token of this Secret has been used.
    pub fn note(&self, secret: &Value, now: Timestamp) {
        if holds_token(secret) && secret["metadata"]["labels"][LAST_USED] != day(now) {
            let _ = self.sender.try_send((namespace(secret).to_owned(), name(secret).to_owned()));
        }
    }
}

fn holds_token(secret: &Value) -> bool {
    secret["type"] == TYPE
}

/// Whether the token of this Secret is not to be used any more.
pub fn is_invalid(secret: &Value) -> bool {
    holds_token(secret) && !secret["metadata"]["labels"][INVALID_SINCE].is_null()
}

fn day(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).date().to_string()
}

/// Notes uses from now on, and since when that is done.
pub async fn start(state: &Arc<State>) -> Result<(), api::status::Status> {
    let since = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": TRACKING, "namespace": "kube-system"},
        "data": {"since": day(Timestamp::now())},
    });
    ensure_quietly(state, CONFIG_MAPS, since).await?;
    let Some(mut uses) = state.authenticator.uses.receiver.lock().take() else { return Ok(()) };
    let state = Arc::downgrade(state);
    tokio::spawn(async move {
        while let Some((namespace, name)) = uses.recv().await {
            let Some(state) = state.upgrade() else { return };
            if let Err(status) = mark(&state, &namespace, &name).await {
                warn!(namespace, name, error = %status.message, "the use of a token is not noted in its Secret");
            }
        }
    });
    Ok(())
}

async fn mark(state: &Arc<State>, namespace: &str, name: &str) -> Result<(), api::status::Status> {
    let today = day(Timestamp::now());
    let known = state.caches.get(SECRETS, namespace, name);
    // Several uses were under way.
    if known.is_none_or(|secret| secret["metadata"]["labels"][LAST_USED] == today) {
        return Ok(());
    }
    let catalog = state.catalog();
    let Some(served) = catalog.stored(SECRETS.group, SECRETS.resource) else { return Ok(()) };
    let (user, warnings) = (UserInfo::authenticated(USER, &[MASTERS]), Mutex::default());
    let writer = Writer { namespace, name, ..Writer::own(state, served, &user, MANAGER, &warnings) };
    let make = |secret: &Value| {
        let mut secret = secret.clone();
        if !secret["metadata"]["labels"].is_object() {
            secret["metadata"]["labels"] = json!({});
        }
        secret["metadata"]["labels"][LAST_USED] = json!(today);
        Ok(secret)
    };
    match writer.update(&Change { make: &make, managed: false, whole: false }).await {
        Err(status) if status.is("NotFound") => Ok(()),
        outcome => outcome.map(drop),
    }
}
