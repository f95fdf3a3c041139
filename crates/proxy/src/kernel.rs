//! The kernel's side: transactions, and reading back what an earlier process left.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use net::nft::{Batch, Data, Element as NftElement, ListedElement, Nft, Verdict};

use crate::class::{Class, View};
use crate::layout::{self, CLASSES, ENDPOINTS, Encoded, Layout, OWNED};
use crate::model::{Change, Hints};
use crate::render::Frontend;
use crate::service::Protocol;

/// The routing tables of the network namespace in which this was opened.
pub(crate) struct Kernel {
    nft: Nft,
    families: [Layout; 2],
}

/// What a commit was made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit {
    pub elements: usize,
    pub bytes: usize,
}

impl Kernel {
    pub fn open(config: &crate::Config) -> Result<Self, net::Error> {
        let layout = |ipv6| Layout::new(&config.table, &config.cluster_cidr, ipv6);
        Ok(Self {
            nft: Nft::open()?,
            families: [layout(false), layout(true)],
        })
    }

    /// Makes a difference, one transaction per address family.
    pub fn commit(&mut self, change: &Change) -> Result<Commit, net::Error> {
        let mut commit = Commit::default();
        for layout in &self.families {
            let edit = Edit::of_change(change, layout.ipv6);
            let mut batch = layout.batch();
            edit.write(layout, &mut batch);
            if !batch.is_empty() {
                self.nft.commit(&mut batch)?;
            }
            commit.elements += edit.remove.len() + edit.add.len();
            commit.bytes += batch.bytes();
        }
        Ok(commit)
    }

    /// Makes the kernel hold `everything` and nothing else, changing only what differs. Connections and packets
    /// notice nothing: what was right stays, and the rest changes in one transaction.
    pub fn reconcile(&mut self, everything: &Change) -> Result<Commit, net::Error> {
        let mut commit = Commit::default();
        for layout in &self.families {
            let wanted = Edit::of_change(everything, layout.ipv6);
            let mut batch = layout.batch();
            let edit = match read(&mut self.nft, layout)? {
                Some(present) => wanted.beyond(&present),
                None => {
                    layout.create(&mut batch);
                    wanted
                }
            };
            edit.write(layout, &mut batch);
            if !batch.is_empty() {
                self.nft.commit(&mut batch)?;
            }
            commit.elements += edit.remove.len() + edit.add.len();
            commit.bytes += batch.bytes();
        }
        Ok(commit)
    }

    /// The ids and slots that the kernel has.
    pub fn hints(&mut self) -> Result<Hints, net::Error> {
        let mut hints = Hints::default();
        for layout in &self.families {
            let Some(present) = read(&mut self.nft, layout)? else { continue };
            for view in [View::Services, View::Inside] {
                let elements = present.get(layout::view_map(view)).into_iter().flatten();
                let routes = elements.filter_map(|(key, element)| {
                    let id = number(element.data.as_deref()?, 0)?;
                    Some(((view, parse_destination(key)?), id))
                });
                hints.ids.extend(routes);
            }
            let elements = present.get(ENDPOINTS).into_iter().flatten();
            let mut slots: HashMap<u32, Vec<(u32, SocketAddr)>> = HashMap::new();
            for (key, element) in elements {
                let parsed = || -> Option<(u32, u32, SocketAddr)> {
                    let address = parse_address(element.data.as_deref()?)?;
                    Some((number(key, 0)?, number(key, 4)?, address))
                };
                if let Some((id, index, address)) = parsed() {
                    slots.entry(id).or_default().push((index, address));
                }
            }
            for (id, mut numbered) in slots {
                numbered.sort_unstable();
                hints.slots.insert(id, numbered.into_iter().map(|(_, address)| address).collect());
            }
        }
        Ok(hints)
    }

    /// Removes the tables, with everything in them.
    pub fn remove(&mut self) -> Result<(), net::Error> {
        for layout in &self.families {
            let mut batch = layout.batch();
            batch.add_table(&[]);
            batch.delete_table();
            self.nft.commit(&mut batch)?;
        }
        Ok(())
    }
}

type Present = HashMap<&'static str, HashMap<Vec<u8>, ListedElement>>;

/// The elements of one family's table, if it has our shape.
fn read(nft: &mut Nft, layout: &Layout) -> Result<Option<Present>, net::Error> {
    let table = nft.table(layout.family(), &layout.table)?;
    if table.is_none_or(|table| table.userdata != layout.note()) {
        return Ok(None);
    }
    let mut present = Present::new();
    for map in OWNED {
        let elements = nft.elements(layout.family(), &layout.table, map)?;
        let keyed = elements.into_iter().map(|element| (element.key.clone(), element));
        present.insert(map, keyed.collect());
    }
    Ok(Some(present))
}

