//! Messages between the runtime and a pod's shim.
//!
//! The shim listens on a unix socket. A connection carries one conversation: the runtime sends a [`Request`], the shim answers with
//! one or more [`Response`]s. Open files (the ends of stdio pipes, a terminal) travel beside a frame as `SCM_RIGHTS`.
//! A frame is a little-endian `u32` length and that many bytes. The encoding is written by hand so that the shim, of which every
//! pod has one, carries no serialisation framework.

mod codec;
mod message;
mod plan;
pub mod socket;

pub use codec::DecodeError;
pub use message::{Attach, ContainerState, Exec, Exit, PidNamespace, Request, Response, Start, Status};
pub use plan::{Device, ExecPlan, Mount, Plan, Process, Root};

/// The largest frame either side accepts.
pub const MAX_FRAME: usize = 1 << 20;

/// Takes one whole frame's body off the front of `buffer`, if it is there.
pub fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, DecodeError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_FRAME {
        return Err(DecodeError::TooLarge(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let rest = buffer.split_off(4 + length);
    let mut frame = std::mem::replace(buffer, rest);
    frame.drain(..4);
    Ok(Some(frame))
}
