//! Walking received attributes. No length found in them is believed.

use super::align;

/// One received attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its number, without the nested and byte-order flags.
    pub kind: u16,
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// A number in host byte order.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?))
    }

    /// A number in network byte order.
    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(..4)?.try_into().ok()?))
    }

    /// A number in network byte order.
    pub fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.payload.get(..8)?.try_into().ok()?))
    }

    /// A string, without its closing NUL.
    pub fn str(&self) -> Option<&'a str> {
        let end = self.payload.iter().position(|&byte| byte == 0);
        std::str::from_utf8(&self.payload[..end.unwrap_or(self.payload.len())]).ok()
    }
}

/// An iterator over attributes; it ends at the first one whose length makes no sense.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of that kind.
    pub fn find_kind(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let header = self.rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & libc::NLA_TYPE_MASK as u16;
        let payload = self.rest.get(4..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(Attribute { kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Message;
    use proptest::prelude::*;

    #[test]
    fn reads_back_what_a_message_wrote() {
        let mut message = Message::new(1, 0);
        message.put_str(3, "eth0");
        message.nest(5, |inner| inner.put_be32(7, 0x0102_0304));
        let bytes = message.finish(9)[16..].to_vec();
        let attributes = Attributes::new(&bytes);
        assert_eq!(attributes.find_kind(3).and_then(|a| a.str()), Some("eth0"));
        let nested = attributes.find_kind(5).expect("nest").nested();
        assert_eq!(nested.find_kind(7).and_then(|a| a.be32()), Some(0x0102_0304));
        assert_eq!(attributes.count(), 2);
    }

    proptest! {
        #[test]
        fn hostile_bytes_end_the_walk(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut consumed = 0;
            for attribute in Attributes::new(&bytes) {
                consumed += 4 + attribute.payload.len();
                let _ = (attribute.u32(), attribute.be32(), attribute.be64(), attribute.str());
                prop_assert!(attribute.nested().count() <= attribute.payload.len() / 4);
            }
            prop_assert!(consumed <= bytes.len());
        }
    }
}