/// The changes of one table, as bytes.
#[derive(Debug, Default)]
struct Edit {
    remove: Vec<Encoded>,
    add: Vec<Encoded>,
    add_classes: Vec<Class>,
    remove_classes: Vec<Class>,
}

impl Edit {
    fn of_change(change: &Change, ipv6: bool) -> Self {
        let encode = |elements: &[crate::model::Element]| {
            let ours = elements.iter().filter(|element| element.is_ipv6() == ipv6);
            ours.map(layout::encode).collect()
        };
        let classes = |classes: &[(bool, Class)]| {
            let ours = classes.iter().filter(|(v6, _)| *v6 == ipv6);
            ours.map(|(_, class)| *class).collect()
        };
        Self {
            remove: encode(&change.remove),
            add: encode(&change.add),
            add_classes: classes(&change.add_classes),
            remove_classes: classes(&change.remove_classes),
        }
    }

    /// What is missing in `present`, and what is too much there.
    fn beyond(self, present: &Present) -> Self {
        let mut edit = Self::default();
        let mut wanted: HashSet<(&str, &[u8])> = HashSet::with_capacity(self.add.len());
        for element in &self.add {
            wanted.insert((element.map, &element.key));
            let there = present.get(element.map).and_then(|map| map.get(&element.key));
            match there {
                Some(there) if there.data == element.data && there.key_end == element.key_end => {}
                Some(there) => {
                    edit.remove.push(listed(element.map, there));
                    edit.add.push(element.clone());
                }
                None => edit.add.push(element.clone()),
            }
        }
        for (map, elements) in present.iter().filter(|(map, _)| **map != CLASSES) {
            let extra = elements.iter().filter(|(key, _)| !wanted.contains(&(*map, key.as_slice())));
            edit.remove.extend(extra.map(|(_, element)| listed(map, element)));
        }
        let keys: HashSet<Vec<u8>> = self.add_classes.iter().map(|c| layout::class_key(*c)).collect();
        let known = present.get(CLASSES);
        let missing = |class: &Class| {
            known.is_none_or(|known| !known.contains_key(&layout::class_key(*class)))
        };
        edit.add_classes = self.add_classes.into_iter().filter(missing).collect();
        let extra = known.into_iter().flatten().filter(|(key, _)| !keys.contains(*key));
        edit.remove_classes = extra
            .filter_map(|(key, _)| Class::from_numbers(number(key, 0)?, number(key, 4)?))
            .collect();
        edit
    }

    /// Chains before what leads to them, endpoints before the destinations that lead there, and removals of each map
    /// before its additions.
    fn write(&self, layout: &Layout, batch: &mut Batch) {
        let gotos: Vec<(Vec<u8>, Data)> = self.add_classes.iter().map(|class| class_element(*class)).collect();
        for class in &self.add_classes {
            layout.add_class(batch, *class);
        }
        let element = |(key, data)| NftElement { data: Some(data), ..NftElement::key(key) };
        batch.add_elements(CLASSES, gotos.iter().map(|(key, data)| element((key, data))));
        let mut data: Vec<Data> = Vec::with_capacity(self.add.len());
        data.extend(self.add.iter().map(|e| Data::Value(e.data.clone().unwrap_or_default())));
        for map in OWNED {
            let removed = self.remove.iter().filter(|element| element.map == map);
            batch.delete_elements(map, removed.map(|element| NftElement {
                key: &element.key,
                key_end: element.key_end.as_deref(),
                data: None,
            }));
            let added = self.add.iter().zip(&data).filter(|(element, _)| element.map == map);
            batch.add_elements(map, added.map(|(element, data)| NftElement {
                key: &element.key,
                key_end: element.key_end.as_deref(),
                data: element.data.as_ref().map(|_| data),
            }));
        }
        let gone: Vec<Vec<u8>> = self.remove_classes.iter().map(|c| layout::class_key(*c)).collect();
        batch.delete_elements(CLASSES, gone.iter().map(|key| NftElement::key(key)));
        for class in &self.remove_classes {
            batch.delete_chain(&class.chain());
        }
    }
}

fn class_element(class: Class) -> (Vec<u8>, Data) {
    (layout::class_key(class), Data::Verdict(Verdict::Goto(class.chain())))
}

fn listed(map: &'static str, element: &ListedElement) -> Encoded {
    Encoded {
        map,
        key: element.key.clone(),
        key_end: element.key_end.clone(),
        data: element.data.clone(),
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

fn parse_address(bytes: &[u8]) -> Option<SocketAddr> {
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
