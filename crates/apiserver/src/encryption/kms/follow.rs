//! The thread that speaks with a plugin.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::protocol::{DecryptRequest, DekSourceType, EncryptRequest, EncryptedObject, Plugin};
use super::seed::{DataKey, SEED, random};
use super::{Current, Known, MAX_KEY_ID, Shared, check_sizes, identity, mark};

const WELL: Duration = Duration::from_secs(60);
const UNWELL: Duration = Duration::from_secs(10);
/// Longer than it is asked for again when it is well, so that one failure stops nobody.
const TRUSTED: Duration = Duration::from_secs(180);

/// A data key to decrypt.
pub struct Ask {
    pub question: EncryptedObject,
    pub reply: SyncSender<Result<Vec<u8>, String>>,
}

/// The thread ends when the sender is dropped.
pub fn start(
    name: &str,
    prefix: Arc<str>,
    socket: PathBuf,
    timeout: Duration,
    shared: Arc<Shared>,
) -> Result<mpsc::UnboundedSender<Ask>, String> {
    let (asks, mut questions) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("kms: {error}"))?;
    let name = name.to_owned();
    let run = move || {
        runtime.block_on(async move {
            // Made here: what keeps its connection is a task of this runtime, which nobody blocks.
            let plugin = Plugin::new(&socket, timeout);
            let status = tokio::spawn(watch(name, prefix, plugin.clone(), shared));
            while let Some(Ask { question, reply }) = questions.recv().await {
                let plugin = plugin.clone();
                tokio::spawn(async move {
                    // Nobody may be waiting any more.
                    let _ = reply.send(decrypt(&plugin, question).await);
                });
            }
            status.abort();
        });
    };
    std::thread::Builder::new().name("kms".to_owned()).spawn(run).map_err(|error| format!("kms: {error}"))?;
    Ok(asks)
}

async fn decrypt(plugin: &Plugin, question: EncryptedObject) -> Result<Vec<u8>, String> {
    let request = DecryptRequest {
        ciphertext: question.encrypted_dek_source,
        uid: uuid::Uuid::new_v4().to_string(),
        key_id: question.key_id,
        annotations: question.annotations,
    };
    plugin.decrypt(request).await.map(|answer| answer.plaintext)
}

/// Asks for the plugin's status, for ever.
async fn watch(name: String, prefix: Arc<str>, plugin: Plugin, shared: Arc<Shared>) {
    loop {
        let found = look(&plugin, &prefix, &shared).await;
        let before = shared.inner.lock().health.replace(found.clone());
        shared.changed.notify_all();
        match (&found, before) {
            (Err(reason), None | Some(Ok(()))) => warn!(plugin = name, reason, "the KMS plugin is not well"),
            (Ok(()), Some(Err(_))) => info!(plugin = name, "the KMS plugin is well again"),
            _ => {}
        }
        tokio::time::sleep(if found.is_ok() { WELL } else { UNWELL }).await;
    }
}

async fn look(plugin: &Plugin, prefix: &str, shared: &Shared) -> Result<(), String> {
    let status = plugin.status().await?;
    if !matches!(status.version.as_str(), "v2" | "v2beta1") {
        return Err(format!("it speaks version {:?}, not v2", status.version));
    }
    if status.healthz != "ok" {
        let said: String = status.healthz.chars().take(512).collect();
        return Err(format!("it says of itself {said:?}"));
    }
    if status.key_id.is_empty() || status.key_id.len() > MAX_KEY_ID {
        return Err(format!("the id of its key has {} bytes", status.key_id.len()));
    }
    let until = Instant::now() + TRUSTED;
    if shared.inner.lock().confirm(&status.key_id, until) {
        return Ok(());
    }
    let current = renewed(plugin, prefix, until).await?;
    let mut inner = shared.inner.lock();
    inner.remember(identity(&current.template), current.known.clone());
    inner.current = Some(current);
    Ok(())
}

/// A new seed, encrypted with the key that the plugin has now.
async fn renewed(plugin: &Plugin, prefix: &str, until: Instant) -> Result<Current, String> {
    let seed = random::<SEED>().ok_or("the machine has no randomness")?;
    let request = EncryptRequest { plaintext: seed.to_vec(), uid: uuid::Uuid::new_v4().to_string() };
    let answer = plugin.encrypt(request).await?;
    check_sizes(&answer.key_id, &answer.ciphertext, &answer.annotations)?;
    let kind = DekSourceType::HkdfSha256XnonceAesGcmSeed;
    let key = DataKey::new(kind, &seed).ok_or("a seed of another size than it should have")?;
    let template = EncryptedObject {
        encrypted_data: Vec::new(),
        key_id: answer.key_id,
        encrypted_dek_source: answer.ciphertext,
        annotations: answer.annotations,
        encrypted_dek_source_type: kind.into(),
    };
    let mark = mark(prefix, &template.key_id);
    Ok(Current { known: Known { key: Arc::new(key), mark }, template: Arc::new(template), until })
}
