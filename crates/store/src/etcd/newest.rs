//! The newest revision of the cluster, asked for once for all who want to know it at a time.
//!
//! An answer is good for whoever asked before the question was sent. Those who come while one is under way share the
//! next.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Shared;
use crate::{Error, Revision};

#[derive(Default)]
pub(crate) struct Newest(Mutex<State>);

#[derive(Default)]
struct State {
    asking: bool,
    waiting: Vec<oneshot::Sender<Result<Revision, Error>>>,
}

pub(super) async fn get(shared: &Arc<Shared>) -> Result<Revision, Error> {
    let (sender, answer) = oneshot::channel();
    let idle = {
        let mut state = shared.newest.0.lock();
        state.waiting.push(sender);
        !std::mem::replace(&mut state.asking, true)
    };
    if idle {
        // A task of its own: whoever came first may give up, the others still wait.
        tokio::spawn(ask(shared.clone()));
    }
    answer.await.map_err(|_| Error::Closed)?
}

async fn ask(shared: Arc<Shared>) {
    loop {
        let waiting = {
            let mut state = shared.newest.0.lock();
            if state.waiting.is_empty() {
                state.asking = false;
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        let newest = shared.members.revision().await;
        for waiting in waiting {
            let _ = waiting.send(newest.clone());
        }
    }
}
