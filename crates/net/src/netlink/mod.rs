//! Netlink: the little of it that Corten speaks, synchronously and without allocation per attribute.
//!
//! A [`Message`] is built attribute by attribute into one buffer; a [`Socket`] sends it and waits for the
//! kernel's acknowledgement or dump; [`Attributes`] walks what comes back, trusting no length in it. Both the
//! route family (links, addresses, routes) and the netfilter family (nftables, conntrack) are built on this.

mod attribute;
mod message;
mod socket;

pub use attribute::{Attribute, Attributes};
pub use message::Message;
pub(crate) use socket::replies;
pub use socket::{KernelError, Reply, Socket};

/// Netlink lengths are rounded up to four bytes.
pub(crate) const fn align(length: usize) -> usize {
    (length + 3) & !3
}
