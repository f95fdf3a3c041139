//! Volumes of CSI drivers.
//!
//! A driver registers through the plugin watcher ([`register`]), the API learns of it ([`node_object`]). A volume is
//! attached by somebody else ([`attach`]), then staged for the node and published for the pod ([`mount`]), and taken
//! back in the reverse order ([`unmount`]). What is needed for that lies beside the volume on disk ([`saved`]), as
//! upstream's kubelet puts it there, so that a restarted kubelet of either goes on where the other stopped.

mod attach;
mod driver;
mod expand;
mod mount;
mod node_object;
mod request;
mod saved;
pub mod stats;
mod unmount;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::context::Context;
use driver::Driver;
pub use expand::expand;
pub use mount::{Wanted, mount};
pub use node_object::keep as keep_node_object;
pub use unmount::take_back;

/// The drivers of this node and the volumes that they have here.
#[derive(Default)]
pub struct Csi {
    drivers: Mutex<HashMap<String, Driver>>,
    /// By [`unique_name`]: the node tells of them, so that nobody takes them away.
    in_use: Mutex<BTreeSet<String>>,
    /// Volumes that this process has staged, and published, by their directories.
    staged: Mutex<BTreeSet<std::path::PathBuf>>,
    /// One thing at a time is done about a volume.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Volumes have come into use or gone out of it.
    pub in_use_changed: Notify,
}

impl Csi {
    /// What the last kubelet has left is still in use.
    pub fn new(root: &Path) -> Self {
        let this = Self::default();
        let known = saved::all_below(root);
        this.in_use
            .lock()
            .extend(known.iter().filter(|saved| saved.is_persistent()).map(saved::Saved::unique_name));
        this
    }

    pub fn volumes_in_use(&self) -> Vec<String> {
        self.in_use.lock().iter().cloned().collect()
    }

    fn begin_use(&self, name: &str) {
        if self.in_use.lock().insert(name.to_owned()) {
            self.in_use_changed.notify_one();
        }
    }

    fn end_use(&self, name: &str) {
        if self.in_use.lock().remove(name) {
            self.in_use_changed.notify_one();
        }
    }

    fn driver(&self, name: &str) -> Result<Driver, String> {
        let known = self.drivers.lock().get(name).cloned();
        known.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    fn lock(&self, volume: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock();
        busy.retain(|_, lock| Arc::strong_count(lock) > 1);
        busy.entry(volume.to_owned()).or_default().clone()
    }
}

/// A driver has come. Answers with what [`deregister`] takes.
pub async fn register(ctx: &Arc<Context>, name: &str, endpoint: &Path) -> Result<u64, String> {
    let driver = Driver::ask(name, endpoint).await?;
    let registration = driver.registration;
    ctx.csi.drivers.lock().insert(name.to_owned(), driver);
    // Its pods need not wait for the API to hear of it, but the scheduler does.
    node_object::tell(ctx, None).await?;
    Ok(registration)
}

/// A driver has gone, unless another one has taken its name since.
pub async fn deregister(ctx: &Arc<Context>, name: &str, registration: u64) {
    {
        let mut drivers = ctx.csi.drivers.lock();
        if drivers.get(name).is_none_or(|known| known.registration != registration) {
            return;
        }
        drivers.remove(name);
    }
    if let Err(error) = node_object::tell(ctx, Some(name)).await {
        warn!(driver = name, error, "cannot tell the API that a CSI driver has gone");
    }
}
