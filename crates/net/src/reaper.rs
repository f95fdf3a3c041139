//! Removing many links for the price of one.
//!
//! Removing a link takes the kernel tens of milliseconds of waiting for other processors, under a lock that
//! also stops every new link. Removing a whole link group takes no longer. So whoever wants a link gone puts
//! it into a group, and one of those who wait removes the group for all of them.

use parking_lot::{Condvar, Mutex};

use crate::Result;
use crate::link;
use crate::netlink::Socket;

/// The group of links that are to be removed. Nothing but this module puts a link there.
const GROUP: u32 = 0x636f_7274;

#[derive(Default)]
struct Rounds {
    started: u64,
    finished: u64,
}

#[derive(Default)]
pub(crate) struct Reaper {
    rounds: Mutex<Rounds>,
    round_over: Condvar,
}

impl Reaper {
    /// Removes the link and returns when it is gone; one that does not exist is gone.
    pub fn remove(&self, socket: &mut Socket, name: &str) -> Result<()> {
        if !link::set_group(socket, name, GROUP)? {
            return Ok(());
        }
        let mut rounds = self.rounds.lock();
        // A round that runs now may have looked before the link was marked; the one after it will not.
        let mine = rounds.started + 1;
        while rounds.finished < mine {
            if rounds.started > rounds.finished {
                self.round_over.wait(&mut rounds);
                continue;
            }
            rounds.started += 1;
            drop(rounds);
            if let Err(error) = link::delete_group(socket, GROUP) {
                // Each of those who wait tries its own link below, and reports what it is told.
                tracing::warn!(%error, "cannot remove links together");
            }
            rounds = self.rounds.lock();
            rounds.finished = rounds.started;
            self.round_over.notify_all();
        }
        drop(rounds);
        link::delete(socket, name)
    }
}
