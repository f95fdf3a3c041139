//! Protobuf's wire format: varints, tags and length-delimited bytes.

use super::protobuf::{ProtobufError, at, bad};

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The cast keeps the low seven bits; the eighth says that there are more.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// A field with a string, bytes or message that is encoded already.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field with a message that is encoded in place. Its length is written afterwards, since it is not known before:
/// one byte is reserved, and longer messages are moved up.
pub(crate) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, BYTES);
    let start = out.len();
    out.push(0);
    write(out)?;
    let mut length = Vec::with_capacity(10);
    put_varint(&mut length, (out.len() - start - 1) as u64);
    out.splice(start..=start, length);
    Ok(())
}

/// Reads the fields of a message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// One field as it is on the wire.
pub(crate) struct WireField<'a> {
    pub(crate) number: u32,
    pub(crate) value: WireValue<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum WireValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            // The tenth byte has room for one bit.
            if shift == 63 && *byte > 1 {
                return Err(ProtobufError::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::VarintTooLong)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], ProtobufError> {
        let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        let bytes = self.take(8)?.try_into().map_err(|_| ProtobufError::Truncated)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next field; `None` at the end of the message. Groups, which nobody writes, are skipped.
    pub(crate) fn field(&mut self) -> Result<Option<WireField<'a>>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(ProtobufError::BadFieldNumber)?;
        let value = match (tag & 7) as u8 {
            VARINT => WireValue::Varint(self.varint()?),
            FIXED64 => WireValue::Fixed64(self.fixed64()?),
            BYTES => {
                let length = self.varint()?;
                WireValue::Bytes(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                WireValue::Fixed32
            }
            other => {
                return Err(ProtobufError::WireType {
                    path: String::new(),
                    found: other,
                    expected: "a known wire type",
                });
            }
        };
        Ok(Some(WireField { number, value }))
    }
}

impl<'a> WireField<'a> {
    pub(crate) fn bytes(&self, path: &str) -> Result<&'a [u8], ProtobufError> {
        self.value.bytes().map_err(|error| at(path, error))
    }

    pub(crate) fn text(&self, path: &str) -> Result<&'a str, ProtobufError> {
        self.value.text().map_err(|error| at(path, error))
    }
}

impl<'a> WireValue<'a> {
    fn wire_type(&self) -> u8 {
        match self {
            WireValue::Varint(_) => VARINT,
            WireValue::Fixed64(_) => FIXED64,
            WireValue::Bytes(_) => BYTES,
            WireValue::Fixed32 => FIXED32,
        }
    }

    fn unexpected(&self, expected: &'static str) -> ProtobufError {
        ProtobufError::WireType { path: String::new(), found: self.wire_type(), expected }
    }

    pub(crate) fn bytes(&self) -> Result<&'a [u8], ProtobufError> {
        match self {
            WireValue::Bytes(bytes) => Ok(bytes),
            other => Err(other.unexpected("2 (length-delimited)")),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| bad("text that is not UTF-8"))
    }

    pub(crate) fn varint(&self) -> Result<u64, ProtobufError> {
        match self {
            WireValue::Varint(value) => Ok(*value),
            other => Err(other.unexpected("0 (varint)")),
        }
    }

    pub(crate) fn fixed64(&self) -> Result<u64, ProtobufError> {
        match self {
            WireValue::Fixed64(value) => Ok(*value),
            other => Err(other.unexpected("1 (64 bits)")),
        }
    }
}
