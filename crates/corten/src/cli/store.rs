//! Where the state is kept, how that is looked after, and who of several leads.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

/// Flags of upstream's API server.
#[derive(Args, Clone)]
pub struct EtcdArgs {
    /// Members of the etcd cluster that keeps the state, with commas between [default: an embedded store]
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub etcd_servers: Vec<String>,
    /// The authority that signed the members' certificates
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate by which etcd knows this server
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// Comes before every key
    #[arg(long, default_value = "/registry", value_name = "PREFIX")]
    pub etcd_prefix: String,
    /// How often etcd is told to forget older history; 0 for never
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    pub etcd_compaction_interval: Duration,
}

impl EtcdArgs {
    /// The cluster to use, if any.
    pub fn options(&self) -> Option<store::EtcdOptions> {
        (!self.etcd_servers.is_empty()).then(|| store::EtcdOptions {
            servers: self.etcd_servers.clone(),
            ca_file: self.etcd_cafile.clone(),
            cert_file: self.etcd_certfile.clone(),
            key_file: self.etcd_keyfile.clone(),
            prefix: self.etcd_prefix.clone(),
            compaction_interval: self.etcd_compaction_interval,
        })
    }
}

/// Flags of upstream's controller manager and scheduler.
#[derive(Args, Clone)]
pub struct LeaderArgs {
    /// Work only while holding a Lease, so that several processes may run [default: true, but false where API server and
    /// embedded store are in the same process]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_name = "BOOL")]
    pub leader_elect: Option<bool>,
    /// Others wait so long for a leader that does not renew
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// A leader that cannot renew for so long gives up
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// Between attempts to renew
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => kubelet::duration(text).ok_or_else(|| "expected a duration such as 15s or 1m30s".to_owned()),
    }
}

#[derive(Subcommand, Clone)]
pub enum StoreCommand {
    /// Show how much it holds
    Status,
    /// Forget history, up to a revision: watches from before it begin anew
    Compact {
        /// [default: the current one]
        revision: Option<u64>,
    },
    /// Give unused room of the file back; everybody waits meanwhile
    Defragment,
    /// Save the whole state to a file, and make a store from such a file
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
}

#[derive(Subcommand, Clone)]
pub enum SnapshotCommand {
    /// Save the state to a file, also while the cluster runs
    Save { file: PathBuf },
    /// Make the store from a snapshot, where there is none yet
    Restore {
        file: PathBuf,
        /// Revisions left out, so that clients notice; more than have happened since the snapshot
        #[arg(long, default_value_t = store::snapshot::DEFAULT_BUMP, value_name = "COUNT")]
        bump_revision: u64,
    },
    /// Check a snapshot and show what is in it
    Status { file: PathBuf },
}
