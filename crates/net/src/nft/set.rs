//! Sets and maps, and their elements.

use super::attr;
use super::expression::Verdict;
use crate::netlink::Message;

/// One field of a key or of data. The types are those `nft` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    InterfaceName,
    /// An Ethernet address.
    Ether,
    Ipv4,
    Ipv6,
    /// A transport protocol.
    Protocol,
    /// A port.
    Service,
    /// A number of ours, in host byte order, as random numbers come.
    Number,
}

impl Field {
    /// `nft`'s number of the type.
    fn kind(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Ether => 9,
            Self::Protocol => 12,
            Self::Service => 13,
            Self::Number => 19,
            Self::InterfaceName => 41,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Number => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
            Self::Ether => 6,
            Self::Protocol => 1,
            Self::Service => 2,
        }
    }
}

/// Type and length of a concatenation, as `nft` numbers them.
fn concatenation(fields: &[Field]) -> (u32, u32) {
    match fields {
        [single] => (single.kind(), single.length()),
        fields => fields.iter().fold((0, 0), |(kind, length), field| {
            (kind << 6 | field.kind(), length + ((field.length() + 3) & !3))
        }),
    }
}

/// What a map has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapData {
    Fields(Vec<Field>),
    Verdict,
}

/// A set, or a map when it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub key: Vec<Field>,
    pub data: Option<MapData>,
    /// Keys are ranges.
    pub interval: bool,
    /// Rules put elements in, at most so many; each has a time to live.
    pub dynamic: Option<u32>,
}

impl Set {
    pub fn new(name: &str, key: &[Field]) -> Self {
        Self { name: name.to_owned(), key: key.to_vec(), data: None, interval: false, dynamic: None }
    }

    pub fn map(name: &str, key: &[Field], data: &[Field]) -> Self {
        Self { data: Some(MapData::Fields(data.to_vec())), ..Self::new(name, key) }
    }

    pub fn verdict_map(name: &str, key: &[Field]) -> Self {
        Self { data: Some(MapData::Verdict), ..Self::new(name, key) }
    }

    /// Numbers as in `nft_set_attributes`.
    pub(crate) fn encode(&self, message: &mut Message, id: u32) {
        let (key_kind, key_length) = concatenation(&self.key);
        let concatenated = self.key.len() > 1;
        const CONCAT: u32 = 0x80;
        let mut flags = 0;
        if self.interval {
            flags |= libc::NFT_SET_INTERVAL as u32;
            if concatenated {
                flags |= CONCAT;
            }
        }
        if self.dynamic.is_some() {
            flags |= (libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL) as u32;
        }
        if self.data.is_some() {
            flags |= libc::NFT_SET_MAP as u32;
        }
        message.put_str(attr::SET_NAME, &self.name);
        message.put_be32(3, flags);
        message.put_be32(4, key_kind);
        message.put_be32(5, key_length);
        match &self.data {
            Some(MapData::Fields(fields)) => {
                let (kind, length) = concatenation(fields);
                message.put_be32(6, kind);
                message.put_be32(7, length);
            }
            Some(MapData::Verdict) => message.put_be32(6, libc::NFT_DATA_VERDICT),
            None => {}
        }
        message.nest(9, |description| {
            if let Some(size) = self.dynamic {
                description.put_be32(1, size);
            }
            if self.interval && concatenated {
                description.nest(2, |list| {
                    for field in &self.key {
                        list.nest(attr::LIST_ELEM, |one| one.put_be32(1, field.length()));
                    }
                });
            }
        });
        message.put_be32(10, id);
    }
}

/// What an element of a map has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// One element. Keys and values are fields side by side, each padded to four bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub key: &'a [u8],
    /// The last key, of a range.
    pub key_end: Option<&'a [u8]>,
    pub data: Option<&'a Data>,
}

impl<'a> Element<'a> {
    pub fn key(key: &'a [u8]) -> Self {
        Self { key, key_end: None, data: None }
    }

    pub(crate) fn encode(&self, message: &mut Message) {
        message.nest(attr::LIST_ELEM, |element| {
            element.nest(attr::ELEM_KEY, |key| key.put(attr::DATA_VALUE, self.key));
            if let Some(end) = self.key_end {
                element.nest(attr::ELEM_KEY_END, |key| key.put(attr::DATA_VALUE, end));
            }
            match self.data {
                Some(Data::Value(value)) => {
                    element.nest(attr::ELEM_DATA, |data| data.put(attr::DATA_VALUE, value));
                }
                Some(Data::Verdict(verdict)) => {
                    element.nest(attr::ELEM_DATA, |data| verdict.encode(data));
                }
                None => {}
            }
        });
    }
}
