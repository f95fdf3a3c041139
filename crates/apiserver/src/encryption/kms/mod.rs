//! Keys that are kept outside: a KMS plugin (v2) encrypts the seed from which data keys are made, see [`seed`].
//!
//! A thread of its own speaks with the plugin ([`follow`]), so that nobody else waits for it: the server asks for its
//! status once a minute (the protocol has no way to be told), and for a new seed when its key has changed. What has been
//! decrypted once is remembered. When the plugin has not said for three minutes that its key is the one in use, nothing
//! more is encrypted with it.

mod follow;
mod protocol;
mod seed;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prost::Message;
use serde_json::Value;
use tokio::sync::mpsc;

use follow::Ask;
use protocol::{DekSourceType, EncryptedObject};
use seed::DataKey;

/// Seeds that are remembered: one for each start of each server and each key.
const KNOWN: usize = 1000;
const MAX_KEY_ID: usize = 1 << 10;
const MAX_SOURCE: usize = 1 << 10;
const MAX_ANNOTATIONS: usize = 32 << 10;

/// One plugin.
pub struct Kms {
    name: String,
    prefix: Arc<str>,
    timeout: Duration,
    shared: Arc<Shared>,
    asks: mpsc::UnboundedSender<Ask>,
}

/// What the plugin's thread and the others know.
#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// Something has been found out.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    current: Option<Current>,
    /// Why the last status was not good; None before there was one.
    health: Option<Result<(), String>>,
    known: HashMap<[u8; 32], Known>,
}

/// A data key, and the mark of what is encrypted with it.
#[derive(Clone)]
struct Known {
    key: Arc<DataKey>,
    mark: Arc<str>,
}

/// With what objects are encrypted now.
#[derive(Clone)]
struct Current {
    known: Known,
    /// Without data.
    template: Arc<EncryptedObject>,
    until: Instant,
}

impl Kms {
    /// By the `kms` entry of a configuration; the plugin need not be there yet.
    pub fn read(config: &Value) -> Result<Self, String> {
        let name = config["name"].as_str().unwrap_or_default();
        if name.is_empty() || name.contains(':') {
            return Err(format!("kms.name: {name:?} is empty or has a colon"));
        }
        match config["apiVersion"].as_str() {
            Some("v2") => {}
            other => {
                let given = other.unwrap_or("v1");
                return Err(format!("kms.apiVersion: {given:?} is not supported, v2 is"));
            }
        }
        if !config["cachesize"].is_null() {
            return Err("kms.cachesize: is not supported in v2".to_owned());
        }
        let endpoint = config["endpoint"].as_str().unwrap_or_default();
        let socket = match endpoint.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => PathBuf::from(path),
            _ => {
                return Err(format!(
                    "kms.endpoint: {endpoint:?} is not of the form unix:///path/of/the.sock"
                ));
            }
        };
        let timeout = match config["timeout"].as_str() {
            None => Duration::from_secs(3),
            Some(text) => crate::options::go_duration(text)
                .filter(|timeout| !timeout.is_zero())
                .ok_or_else(|| format!("kms.timeout: {text:?} is not a positive duration"))?,
        };
        let shared = Arc::new(Shared::default());
        let prefix: Arc<str> = format!("k8s:enc:kms:v2:{name}:").into();
        let asks = follow::start(name, prefix.clone(), socket, timeout, shared.clone())?;
        Ok(Self { name: name.to_owned(), prefix, timeout, shared, asks })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn prefix(&self) -> &Arc<str> {
        &self.prefix
    }

    /// Whether the plugin is well; an error says what is wrong.
    pub fn health(&self) -> Result<(), String> {
        let inner = self.shared.inner.lock();
        let found = inner.health.clone().unwrap_or_else(|| Err("it has not been asked yet".to_owned()));
        found.map_err(|reason| format!("KMS plugin {:?}: {reason}", self.name))
    }

