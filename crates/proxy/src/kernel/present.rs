//! What an earlier process left in the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use net::nft::{ListedElement, Nft};

use crate::class::{Class, View};
use crate::layout::{self, CLASSES, ENDPOINTS, Layout, NUMBERED, NUMBERS, OWNED};
use crate::model::{Hints, ID_BITS, ID_MASK, NumberedClass};
use crate::render::Frontend;
use crate::service::Protocol;

/// One family's table, if it has our shape.
pub(super) struct Present {
    /// By map and key.
    pub elements: HashMap<&'static str, HashMap<Vec<u8>, ListedElement>>,
    pub classes: Vec<NumberedClass>,
}

impl Present {
    pub fn read(nft: &mut Nft, layout: &Layout) -> Result<Option<Self>, net::Error> {
        let table = nft.table(layout.family(), &layout.table)?;
        if table.is_none_or(|table| table.comment != layout.note()) {
            return Ok(None);
        }
        let mut list = |map| nft.elements(layout.family(), &layout.table, map);
        let mut elements = HashMap::new();
        for map in OWNED {
            let keyed = list(map)?.into_iter().map(|element| (element.key.clone(), element));
            elements.insert(map, keyed.collect());
        }
        let class = |element: &ListedElement| {
            Some(NumberedClass {
                ipv6: layout.ipv6,
                class: Class::parse(element.chain.as_deref()?)?,
                number: number(&element.key, 0)? >> ID_BITS,
            })
        };
        let classes = list(CLASSES)?.iter().filter_map(class).collect();
        Ok(Some(Self { elements, classes }))
    }

    pub fn has_class(&self, class: &NumberedClass) -> bool {
        self.classes.contains(class)
    }

    fn of(&self, map: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
        let elements = self.elements.get(map).into_iter().flatten();
        elements.filter_map(|(key, element)| Some((key.as_slice(), element.data.as_deref()?)))
    }

    pub fn add_hints(&self, hints: &mut Hints) {
        hints.classes.extend(self.classes.iter().map(|class| (class.class, class.number)));
        for view in [View::Services, View::Inside] {
            hints.ids.extend(self.of(layout::view_map(view)).filter_map(|(key, data)| {
                Some(((view, parse_destination(key)?), number(data, 0)? & ID_MASK))
            }));
        }
        let pair = |key: &[u8]| Some((number(key, 0)?, number(key, 4)?));
        let numbered: HashMap<(u32, u32), SocketAddr> =
            self.of(NUMBERED).filter_map(|(key, data)| Some((pair(key)?, parse_endpoint(data)?))).collect();
        let direct = self.of(ENDPOINTS).filter_map(|(key, data)| {
            let (id, slot) = pair(key)?;
            Some((id, slot, parse_endpoint(data)?))
        });
        let in_two_steps = self.of(NUMBERS).filter_map(|(key, data)| {
            let (id, slot) = pair(key)?;
            Some((id, slot, *numbered.get(&(id, number(data, 0)?))?))
        });
        let mut slots: HashMap<u32, Vec<(u32, SocketAddr)>> = HashMap::new();
        for (id, slot, address) in direct.chain(in_two_steps) {
            slots.entry(id).or_default().push((slot, address));
        }
        for (id, mut slots) in slots {
            slots.sort_unstable();
            hints.slots.insert(id, slots.into_iter().map(|(_, address)| address).collect());
        }
        hints.numbers.extend(numbered.iter().map(|((id, number), address)| ((*id, *address), *number)));
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An address of either family, which its length tells, and what follows it.
fn split_address(bytes: &[u8], rest: usize) -> Option<(IpAddr, &[u8])> {
    let (address, rest) = bytes.split_at_checked(bytes.len().checked_sub(rest)?)?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ => return None,
    };
    Some((address, rest))
}

fn parse_endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, rest) = split_address(bytes, 4)?;
    Some(SocketAddr::new(ip, u16::from_be_bytes([rest[0], rest[1]])))
}

fn parse_destination(bytes: &[u8]) -> Option<Frontend> {
    let (ip, rest) = split_address(bytes, 8)?;
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    Some(Frontend {
        ip,
        protocol: known.into_iter().find(|protocol| protocol.number() == rest[0])?,
        port: u16::from_be_bytes([rest[4], rest[5]]),
    })
}
