//! StopContainer: politely, then not.

use std::sync::Arc;
use std::time::Duration;

use shim_protocol::Request;
use tracing::debug;

use super::{Container, State};
use crate::state::{Runtime, blocking};
use crate::{Error, Result};

/// How long a killed process may take to end before the caller is told that it does not.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Runtime {
    /// Waits at most `seconds` after the stop signal. That it has ended, or never ran, is fine.
    pub async fn stop_container(self: &Arc<Self>, container: &Arc<Container>, seconds: i64) -> Result<()> {
        // Whoever is starting it gets to the end first; but nobody waits for a grace period that another has given.
        drop(container.busy.lock().await);
        if container.state() != State::Running {
            return Ok(());
        }
        let signal = container.record.lock().stop_signal;
        let patience = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if !patience.is_zero() && self.signal(container, signal).await {
            if tokio::time::timeout(patience, container.wait()).await.is_ok() {
                return Ok(());
            }
            debug!(container = container.id, seconds, "container did not stop in time; killed");
        }
        self.kill_container(container).await
    }

    pub async fn kill_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        if !self.signal(container, libc::SIGKILL).await {
            // No shim: its end will not be told by anyone.
            let (runtime, held) = (self.clone(), container.clone());
            blocking(move || {
                runtime.container_lost(&held);
                Ok(())
            })
            .await?;
        }
        // With a PID namespace of its own everything in it dies with the first process; without, not.
        let (cgroup, alone) = {
            let record = container.record.lock();
            (record.cgroup.clone(), record.pid_namespace.is_none() && record.built_in)
        };
        if alone {
            self.cgroups.thaw(&cgroup);
        } else {
            let runtime = self.clone();
            blocking(move || {
                runtime.cgroups.kill(&cgroup);
                Ok(())
            })
            .await?;
        }
        let ended = tokio::time::timeout(KILL_PATIENCE, container.wait()).await;
        ended.map_err(|_| {
            Error::DeadlineExceeded(format!("container {} has been killed but does not end", container.id))
        })
    }

    /// False if there is nobody to pass the signal on.
    async fn signal(&self, container: &Container, signal: i32) -> bool {
        let request = Request::Kill { container: container.id.clone(), signal };
        match container.sandbox.shim.call(request).await {
            Ok(_) => true,
            Err(error) => {
                debug!(container = container.id, signal, %error, "signal not delivered");
                false
            }
        }
    }
}
