//! Parts running side by side: when one ends, all end, and the error says which it was.

use std::fs::File;
use std::future::Future;
use std::io::Write;

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::layout::Layout;

/// The parts of one role.
pub struct Parts {
    shutdown: CancellationToken,
    running: JoinSet<(&'static str, Result<()>)>,
}

impl Parts {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, running: JoinSet::new() }
    }

    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a part that runs until shutdown.
    pub fn start<E>(&mut self, name: &'static str, part: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<anyhow::Error>,
    {
        self.running.spawn(async move { (name, part.await.map_err(Into::into)) });
    }

    /// Waits until all parts have ended.
    pub async fn finish(mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(ended) = self.running.join_next().await {
            let outcome = match ended {
                Ok((name, Ok(()))) if self.shutdown.is_cancelled() => Ok(name),
                Ok((name, Ok(()))) => Err(anyhow::anyhow!("the {name} ended by itself")),
                Ok((name, Err(error))) => Err(error.context(format!("the {name} failed"))),
                Err(panic) => Err(anyhow::Error::new(panic).context("a part crashed")),
            };
            self.shutdown.cancel();
            if let Err(error) = outcome
                && first.is_ok()
            {
                first = Err(error);
            }
        }
        first
    }
}

/// Holds the directories of `layout` for this process alone.
pub fn lock(layout: &Layout) -> Result<File> {
    layout.ensure()?;
    let path = layout.lock();
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another Corten uses {}; stop it with: corten down, or choose other directories with --root-dir and --run-dir",
            layout.run.display()
        );
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .context("cannot write the lock file")?;
    Ok(file)
}
