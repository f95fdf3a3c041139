//! Building one netlink message, or a run of them, in one buffer.

use super::{Attributes, align};

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// One netlink message under construction: header, family header, attributes.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of `kind` (`RTM_NEWLINK`, ...) with `flags` (`NLM_F_REQUEST` is always set).
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self { bytes: Vec::with_capacity(256) };
        message.start(kind, flags, 0);
        message
    }

    fn start(&mut self, kind: u16, flags: u16, sequence: u32) {
        let flags = flags | libc::NLM_F_REQUEST as u16;
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
    }

    /// Raw bytes of a family header, padded to four bytes.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.push_padded(bytes);
        self
    }

    fn push_padded(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// An attribute with a payload in the form the kernel wants it.
    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        // Every payload of ours is a name, a number, an address or a bounded list: far below the limit.
        debug_assert!(payload.len() <= usize::from(u16::MAX) - 4);
        let length = (payload.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.push_padded(payload);
    }

    /// A number in host byte order, as the route family has them.
    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as the netfilter family has them.
    pub fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A number in network byte order.
    pub fn put_be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A string with its closing NUL.
    pub fn put_str(&mut self, kind: u16, value: &str) {
        let length = (value.len() + 5) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// An attribute made of attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let kind = kind | libc::NLA_F_NESTED as u16;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX));
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    /// A nest whose payload begins with raw bytes (`VETH_INFO_PEER`).
    pub fn nest_raw(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Self)) {
        self.nest(kind, |message| {
            message.push_padded(header);
            fill(message);
        });
    }

    /// The kind given to [`Message::new`].
    pub fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    /// Length so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a message has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The strings among the first attributes behind a family header of four bytes: the names of the object.
    pub(crate) fn names(&self) -> Vec<String> {
        let attributes = Attributes::new(self.bytes.get(HEADER + 4..).unwrap_or_default());
        let names = attributes.take_while(|attribute| attribute.kind <= 3).take(2);
        names.filter_map(|attribute| attribute.str().map(str::to_owned)).collect()
    }

    pub(crate) fn add_flags(&mut self, flags: u16) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The finished bytes, with length and sequence number filled in.
    pub(crate) fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}
