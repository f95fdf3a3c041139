//! Several API servers of one store: what each has let through, and the others may not have seen yet.
//!
//! Per namespace there is one entry in the store, written with the condition that nobody else has written it since it
//! was read. Whoever reads it then makes sure that everything written before has been seen; so a request that somebody
//! has dropped from the entry, because its object is there, is counted by that object.

use ahash::RandomState;
use api::status::{GroupResource, Status};
use serde_json::Value;
use store::{Error, Expect, Store};
use tokio::sync::{Mutex, MutexGuard};

use super::Admitted;
use crate::state::store_failed;

/// Servers that race for one entry see a newer state each time.
pub const ATTEMPTS: usize = 64;

/// Within one server one request of a namespace at a time: to race against oneself is no use.
pub struct Turns {
    hasher: RandomState,
    locks: Vec<Mutex<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        const LOCKS: usize = 64;
        Self {
            hasher: RandomState::new(),
            locks: std::iter::repeat_with(Mutex::default).take(LOCKS).collect(),
        }
    }
}

impl Turns {
    pub async fn take(&self, namespace: &str) -> Option<MutexGuard<'_, ()>> {
        let index = self.hasher.hash_one(namespace) as usize % self.locks.len();
        match self.locks.get(index) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        }
    }
}

/// What is known of a namespace's requests under way.
pub struct Entry {
    key: String,
    expect: Expect,
    pub admitted: Vec<Admitted>,
}

impl Entry {
    pub async fn read(store: &Store, namespace: &str) -> Result<Self, Status> {
        let key = format!("/corten/quota/{namespace}");
        let failed = |error: Error| store_failed("admitted", &error);
        let found = store.get(key.as_bytes()).await.map_err(failed)?;
        store.settle().await.map_err(failed)?;
        let (expect, admitted) = match found {
            // Of a version that wrote something else: what it had let through is long there.
            Some(entry) => {
                (Expect::Revision(entry.modified), serde_json::from_slice(&entry.value).unwrap_or_default())
            }
            None => (Expect::Absent, Vec::new()),
        };
        Ok(Self { key, expect, admitted })
    }

    /// False when another server got in between.
    pub async fn write(self, store: &Store) -> Result<bool, Status> {
        let value = serde_json::to_vec(&self.admitted).map_err(Status::internal)?;
        match store.put(self.key, value, self.expect, None).await {
            Ok(_) => Ok(true),
            Err(Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(store_failed("admitted", &error)),
        }
    }
}

/// After [`ATTEMPTS`].
pub fn busy(quota: &Value) -> Status {
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let resource = GroupResource::new("", "resourcequotas");
    Status::conflict(resource, name, "others use the quota at the same time; please try again".to_owned())
}
