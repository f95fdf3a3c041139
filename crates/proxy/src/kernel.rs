//! The kernel's side: transactions.

use std::collections::HashSet;

use net::nft::{Batch, Data, Element as NftElement, ListedElement, MapElement, Nft, Verdict};

use crate::class::Class;
use crate::layout::{self, CLASSES, Layout, OWNED};
use crate::model::{Change, Hints, NumberedClass};
use present::Present;

mod present;

/// The routing tables of the network namespace in which this was opened.
pub(crate) struct Kernel {
    nft: Nft,
    families: [Layout; 2],
    /// What was found at the start, until the first reconcile.
    found: [Option<Present>; 2],
}

/// What a commit was made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit {
    pub elements: usize,
    pub bytes: usize,
}

impl Kernel {
    pub fn open(config: &crate::Config) -> Result<Self, net::Error> {
        let layout = |ipv6| Layout::new(config, ipv6);
        Ok(Self { nft: Nft::open()?, families: [layout(false), layout(true)], found: [None, None] })
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
    /// notice nothing: it is one transaction, and what was right stays.
    pub fn reconcile(&mut self, everything: &Change) -> Result<Commit, net::Error> {
        let mut commit = Commit::default();
        for (layout, found) in self.families.iter().zip(&mut self.found) {
            let wanted = Edit::of_change(everything, layout.ipv6);
            let mut batch = layout.batch();
            let present = match found.take() {
                Some(present) => Some(present),
                None => Present::read(&mut self.nft, layout)?,
            };
            let edit = match present {
                Some(present) => {
                    layout.fixed_chains(&mut batch);
                    let kept = wanted.add_classes.iter().filter(|class| present.has_class(class));
                    kept.for_each(|kept| layout.class_chain(&mut batch, kept.class));
                    wanted.beyond(&present)
                }
                None => {
                    layout.create(&mut batch);
                    layout.fixed_chains(&mut batch);
                    wanted
                }
            };
            edit.write(layout, &mut batch);
            self.nft.commit(&mut batch)?;
            commit.elements += edit.remove.len() + edit.add.len();
            commit.bytes += batch.bytes();
        }
        Ok(commit)
    }

    /// The numbers that the kernel has. What is read is used again by the first [`Kernel::reconcile`].
    pub fn hints(&mut self) -> Result<Hints, net::Error> {
        let mut hints = Hints::default();
        for (layout, found) in self.families.iter().zip(&mut self.found) {
            *found = Present::read(&mut self.nft, layout)?;
            if let Some(present) = found {
                present.add_hints(&mut hints);
            }
        }
        Ok(hints)
    }

    /// Removes the tables, with everything in them.
    pub fn remove(&mut self) -> Result<(), net::Error> {
        for layout in &self.families {
            let mut batch = layout.batch();
            batch.add_table();
            batch.delete_table();
            self.nft.commit(&mut batch)?;
        }
        Ok(())
    }
}

/// The changes of one table, as bytes.
#[derive(Debug, Default)]
struct Edit {
    remove: Vec<MapElement>,
    add: Vec<MapElement>,
    add_classes: Vec<NumberedClass>,
    remove_classes: Vec<NumberedClass>,
}

impl Edit {
    fn of_change(change: &Change, ipv6: bool) -> Self {
        let encode = |elements: &[crate::model::Element]| {
            let ours = elements.iter().filter(|element| element.is_ipv6() == ipv6);
            ours.map(layout::encode).collect()
        };
        let classes =
            |classes: &[NumberedClass]| classes.iter().filter(|class| class.ipv6 == ipv6).copied().collect();
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
            let there = present.elements.get(element.map).and_then(|map| map.get(&element.key));
            match there {
                Some(there) if there.data == element.data && there.key_end == element.key_end => {}
                Some(there) => {
                    edit.remove.push(listed(element.map, there));
                    edit.add.push(element.clone());
                }
                None => edit.add.push(element.clone()),
            }
        }
        for (map, elements) in &present.elements {
            let extra = elements.iter().filter(|(key, _)| !wanted.contains(&(*map, key.as_slice())));
            edit.remove.extend(extra.map(|(_, element)| listed(map, element)));
        }
        edit.remove_classes = present.classes.clone();
        edit.remove_classes.retain(|class| !self.add_classes.contains(class));
        edit.add_classes = self.add_classes;
        edit.add_classes.retain(|class| !present.has_class(class));
        edit
    }

    /// Chains before what leads to them, endpoints before the destinations that lead there, and removals of each map
    /// before its additions.
    fn write(&self, layout: &Layout, batch: &mut Batch) {
        // Numbers may have changed hands.
        let gone: Vec<Vec<u8>> = self.remove_classes.iter().map(layout::class_key).collect();
        batch.delete_elements(CLASSES, gone.iter().map(|key| NftElement::key(key)));
        let gotos: Vec<(Vec<u8>, Data)> = self.add_classes.iter().map(goto).collect();
        for class in &self.add_classes {
            layout.class_chain(batch, class.class);
        }
        let element = |(key, data)| NftElement { data: Some(data), ..NftElement::key(key) };
        batch.add_elements(CLASSES, gotos.iter().map(|(key, data)| element((key, data))));
        batch.change(&OWNED, &self.remove, &self.add);
        let needed: HashSet<Class> = self.add_classes.iter().map(|class| class.class).collect();
        for class in self.remove_classes.iter().filter(|gone| !needed.contains(&gone.class)) {
            batch.delete_chain(&class.class.to_string());
        }
    }
}

fn goto(class: &NumberedClass) -> (Vec<u8>, Data) {
    (layout::class_key(class), Data::Verdict(Verdict::Goto(class.class.to_string())))
}

fn listed(map: &'static str, element: &ListedElement) -> MapElement {
    MapElement { map, key: element.key.clone(), key_end: element.key_end.clone(), data: element.data.clone() }
}
