//! After a restart: what was there before is found again, what died meanwhile is told, what was half made is removed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use tracing::{info, warn};

use crate::container::{self, Container, State};
use crate::sandbox::{self, Sandbox};
use crate::state::Runtime;
use crate::{Error, Result, disk};

impl Runtime {
    /// Mounts below the run directory stay here: they are not passed on to namespaces that share the host's.
    pub fn isolate_mounts(&self) -> Result<()> {
        let directory = &self.config.run_dir;
        if mount_change(directory, MountPropagationFlags::PRIVATE).is_ok() {
            return Ok(());
        }
        mount_bind(directory, directory).map_err(Error::errno("bind mount on itself", directory))?;
        mount_change(directory, MountPropagationFlags::PRIVATE)
            .map_err(Error::errno("make a private mount of", directory))
    }

    pub async fn recover(self: &Arc<Self>) -> Result<()> {
        for path in entries(&self.config.root_dir.join("sandboxes"))? {
            if path.extension() == Some(OsStr::new("json")) {
                self.recover_sandbox(&path).await;
            } else {
                disk::ignore_missing(fs::remove_file(&path)).map_err(Error::io("remove", &path))?;
            }
        }
        for path in entries(&self.config.root_dir.join("containers"))? {
            self.recover_container(&path)?;
        }
        for sandbox in self.sandboxes.list() {
            if sandbox.record.lock().ready && self.watch_shim(&sandbox).await.is_err() {
                self.shim_lost(&sandbox).await;
            }
            for container in self.containers_of(&sandbox.id) {
                self.settle(&container, &sandbox);
            }
        }
        self.remove_strays().await?;
        let sandboxes = self.sandboxes.list();
        let alive: Vec<&str> =
            sandboxes.iter().filter(|s| !s.record.lock().released).map(|s| s.id.as_str()).collect();
        self.retain_networks(&alive).await?;
        info!(sandboxes = sandboxes.len(), containers = self.containers.list().len(), "state loaded");
        Ok(())
    }

    async fn recover_sandbox(self: &Arc<Self>, path: &Path) {
        let mut record: sandbox::Record = match disk::load(path) {
            Ok(record) => record,
            Err(error) => {
                warn!(%error, "a sandbox's record cannot be read; the sandbox is removed");
                let _ = fs::remove_file(path);
                return;
            }
        };
        // Nothing of a sandbox survives a reboot; process ids of then mean others now.
        if record.boot_id != self.boot_id {
            record.ready = false;
            record.shim_pid = 0;
            record.pod_init = None;
        }
        let id = record.id.clone();
        if let Err(error) = self.sandboxes.reserve(&record.name(), &id) {
            warn!(sandbox = id, %error, "two sandboxes of one name");
        }
        self.sandboxes.insert(&id, Arc::new(Sandbox::new(record, self.sandbox_dir(&id))));
    }

    fn recover_container(self: &Arc<Self>, dir: &Path) -> Result<()> {
        let id = dir.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let record = disk::load::<container::Record>(&dir.join("container.json"));
        let known = record.and_then(|record| Ok((self.sandboxes.get(&record.sandbox)?, record)));
        let (sandbox, record) = match known {
            Ok(known) => known,
            Err(error) => {
                warn!(container = id, %error, "what is left of a container is removed");
                return self.clean_container(&id);
            }
        };
        if let Err(error) = self.containers.reserve(&record.name(&sandbox.id), &id) {
            warn!(container = id, %error, "two containers of one name");
        }
        self.containers.insert(&id, Arc::new(Container::new(record, sandbox)));
        Ok(())
    }

    /// What the shim did not speak of has ended with it.
    fn settle(self: &Arc<Self>, container: &Arc<Container>, sandbox: &Sandbox) {
        let over = !sandbox.record.lock().ready;
        if over && container.state() == State::Running {
            self.container_lost(container);
        }
    }

    /// Sandboxes of which there is a directory but no record: their making was cut short, so nobody was told of them.
    async fn remove_strays(self: &Arc<Self>) -> Result<()> {
        for dir in entries(&self.config.run_dir.join("sandboxes"))? {
            let id = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if self.sandboxes.get(id).is_ok() {
                continue;
            }
            warn!(sandbox = id, "a sandbox that was never finished is removed");
            let record = sandbox::Record::stray(id, &self.boot_id);
            self.release_sandbox(&Arc::new(Sandbox::new(record, dir.clone()))).await?;
        }
        for bundle in entries(&self.config.run_dir.join("containers"))? {
            let id = bundle.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
            if self.containers.get(&id).is_err() {
                self.clean_container(&id)?;
            }
        }
        Ok(())
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(Error::io("list", directory))?;
    Ok(entries.flatten().map(|e| e.path()).collect())
}
