//! One runtime: its configuration, its sandboxes and containers, and where their things are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::apparmor::AppArmor;
use crate::cgroup::Cgroups;
use crate::cni::Cni;
use crate::container::Container;
use crate::events::Events;
use crate::sandbox::Sandbox;
use crate::spec::user::Accounts;
use crate::streaming_server::Sessions;
use crate::systemd::Systemd;
use crate::table::Table;
use crate::trash::Trash;
use crate::{Config, Error, Result};

/// Images whose account files are kept in memory.
const MOST_ACCOUNTS: usize = 256;

pub struct Runtime {
    pub config: Config,
    pub images: images::Store,
    /// The lowest layer of every container.
    pub mount_points: PathBuf,
    pub bridge: net::bridge::Bridge,
    /// In place of the bridge.
    pub cni: Option<Cni>,
    pub cgroups: Cgroups,
    pub apparmor: AppArmor,
    /// Makes the groups of containers whose pods are in slices.
    pub systemd: Option<Systemd>,
    pub sandboxes: Table<Sandbox>,
    pub containers: Table<Container>,
    pub events: Events,
    /// What is left of containers that were removed.
    pub trash: Arc<Trash>,
    pub sessions: Sessions,
    /// Why pods cannot have a network yet.
    pub network_problem: Mutex<Option<String>>,
    /// Account files by image id: the same for every container of an image.
    pub accounts: Mutex<HashMap<String, Arc<Accounts>>>,
    pub boot_id: String,
}

impl Runtime {
    pub fn open(config: Config) -> Result<Self> {
        for directory in [config.root_dir.join("sandboxes"), config.root_dir.join("containers")] {
            crate::disk::make_private_dir(&directory)?;
        }
        for directory in
            [config.run_dir.join("sandboxes"), config.run_dir.join("containers"), config.run_dir.join("oci")]
        {
            crate::disk::make_private_dir(&directory)?;
        }
        let bridge = net::bridge::Bridge::open(net::bridge::BridgeConfig {
            name: config.bridge.clone(),
            state_dir: config.root_dir.join("net"),
            cluster_cidrs: config.cluster_cidrs.clone(),
            table: format!("corten-{}", config.bridge),
            ..Default::default()
        })?;
        let cni = match &config.cni {
            Some(c) => {
                let attached = config.root_dir.join("cni");
                Some(Cni::open(c.conf_dir.clone(), c.bin_dirs.clone(), attached)?)
            }
            None => None,
        };
        let boot_id = "/proc/sys/kernel/random/boot_id";
        Ok(Self {
            images: images::Store::open(&config.root_dir.join("images"))?,
            mount_points: crate::mount_points::layer(&config.root_dir)?,
            bridge,
            cni,
            cgroups: Cgroups::detect(),
            apparmor: AppArmor::detect(&config.run_dir),
            systemd: config.systemd_bus.clone().map(Systemd::new),
            sandboxes: Table::new("sandbox"),
            containers: Table::new("container"),
            events: Events::new(),
            trash: Arc::new(Trash::open(config.root_dir.join("trash"))?),
            sessions: Sessions::default(),
            network_problem: Mutex::new(Some("the pod CIDR of this node is not known yet".to_owned())),
            accounts: Mutex::default(),
            boot_id: std::fs::read_to_string(boot_id).map_err(Error::io("read", boot_id))?.trim().to_owned(),
            config,
        })
    }

    pub fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let mut containers = self.containers.list();
        containers.retain(|c| c.sandbox.id == sandbox);
        containers
    }

    pub fn sandbox_record(&self, id: &str) -> PathBuf {
        self.config.root_dir.join("sandboxes").join(format!("{id}.json"))
    }

    pub fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("sandboxes").join(id)
    }

    /// Record and writable layer of a container.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.config.root_dir.join("containers").join(id)
    }

    /// What an OCI runtime needs of a container: `config.json`, process id, its end.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("containers").join(id)
    }

    /// The account files of an image.
    pub fn accounts_of(&self, image: &images::Image, lowers: &[PathBuf]) -> Arc<Accounts> {
        if let Some(known) = self.accounts.lock().get(&image.id) {
            return known.clone();
        }
        let accounts = Arc::new(Accounts::of_image(lowers));
        let mut all = self.accounts.lock();
        // Images come and go without our being told.
        if all.len() >= MOST_ACCOUNTS {
            all.clear();
        }
        all.insert(image.id.clone(), accounts.clone());
        accounts
    }
}

/// Blocking calls that run at the same time. The kernel makes mounts and namespaces one after the other anyway, and
/// every further thread keeps a megabyte or two of memory.
static TURNS: Semaphore = Semaphore::const_new(16);

/// Who takes longer sits in a file system that hangs, for as long as that does: others need not wait for it.
const OVERDUE: Duration = Duration::from_secs(10);

/// Runs what blocks on a thread where that harms nobody. It must not wait for other blocking work.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    // The semaphore is never closed.
    let turn = TURNS.acquire().await;
    let mut work = tokio::task::spawn_blocking(work);
    let done = match tokio::time::timeout(OVERDUE, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            drop(turn);
            work.await
        }
    };
    match done {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// As long and random as the ids of other runtimes.
pub fn new_id() -> String {
    use std::fmt::Write;
    let bytes: [u8; 32] = rand::random();
    bytes.iter().fold(String::with_capacity(64), |mut id, b| {
        let _ = write!(id, "{b:02x}");
        id
    })
}
