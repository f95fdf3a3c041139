//! Parts of which one process of several is to do the work.

use std::future::Future;

use anyhow::{Context, Result};
use client::leader::{Election, LeadError};
use exposition::{Family, Kind, Meters};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::address;
use crate::cli::LeaderArgs;
use crate::parts::Parts;

const STATUS: &str = "leader_election_master_status";

/// Whether this process leads, by lease.
pub static LEADS: Meters = Meters::new(&[Family {
    name: STATUS,
    kind: Kind::Gauge,
    help: "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' is the string used to identify the lease. Please make sure to group by name.",
}]);

/// Whether, and how, this process asks to lead.
#[derive(Clone)]
pub struct Leading {
    args: Option<LeaderArgs>,
    /// When the lead is lost the process ends, so that nothing of what it did goes on; unless there are other parts in
    /// it that must not end with this one.
    alone: bool,
    /// Of the lease, where they are not the usual ones.
    namespace: Option<String>,
    name: Option<String>,
}

impl Leading {
    /// A process that is nothing else.
    pub fn alone(args: LeaderArgs) -> Self {
        Self {
            args: args.leader_elect.unwrap_or(true).then_some(args),
            alone: true,
            namespace: None,
            name: None,
        }
    }

    /// Beside an API server; others can only be there where the store is shared.
    pub fn beside(args: &LeaderArgs, shared: bool) -> Self {
        Self {
            args: args.leader_elect.unwrap_or(shared).then(|| args.clone()),
            alone: false,
            namespace: None,
            name: None,
        }
    }

    /// The lease is this one.
    pub fn under(self, namespace: Option<String>, name: Option<String>) -> Self {
        Self { namespace, name, ..self }
    }

    /// Starts the part that `make` makes, at once or whenever this process leads under `lease`.
    pub fn start<E, F>(
        &self,
        parts: &mut Parts,
        name: &'static str,
        lease: &str,
        client: kube::Client,
        mut make: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let shutdown = parts.shutdown();
        let Some(args) = &self.args else {
            parts.start(name, make(shutdown));
            return Ok(());
        };
        let usual = Election::new(lease, identity()?);
        let election = Election {
            lease_duration: args.leader_elect_lease_duration,
            renew_deadline: args.leader_elect_renew_deadline,
            retry_period: args.leader_elect_retry_period,
            namespace: self.namespace.clone().unwrap_or(usual.namespace),
            name: self.name.clone().unwrap_or(usual.name),
            identity: usual.identity,
        };
        let alone = self.alone;
        let name_of_lease = election.name.clone();
        let leads = move |now: f64| LEADS.set(STATUS, &[("name", name_of_lease.as_str())], now);
        parts.start(name, async move {
            loop {
                leads(0.0);
                let part = |stop| {
                    leads(1.0);
                    make(stop)
                };
                match election.lead(client.clone(), shutdown.clone(), part).await {
                    Err(error @ LeadError::Lost { .. }) if !alone => warn!(%error, "waiting to lead again"),
                    ended => return ended.map_err(anyhow::Error::new),
                }
            }
        });
        Ok(())
    }
}

/// Host name and something that no other process has.
fn identity() -> Result<String> {
    const UNIQUE: &str = "/proc/sys/kernel/random/uuid";
    let unique = std::fs::read_to_string(UNIQUE).with_context(|| format!("cannot read {UNIQUE}"))?;
    Ok(format!("{}_{}", address::hostname()?, unique.trim()))
}