    /// The stored form of an object, and by which key it is encrypted.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<(Vec<u8>, Arc<str>), String> {
        let current = self.current()?;
        let data = current.known.key.seal(context, plain).ok_or("the machine has no randomness")?;
        let object = EncryptedObject { encrypted_data: data, ..(*current.template).clone() };
        let mut out = self.prefix.as_bytes().to_vec();
        object.encode(&mut out).map_err(|error| error.to_string())?;
        Ok((out, current.known.mark))
    }

    /// What was stored, and by which key it is encrypted; `data` is what follows the prefix.
    pub fn open(&self, context: &[u8], data: &[u8]) -> Result<(Vec<u8>, Arc<str>), String> {
        let object = EncryptedObject::decode(data).map_err(|_| "it is damaged".to_owned())?;
        let known = self.data_key(&object)?;
        let plain = known.key.open(context, &object.encrypted_data).ok_or("it is damaged")?;
        Ok((plain, known.mark))
    }

    /// Whether what carries this mark is encrypted with the key that is in use. While nobody knows, it is.
    pub fn is_current(&self, mark: &str) -> bool {
        let inner = self.shared.inner.lock();
        match &inner.current {
            Some(current) => *current.known.mark == *mark,
            None => mark.starts_with(&*self.prefix),
        }
    }

    /// Waits only where the plugin has never been heard of.
    fn current(&self) -> Result<Current, String> {
        let deadline = Instant::now() + self.timeout;
        let mut inner = self.shared.inner.lock();
        loop {
            match &inner.current {
                Some(current) if current.until > Instant::now() => return Ok(current.clone()),
                Some(_) => return Err("the plugin has not confirmed its key for too long".to_owned()),
                None => {}
            }
            if let Some(Err(reason)) = &inner.health {
                return Err(reason.clone());
            }
            if self.shared.changed.wait_until(&mut inner, deadline).timed_out() {
                return Err("the plugin does not answer".to_owned());
            }
        }
    }

    fn data_key(&self, object: &EncryptedObject) -> Result<Known, String> {
        check_sizes(&object.key_id, &object.encrypted_dek_source, &object.annotations)?;
        let kind = DekSourceType::try_from(object.encrypted_dek_source_type)
            .map_err(|_| "its data key is of a kind that is not known".to_owned())?;
        let id = identity(object);
        if let Some(known) = self.shared.inner.lock().known.get(&id) {
            return Ok(known.clone());
        }
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let question = EncryptedObject { encrypted_data: Vec::new(), ..object.clone() };
        self.asks.send(Ask { question, reply }).map_err(|_| "the plugin's thread has ended".to_owned())?;
        // The thread keeps to the timeout; this only makes sure.
        let source = answer
            .recv_timeout(self.timeout + Duration::from_secs(1))
            .map_err(|_| "the plugin does not answer".to_owned())??;
        let key = DataKey::new(kind, &source).ok_or("its data key has another size than it should")?;
        let known = Known { key: Arc::new(key), mark: mark(&self.prefix, &object.key_id) };
        self.shared.inner.lock().remember(id, known.clone());
        Ok(known)
    }
}

impl Inner {
    fn remember(&mut self, id: [u8; 32], known: Known) {
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(id, known);
    }

    /// Whether the key of this id is the one in use; then it is for longer.
    fn confirm(&mut self, key_id: &str, until: Instant) -> bool {
        match self.current.as_mut().filter(|current| current.template.key_id == key_id) {
            Some(current) => {
                current.until = until;
                true
            }
            None => false,
        }
    }
}

/// Who encrypted an object: the plugin, and which of its keys.
fn mark(prefix: &str, key_id: &str) -> Arc<str> {
    format!("{prefix}{key_id}").into()
}

/// What tells one encrypted data key from another.
fn identity(object: &EncryptedObject) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    };
    add(&object.encrypted_dek_source_type.to_le_bytes());
    add(&object.encrypted_dek_source);
    add(object.key_id.as_bytes());
    let mut annotations: Vec<_> = object.annotations.iter().collect();
    annotations.sort();
    for (key, value) in annotations {
        add(key.as_bytes());
        add(value);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The bounds of what is stored with every object.
fn check_sizes(key_id: &str, source: &[u8], annotations: &HashMap<String, Vec<u8>>) -> Result<(), String> {
    if key_id.is_empty() || key_id.len() > MAX_KEY_ID {
        return Err(format!("the id of its key has {} bytes: 1 to {MAX_KEY_ID} are allowed", key_id.len()));
    }
    if source.is_empty() || source.len() > MAX_SOURCE {
        return Err(format!("an encrypted seed has {} bytes: 1 to {MAX_SOURCE} are allowed", source.len()));
    }
    for name in annotations.keys() {
        if let Some(problem) = api::validation::names::dns1123_subdomain(name) {
            return Err(format!("annotation {name:?}: {problem}"));
        }
    }
    let size: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        return Err(format!("annotations have {size} bytes: {MAX_ANNOTATIONS} are allowed"));
    }
    Ok(())
}
