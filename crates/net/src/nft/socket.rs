//! Committing batches.

use super::batch::{Batch, describe};
use super::{Family, nfgen};
use crate::error::Context;
use crate::netlink::{KernelError, Message, Socket};
use crate::{Error, Result};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;

/// Removes a table, where there is one, with all that is in it.
pub fn remove_table(family: Family, name: &str) -> Result<()> {
    let mut batch = Batch::new(family, name);
    batch.add_table();
    batch.delete_table();
    Nft::open()?.commit(&mut batch)
}

/// Beginning and end of a batch, and slack.
const FRAME: usize = 128;

/// A connection to nftables, of the network namespace in which it was opened.
pub struct Nft {
    pub(super) socket: Socket,
    limit: usize,
}

impl Nft {
    pub fn open() -> Result<Self> {
        let open = || {
            let mut socket = Socket::netfilter()?;
            socket.reserve_receive(1 << 20);
            let limit = socket.reserve_send(1 << 20);
            Ok(Self { socket, limit })
        };
        open().context("open", "an nftables netlink socket")
    }

    /// Makes all changes of the batch, or none.
    ///
    /// Where the system limits socket buffers and will not make an exception (a user namespace), a batch
    /// larger than the limit is committed in parts, in order.
    pub fn commit(&mut self, batch: &mut Batch) -> Result<()> {
        let needed = batch.bytes() + FRAME;
        if needed > self.limit {
            self.limit = self.socket.reserve_send(needed);
        }
        let mut rest = &mut batch.messages[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(how_many_fit(rest, self.limit));
            self.commit_part(part)?;
            rest = after;
        }
        Ok(())
    }

    fn commit_part(&mut self, messages: &mut [Message]) -> Result<()> {
        let first = self.socket.next_sequence();
        let size: usize = messages.iter().map(Message::len).sum();
        let mut bytes = Vec::with_capacity(size + FRAME);
        bytes.extend_from_slice(frame(BATCH_BEGIN).finish(first));
        let last = messages.len() - 1;
        for (index, message) in messages.iter_mut().enumerate() {
            if index == last {
                message.add_flags(libc::NLM_F_ACK as u16);
            }
            bytes.extend_from_slice(message.finish(self.socket.next_sequence()));
        }
        bytes.extend_from_slice(frame(BATCH_END).finish(self.socket.next_sequence()));

        let (mut failure, mut acknowledged) = (None, false);
        let outcome = self.socket.send(&bytes).and_then(|()| {
            self.socket.drain(|reply| {
                let index = (reply.sequence.wrapping_sub(first) as usize).wrapping_sub(1);
                match reply.verdict() {
                    Some(Ok(())) if index == last => acknowledged = true,
                    Some(Err(error)) if failure.is_none() => failure = Some((index, error)),
                    _ => {}
                }
            })
        });
        if let Some((index, source)) = failure {
            let (operation, object) =
                messages.get(index).map_or(("commit", "an nftables batch".to_owned()), describe);
            return Err(Error::Kernel { operation, object, source });
        }
        outcome.context("commit", "an nftables batch")?;
        if !acknowledged {
            let silent = KernelError {
                errno: libc::EPROTO,
                text: Some("the kernel did not acknowledge it".to_owned()),
            };
            return Err(silent).context("commit", "an nftables batch");
        }
        Ok(())
    }
}

fn frame(kind: u16) -> Message {
    Message::new(kind, 0).raw(&nfgen(libc::AF_UNSPEC as u8, SUBSYSTEM))
}

/// How many of the messages can be sent at once; at least one.
fn how_many_fit(messages: &[Message], limit: usize) -> usize {
    let mut size = FRAME;
    let fitting = messages.iter().take_while(|message| {
        size += message.len();
        size <= limit
    });
    fitting.count().max(1)
}
