//! Where everything is. Two directories, so that several nodes can live on one machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub const DEFAULT_ROOT: &str = "/var/lib/corten";
const KUBELET_ROOT: &str = "/var/lib/kubelet";

/// The paths of one Corten.
#[derive(Clone)]
pub struct Layout {
    pub root: PathBuf,
    pub run: PathBuf,
}

impl Layout {
    pub fn new(root: &Path, run: &Path) -> Self {
        Self { root: root.to_owned(), run: run.to_owned() }
    }

    /// Makes the two directories, private to root.
    pub fn ensure(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        for directory in [&self.root, &self.run] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        Ok(())
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.pki().join("admin.conf")
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// Where the process that uses the store can be asked about it.
    pub fn store_socket(&self) -> PathBuf {
        self.run.join("store.sock")
    }

    pub fn images(&self) -> PathBuf {
        self.runtime_root().join("images")
    }

    pub fn runtime_root(&self) -> PathBuf {
        self.root.join("runtime")
    }

    pub fn runtime_run(&self) -> PathBuf {
        self.run.join("runtime")
    }

    /// The kubelet's: where the plugins of a machine (drivers of volumes, devices) look for it, unless several nodes
    /// share the machine.
    pub fn kubelet(&self) -> PathBuf {
        // Upstream's kubelet calls that its root directory, and scripts say so.
        let is_kubelets = self.root == Path::new(KUBELET_ROOT);
        if self.is_of_the_machine() || is_kubelets { KUBELET_ROOT.into() } else { self.root.join("kubelet") }
    }

    /// This is the machine's only Corten.
    pub fn is_of_the_machine(&self) -> bool {
        self.root == Path::new(DEFAULT_ROOT)
    }

    pub fn cri_socket(&self) -> PathBuf {
        self.run.join("cri.sock")
    }

    pub fn lock(&self) -> PathBuf {
        self.run.join("corten.pid")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("corten.log")
    }
}
