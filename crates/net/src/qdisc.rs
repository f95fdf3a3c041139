//! Queueing disciplines: a token bucket that limits how fast an interface sends.

use crate::Result;
use crate::error::Context;
use crate::netlink::{Message, Socket};

const TCMSG: usize = 20;
const ROOT: u32 = 0xffff_ffff;
/// Attribute numbers of `linux/pkt_sched.h`.
mod attr {
    pub const KIND: u16 = 1;
    pub const OPTIONS: u16 = 2;
    pub const TBF_PARMS: u16 = 1;
    pub const TBF_RATE64: u16 = 4;
    pub const TBF_BURST: u16 = 6;
}
const LINK_LAYER_ETHERNET: u8 = 1;
/// The bucket holds what is sent in this part of a second, and the queue in front of it as much again and half.
const BUCKET_PART: u64 = 50;
/// Some full packets, however slow.
const SMALLEST_BUCKET: u64 = 16 * 1024;

/// Limits what `interface` sends to so many bits per second, in place of what limit it had.
pub(crate) fn limit(socket: &mut Socket, interface: u32, bits_per_second: u64) -> Result<()> {
    let rate = (bits_per_second / 8).max(1);
    let bucket = (rate / BUCKET_PART).clamp(SMALLEST_BUCKET, u64::from(u32::MAX / 4));
    let queue = bucket + bucket * 3 / 2;
    let mut header = [0; TCMSG];
    header[4..8].copy_from_slice(&interface.to_ne_bytes());
    header[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    let mut message = Message::new(libc::RTM_NEWQDISC, flags).raw(&header);
    message.put_str(attr::KIND, "tbf");
    message.nest(attr::OPTIONS, |options| {
        options.put(attr::TBF_PARMS, &parameters(rate, queue));
        options.put(attr::TBF_RATE64, &rate.to_ne_bytes());
        options.put_u32(attr::TBF_BURST, u32::try_from(bucket).unwrap_or(u32::MAX));
    });
    let object = || format!("interface {interface} to {bits_per_second} bit/s");
    socket.request(&mut message).context("limit", object())
}

/// `struct tc_tbf_qopt`: two `struct tc_ratespec` and three numbers, of which the bucket is told by an attribute.
fn parameters(rate: u64, queue: u64) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[1] = LINK_LAYER_ETHERNET;
    bytes[8..12].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    bytes[24..28].copy_from_slice(&u32::try_from(queue).unwrap_or(u32::MAX).to_ne_bytes());
    bytes
}
