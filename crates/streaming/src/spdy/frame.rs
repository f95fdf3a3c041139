//! Frames as bytes.

use std::io;

use super::protocol_error;

const VERSION: u16 = 0x8003;
const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const REFUSED_STREAM: u32 = 3;
/// Control frames carry headers of a few hundred bytes.
const MAX_CONTROL: usize = 64 * 1024;

/// The first eight bytes of every frame.
#[derive(Debug, PartialEq)]
pub(super) enum Header {
    Data { stream: u32, fin: bool, length: usize },
    Control { kind: u16, flags: u8, length: usize },
}

impl Header {
    pub fn parse(bytes: [u8; 8]) -> io::Result<Self> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Header::Data { stream, fin: flags & FIN != 0, length });
        }
        if u16::from_be_bytes([a, b]) != VERSION {
            return Err(protocol_error("the peer does not speak SPDY/3"));
        }
        if length > MAX_CONTROL {
            return Err(protocol_error("a SPDY control frame is too large"));
        }
        Ok(Header::Control { kind: u16::from_be_bytes([c, d]), flags, length })
    }
}

/// A control frame's meaning for us.
#[derive(Debug, PartialEq)]
pub(super) enum Control<'a> {
    SynStream {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    Headers {
        block: &'a [u8],
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings and windows, which change nothing here.
    Other,
}

impl<'a> Control<'a> {
    pub fn parse(kind: u16, flags: u8, payload: &'a [u8]) -> io::Result<Self> {
        let number = || match payload {
            [a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff),
            _ => Err(protocol_error("a SPDY control frame is too short")),
        };
        let block =
            |from: usize| payload.get(from..).ok_or(protocol_error("a SPDY control frame is too short"));
        Ok(match kind {
            // Stream, associated stream, priority and slot come before the headers.
            SYN_STREAM => Control::SynStream { stream: number()?, fin: flags & FIN != 0, block: block(10)? },
            SYN_REPLY | HEADERS => Control::Headers { block: block(4)? },
            RST_STREAM => Control::Reset { stream: number()? },
            PING => Control::Ping { id: number()? },
            GO_AWAY => Control::GoAway,
            _ => Control::Other,
        })
    }
}

pub(super) fn data(stream: u32, fin: bool, length: usize) -> [u8; 8] {
    let [a, b, c, d] = (stream & 0x7fff_ffff).to_be_bytes();
    let [_, x, y, z] = (length as u32).to_be_bytes();
    [a, b, c, d, if fin { FIN } else { 0 }, x, y, z]
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend(VERSION.to_be_bytes());
    frame.extend(kind.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame
}

/// Opens a stream of the highest priority that belongs to no other.
pub(super) fn syn_stream(stream: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_STREAM, &[&stream.to_be_bytes(), [0; 6].as_slice(), block].concat())
}

pub(super) fn syn_reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(SYN_REPLY, &[&stream.to_be_bytes(), block].concat())
}

pub(super) fn refuse(stream: u32) -> Vec<u8> {
    control(RST_STREAM, &[stream.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat())
}

pub(super) fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

pub(super) fn go_away() -> Vec<u8> {
    control(GO_AWAY, &[0; 8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_frames_are_read_as_written() {
        for (stream, fin, length) in [(1, false, 0), (7, true, 5), (0x7fff_ffff, false, 0xff_ffff)] {
            let parsed = Header::parse(data(stream, fin, length)).unwrap();
            assert_eq!(parsed, Header::Data { stream, fin, length });
        }
    }

    #[test]
    fn control_frames_are_read_as_written() {
        let check = |frame: Vec<u8>, expected: Control<'_>| {
            let Header::Control { kind, flags, length } =
                Header::parse(frame[..8].try_into().unwrap()).unwrap()
            else {
                panic!("not a control frame");
            };
            assert_eq!(length, frame.len() - 8);
            assert_eq!(Control::parse(kind, flags, &frame[8..]).unwrap(), expected);
        };
        check(ping(9), Control::Ping { id: 9 });
        check(refuse(3), Control::Reset { stream: 3 });
        check(go_away(), Control::GoAway);
        check(syn_reply(5, b"block"), Control::Headers { block: b"block" });
        check(syn_stream(7, b"block"), Control::SynStream { stream: 7, fin: false, block: b"block" });
    }

    #[test]
    fn other_versions_and_huge_frames_are_refused() {
        assert!(Header::parse([0x80, 2, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(Header::parse([0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(header: [u8; 8], payload: Vec<u8>) {
            if let Ok(Header::Control { kind, flags, .. }) = Header::parse(header) {
                let _ = Control::parse(kind, flags, &payload);
            }
        }
    }
}
