//! What has been removed but not yet deleted: a tree is renamed away at once and deleted when nobody waits for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::warn;

use crate::{Error, Result, disk};

pub struct Trash {
    dir: PathBuf,
    filled: Arc<Notify>,
}

impl Trash {
    /// `dir` is on the filesystem of what will be discarded.
    pub fn open(dir: PathBuf) -> Result<Self> {
        disk::make_private_dir(&dir)?;
        let filled = Arc::new(Notify::new());
        // What an earlier process left.
        filled.notify_one();
        Ok(Self { dir, filled })
    }

    /// From here on the tree is gone; that it is gone already is fine.
    pub fn discard(&self, tree: &Path) -> Result<()> {
        let Some(name) = tree.file_name() else { return Ok(()) };
        match fs::rename(tree, self.dir.join(name)) {
            Ok(()) => self.filled.notify_one(),
            // Something of that name waits still, say.
            Err(_) => disk::remove_tree(tree)?,
        }
        Ok(())
    }

    /// Deletes what comes, as long as this process lives.
    pub async fn empty(self: Arc<Self>) {
        loop {
            self.filled.notified().await;
            let trash = self.clone();
            let deleted = tokio::task::spawn_blocking(move || trash.delete_all()).await;
            if let Ok(Err(error)) = deleted {
                warn!(%error, "what has been removed still takes up space; the next start tries again");
            }
        }
    }

    pub fn delete_all(&self) -> Result<()> {
        let trees = fs::read_dir(&self.dir).map_err(Error::io("list", &self.dir))?;
        // One that cannot be deleted does not keep the others.
        trees.flatten().map(|tree| disk::remove_tree(&tree.path())).fold(Ok(()), Result::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_discarded_is_gone_and_then_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let trash = Arc::new(Trash::open(dir.path().join("trash")).unwrap());
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("deep")).unwrap();
        trash.discard(&tree).unwrap();
        assert!(!tree.exists());
        trash.discard(&tree).unwrap();
        // Somebody else's of an earlier time, and a name that is taken.
        for _ in 0..2 {
            fs::create_dir_all(tree.join("deeper")).unwrap();
            trash.discard(&tree).unwrap();
            assert!(!tree.exists());
        }
        trash.delete_all().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
    }
}
