//! The etcd engine: a cluster keeps the state, several processes may write to it.
//!
//! A write is a transaction that compares the key's modification revision. It is acknowledged when etcd has, and when
//! the one watch of this process ([`follow`]) has brought it back and it has been told to the observers. That watch is
//! of all keys, also those outside the prefix: every revision of etcd is then an event of it, so that "everything up to
//! revision N has been told" needs no progress notifications, which not every release of etcd gets right.
//!
//! Requests go to one member until it fails or does not answer in time, then to the next ([`members`]).

mod compactor;
mod entries;
mod follow;
mod lost;
mod members;
mod newest;
mod notes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::embedded::Write;
use crate::feed::Feed;
use crate::{Entry, Error, Expect, Options, Range, Revision, Written};
use entries::{Root, entry};
use lost::Marks;
use members::{Answered, Members};
use newest::Newest;
use notes::Notes;

/// Where the cluster is, and what of it is ours.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `https://host:2379`, of every member.
    pub servers: Vec<String>,
    /// Signs the members' certificates. Needed for `https`.
    pub ca_file: Option<PathBuf>,
    /// With what this client identifies itself, both or neither.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Comes before every key.
    pub prefix: String,
    /// History older than this is forgotten; zero keeps it for ever. All who use the cluster take turns.
    pub compaction_interval: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "/registry".to_owned(),
            compaction_interval: Duration::from_secs(300),
        }
    }
}

/// Entries read at a time.
const PAGE: i64 = 500;
/// When this process is behind for so long, its watch is tried at another member.
const BEHIND: Duration = Duration::from_secs(1);
/// A health check waits no longer.
const CHECK: Duration = Duration::from_secs(2);

pub(crate) struct Shared {
    members: Members,
    feed: Arc<Feed>,
    root: Root,
    notes: Notes,
    newest: Newest,
    marks: Marks,
    /// The watch seems to have stalled.
    stalled: Notify,
}

pub(crate) struct Etcd {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Etcd {
    pub async fn connect(etcd: EtcdOptions, options: &Options) -> Result<(Arc<Self>, Arc<Feed>), Error> {
        let members = Members::connect(&etcd).await?;
        let feed = Arc::new(Feed::new(members.revision().await?, options.recent_events));
        let shared = Arc::new(Shared {
            members,
            feed: feed.clone(),
            root: Root::new(&etcd.prefix),
            notes: Notes::default(),
            newest: Newest::default(),
            marks: Marks::default(),
            stalled: Notify::new(),
        });
        let mut tasks = vec![tokio::spawn(follow::run(shared.clone()))];
        if !etcd.compaction_interval.is_zero() {
            tasks.push(tokio::spawn(compactor::run(shared.clone(), etcd.compaction_interval)));
        }
        Ok((Arc::new(Self { shared, tasks }), feed))
    }

    pub async fn check(&self) -> Result<(), Error> {
        let shared = &self.shared;
        match tokio::time::timeout(CHECK, newest::get(shared)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(shared.members.unavailable("answer", CHECK, "no answer".to_owned())),
        }
    }

    /// Waits until all that had happened before the call has been told.
    pub async fn settle(&self) -> Result<Revision, Error> {
        let newest = newest::get(&self.shared).await?;
        self.shared.catch_up(newest).await?;
        Ok(self.shared.feed.log.revision())
    }

    pub async fn write(&self, write: Write) -> Result<Written, Error> {
        let shared = &self.shared;
        let key = shared.root.full(&write.key);
        let _left = write
            .note
            .clone()
            .zip(write.value.clone())
            .map(|(note, value)| shared.notes.leave(write.key.clone(), value, note));
        let mark = shared.marks.next();
        let txn = transaction(&key, &write, shared.root.mark(), &mark);
        let answered = shared
            .members
            .call("write", |member| {
                let (mut kv, txn) = (member.kv.clone(), txn.clone());
                async move { kv.txn(txn).await }
            })
            .await?;
        let Answered { value: response, again } = answered;
        let revision = response.header().map_or(0, |header| header.revision() as Revision);
        let first = response.op_responses().into_iter().next();
        let written = match first {
            Some(TxnOpResponse::Put(put)) => {
                let previous = put.prev_key().and_then(|kv| entry(&shared.root, kv));
                Ok(Written { revision, previous })
            }
            Some(TxnOpResponse::Delete(delete)) => {
                let previous = delete.prev_kvs().first().and_then(|kv| entry(&shared.root, kv));
                Ok(Written { revision, previous })
            }
            Some(TxnOpResponse::Get(get)) => {
                let current = get.kvs().first().and_then(|kv| entry(&shared.root, kv));
                let done = match again {
                    // An attempt whose answer got lost may have been carried out.
                    true => lost::find(shared, &key, &write, &mark, current.clone()).await?,
                    false => None,
                };
                match done {
                    Some(revision) => Ok(Written { revision, previous: None }),
                    None => Err(Error::Conflict { current: current.map(Box::new) }),
                }
            }
            Some(TxnOpResponse::Txn(_)) | None => {
                let reason = "its answer does not fit the request".to_owned();
                return Err(Error::Refused { operation: "write", reason });
            }
        };
        if let Err(error) = shared.catch_up(revision).await {
            // It is durable all the same.
            warn!(%error, revision, "a write was acknowledged before it could be read here");
        }
        written
    }

    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        let shared = &self.shared;
        let key = shared.root.full(key);
        let response = shared
            .members
            .call("read", |member| {
                let (mut kv, key) = (member.kv.clone(), key.clone());
                async move { kv.get(key, None).await }
            })
            .await?;
        Ok(response.value.kvs().first().and_then(|kv| entry(&shared.root, kv)))
    }

