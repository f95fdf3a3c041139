//! The few DER encodings that a certificate is made of. Names, keys and alternative names are copied from requests as
//! they are, so that nothing about them is lost. Free of IO.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A value with its tag and length.
pub fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or(0x7f));
    } else {
        let bytes = length.to_be_bytes();
        let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
        out.extend(digits);
    }
    out.extend_from_slice(content);
    out
}

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(SEQUENCE, &parts.concat())
}

/// The `[number]` of a field, around its value.
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tagged(0xa0 | number, content)
}

/// A positive number.
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    let mut content = Vec::with_capacity(significant.len() + 1);
    if significant.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend(significant);
    tagged(INTEGER, &content)
}

pub fn boolean(value: bool) -> Vec<u8> {
    tagged(BOOLEAN, &[if value { 0xff } else { 0 }])
}

pub fn octet_string(content: &[u8]) -> Vec<u8> {
    tagged(OCTET_STRING, content)
}

pub fn bit_string(content: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(content);
    tagged(BIT_STRING, &bits)
}

/// Named bits, of which DER wants no trailing zeros.
pub fn named_bits(set: &[u8]) -> Vec<u8> {
    let mut bytes = [0_u8; 2];
    for bit in set {
        if let Some(byte) = bytes.get_mut(usize::from(bit / 8)) {
            *byte |= 0x80 >> (bit % 8);
        }
    }
    let used = if bytes[1] != 0 { 2 } else { usize::from(bytes[0] != 0) };
    let last = bytes.get(used.wrapping_sub(1)).copied().unwrap_or(0);
    let mut content = vec![if used == 0 { 0 } else { u8::try_from(last.trailing_zeros()).unwrap_or(0) }];
    content.extend(bytes.iter().take(used));
    tagged(BIT_STRING, &content)
}

pub fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    if let [first, second, rest @ ..] = arcs {
        base128(first * 40 + second, &mut content);
        rest.iter().for_each(|arc| base128(*arc, &mut content));
    }
    tagged(OID, &content)
}

fn base128(value: u64, out: &mut Vec<u8>) {
    let mut groups = vec![(value & 0x7f) as u8];
    let mut rest = value >> 7;
    while rest > 0 {
        groups.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.extend(groups.iter().rev());
}

/// Two digits for the year before 2050, four from then on, as certificates have it.
pub fn time(time: Timestamp) -> Vec<u8> {
    let utc = time.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&utc.year()) {
        tagged(UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tagged(GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        let check = |found: Vec<u8>, expected: &[u8]| assert_eq!(found, expected);
        check(integer(&[0, 0x80]), &[2, 2, 0, 0x80]);
        check(integer(&[0]), &[2, 1, 0]);
        check(oid(&[2, 5, 29, 15]), &[6, 3, 0x55, 0x1d, 0x0f]);
        check(oid(&[1, 2, 840, 10045]), &[6, 5, 0x2a, 0x86, 0x48, 0xce, 0x3d]);
        check(named_bits(&[0, 2]), &[3, 2, 5, 0xa0]);
        check(named_bits(&[8]), &[3, 3, 7, 0, 0x80]);
        check(time("2026-01-02T03:04:05Z".parse().unwrap()), b"\x17\x0d260102030405Z");
        check(time("2050-01-02T03:04:05Z".parse().unwrap()), b"\x18\x0f20500102030405Z");
        assert_eq!(tagged(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tagged(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }
}
