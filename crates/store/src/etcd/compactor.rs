//! Forgets history that is older than an interval or two.
//!
//! All API servers of a cluster, upstream's too, do so under one key: whoever moves its version first in an interval
//! compacts to where the cluster was an interval before. None needs to know the others.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use tracing::{debug, warn};

use super::Shared;
use crate::{Error, Revision};

/// Where upstream keeps it, outside of any prefix.
const KEY: &str = "compact_rev_key";

#[derive(Clone, Copy, Default)]
struct Turn {
    /// The version of the key as it was last seen.
    version: i64,
    /// The revision of the cluster at that time.
    revision: Revision,
}

pub(super) async fn run(shared: Arc<Shared>, interval: Duration) {
    let mut turn = Turn::default();
    loop {
        tokio::time::sleep(interval).await;
        match take_turn(&shared, turn).await {
            Ok(next) => turn = next,
            Err(error) => warn!(%error, "the history of etcd was not compacted"),
        }
    }
}

async fn take_turn(shared: &Shared, turn: Turn) -> Result<Turn, Error> {
    let txn = Txn::new()
        .when([Compare::version(KEY, CompareOp::Equal, turn.version)])
        .and_then([TxnOp::put(KEY, turn.revision.to_string(), None)])
        .or_else([TxnOp::get(KEY, None)]);
    let answered = shared.members.call("take a turn in compacting", |member| {
        let (mut kv, txn) = (member.kv.clone(), txn.clone());
        async move { kv.txn(txn).await }
    });
    let response = answered.await?.value;
    let revision = response.header().map_or(0, |header| header.revision() as Revision);
    if !response.succeeded() {
        let responses = response.op_responses();
        let known = match responses.first() {
            Some(TxnOpResponse::Get(get)) => get.kvs().first(),
            _ => None,
        };
        // Another server has compacted: what is told here ends there too.
        let compacted = known.and_then(|kv| kv.value_str().ok()?.parse::<Revision>().ok());
        if let Some(compacted) = compacted.filter(|compacted| *compacted <= shared.feed.log.revision()) {
            shared.feed.compact(compacted);
        }
        return Ok(Turn { version: known.map_or(0, |kv| kv.version()), revision });
    }
    if turn.revision > 0 {
        shared.compact(turn.revision).await?;
        shared.feed.compact(turn.revision);
        debug!(revision = turn.revision, "compacted the history of etcd");
    }
    Ok(Turn { version: turn.version + 1, revision })
}