    pub async fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, Error> {
        self.shared.range(prefix, after, limit, at).await
    }

    pub async fn load(
        &self,
        prefix: &[u8],
        found: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<Revision, Error> {
        self.shared.load(prefix, found).await
    }

    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.shared.compact(revision).await
    }

    pub async fn sizes(&self) -> Vec<Option<u64>> {
        self.shared.members.sizes().await
    }
}

/// The write, on its condition; with a mark where it may have to be told from another one of the same bytes.
fn transaction(key: &[u8], write: &Write, mark_key: Vec<u8>, mark: &[u8]) -> Txn {
    let marking = write.value.as_ref().map(|_| TxnOp::put(mark_key, mark, None));
    let operation = match &write.value {
        Some(value) => TxnOp::put(key, &value[..], Some(PutOptions::new().with_prev_key())),
        None => TxnOp::delete(key, Some(DeleteOptions::new().with_prev_key())),
    };
    let expected = match write.expect {
        Expect::Anything => return Txn::new().and_then([operation]),
        Expect::Absent => 0,
        Expect::Revision(revision) => revision_of(revision),
    };
    Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, expected)])
        .and_then([operation].into_iter().chain(marking).collect::<Vec<_>>())
        .or_else([TxnOp::get(key, None)])
}

/// As etcd counts; one that it cannot have is never reached.
fn revision_of(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

impl Shared {
    async fn catch_up(&self, revision: Revision) -> Result<(), Error> {
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < members::PATIENCE {
            if tokio::time::timeout(BEHIND, self.feed.told(revision)).await.is_ok() {
                return Ok(());
            }
            self.stalled.notify_one();
        }
        let reached = self.feed.log.revision();
        let reason = format!("revision {revision} has not arrived, the last to arrive was {reached}");
        Err(self.members.unavailable("follow", members::PATIENCE, reason))
    }

    async fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, Error> {
        let prefix = self.root.full(prefix);
        let end = entries::end_of(&prefix);
        let start = match after.map(|after| [&self.root.full(after)[..], b"\0"].concat()) {
            Some(after) if after > prefix => after,
            _ => prefix,
        };
        let mut options = GetOptions::new().with_range(end);
        // Zero is no limit.
        let limit = i64::try_from(limit).unwrap_or(0);
        if limit > 0 {
            options = options.with_limit(limit);
        }
        if let Some(at) = at {
            options = options.with_revision(revision_of(at));
        }
        let answered = self.members.call("read", |member| {
            let (mut kv, start, options) = (member.kv.clone(), start.clone(), options.clone());
            async move { kv.get(start, Some(options)).await }
        });
        let response = match answered.await {
            Ok(answered) => answered.value,
            Err(Error::Refused { reason, .. }) if at.is_some() && reason.contains("compacted") => {
                return Err(Error::Compacted { requested: at.unwrap_or(0), oldest: self.feed.log.since() });
            }
            Err(Error::Refused { reason, .. }) if at.is_some() && reason.contains("future") => {
                let current = self.feed.log.revision();
                return Err(Error::Future { requested: at.unwrap_or(0), current });
            }
            Err(error) => return Err(error),
        };
        let newest = response.header().map_or(0, |header| header.revision() as Revision);
        Ok(Range {
            entries: response.kvs().iter().filter_map(|kv| entry(&self.root, kv)).collect(),
            more: response.more(),
            revision: at.unwrap_or(newest),
        })
    }

    /// Visits every entry with `prefix`, all of one revision, which is returned.
    async fn load(&self, prefix: &[u8], found: &mut (dyn FnMut(Entry) + Send)) -> Result<Revision, Error> {
        let mut at = None;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.range(prefix, after.as_deref(), PAGE as usize, at).await?;
            at = Some(page.revision);
            after = page.entries.last().map(|entry| entry.key.to_vec());
            page.entries.into_iter().for_each(&mut *found);
            if !page.more || after.is_none() {
                return Ok(page.revision);
            }
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let compacted = self.members.call("compact", |member| {
            let mut kv = member.kv.clone();
            async move { kv.compact(revision_of(revision), None).await }
        });
        match compacted.await {
            Ok(_) => Ok(()),
            // Somebody else has been there.
            Err(Error::Refused { reason, .. }) if reason.contains("compacted") => Ok(()),
            Err(error) => Err(error),
        }
    }
}
