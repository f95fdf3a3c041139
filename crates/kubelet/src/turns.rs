//! Work that blocks, a few pieces at a time.
//!
//! While a thread of tokio's is blocked, another takes its place: a hundred pods that start at once would otherwise make as
//! many threads, each with a heap of its own. The work is short, and the disk is one.

use tokio::sync::Semaphore;

static TURNS: Semaphore = Semaphore::const_new(4);

/// Does the work when it is its turn.
pub async fn in_turn<R>(work: impl FnOnce() -> R) -> R {
    // The semaphore is never closed.
    let _turn = TURNS.acquire().await;
    tokio::task::block_in_place(work)
}
