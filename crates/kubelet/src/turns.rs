//! Work that blocks, a few pieces at a time.
//!
//! While a thread of tokio's is blocked, another takes its place: a hundred pods that start at once would otherwise make as
//! many threads, each with a heap of its own. The work is short, and the disk is one.

use std::time::Duration;

use tokio::sync::Semaphore;

static TURNS: Semaphore = Semaphore::const_new(4);

/// Who takes longer sits in a file system that hangs, for as long as that does: others need not wait for it.
const OVERDUE: Duration = Duration::from_secs(5);

/// Does the work when it is its turn.
pub async fn in_turn<R>(work: impl FnOnce() -> R) -> R {
    in_turn_for(OVERDUE, work).await
}

async fn in_turn_for<R>(overdue: Duration, work: impl FnOnce() -> R) -> R {
    // The semaphore is never closed.
    let turn = TURNS.acquire().await;
    let turn = tokio::spawn(async move {
        tokio::time::sleep(overdue).await;
        drop(turn);
    });
    let done = tokio::task::block_in_place(work);
    turn.abort();
    done
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_hangs_gives_up_the_turn() {
        let (released, hang) = mpsc::channel::<()>();
        let hang = std::sync::Arc::new(std::sync::Mutex::new(hang));
        let stuck: Vec<_> = (0..4)
            .map(|_| {
                let hang = hang.clone();
                let hangs = move || drop(hang.lock().map(|hang| hang.recv()));
                tokio::spawn(in_turn_for(Duration::from_millis(10), hangs))
            })
            .collect();
        assert_eq!(in_turn(|| 7).await, 7);
        drop(released);
        for task in stuck {
            task.await.unwrap();
        }
    }
}
