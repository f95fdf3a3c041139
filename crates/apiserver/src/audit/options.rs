//! Where audit events go, as the command line says.

use std::path::PathBuf;
use std::time::Duration;

/// Without a policy nothing is audited.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// An `audit.k8s.io/v1` Policy, read once at the start as upstream does.
    pub policy_file: Option<PathBuf>,
    pub log: Option<LogOptions>,
    pub webhook: Option<WebhookOptions>,
}

/// What a request has to do with the writing of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: events queue up, and are dropped and counted when the queue is full.
    Batch,
    /// It waits until they are written; failures are logged.
    Blocking,
    /// As `Blocking`, and it fails when its RequestReceived event cannot be written.
    BlockingStrict,
}

/// How events are gathered in batches.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Events that wait at most.
    pub buffer: usize,
    pub max_size: usize,
    pub max_wait: Duration,
}

/// Events as lines of JSON in a file.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `-` is standard output.
    pub path: PathBuf,
    pub mode: Mode,
    pub batching: Batching,
    /// Megabytes after which the file is set aside; never when 0.
    pub max_size: u64,
    /// Days after which files that were set aside are removed; never when 0.
    pub max_age: u64,
    /// How many of them are kept; all when 0.
    pub max_backups: usize,
    /// Whether they are compressed.
    pub compress: bool,
}

/// Events as EventLists posted to a server.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    pub kubeconfig: PathBuf,
    pub mode: Mode,
    pub batching: Batching,
    pub initial_backoff: Duration,
}

impl LogOptions {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: Mode::Blocking,
            batching: Batching { buffer: 10_000, max_size: 1, max_wait: Duration::ZERO },
            max_size: 0,
            max_age: 0,
            max_backups: 0,
            compress: false,
        }
    }
}

impl WebhookOptions {
    pub fn new(kubeconfig: impl Into<PathBuf>) -> Self {
        Self {
            kubeconfig: kubeconfig.into(),
            mode: Mode::Batch,
            batching: Batching { buffer: 10_000, max_size: 400, max_wait: Duration::from_secs(30) },
            initial_backoff: Duration::from_secs(10),
        }
    }
}
