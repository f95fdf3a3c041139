//! From updates to kernel state, without an API server: what [`crate::run`] drives.

use net::nft::{MapElement, Nft};

use crate::Config;
use crate::layout::{self, Layout, OWNED};
use crate::model::{Change, Element, Model, Update};

/// What a commit was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    pub elements: usize,
    pub bytes: usize,
}

/// The enforcement of one node: feed it updates, then [`Engine::sync`].
pub struct Engine {
    nft: Nft,
    families: [Layout; 2],
    model: Model,
    /// False until the kernel is known to hold what the model says.
    reconciled: bool,
}

impl Engine {
    /// For the network namespace of the calling thread. What the kernel holds stays as it is until the first sync.
    pub fn new(config: &Config) -> Result<Self, net::Error> {
        Ok(Self {
            nft: Nft::open()?,
            families: [false, true].map(|ipv6| Layout::new(&config.table, ipv6)),
            model: Model::new(&config.node_name),
            reconciled: false,
        })
    }

    /// Takes note of a change.
    pub fn update(&mut self, update: Update) {
        self.model.update(update);
    }

    /// Makes the kernel do what all updates so far ask for, in one transaction per address family. The first one, and
    /// the next one after an error, replaces the whole table: no packet sees anything between old and new.
    pub fn sync(&mut self) -> Result<Commit, net::Error> {
        let mut change = self.model.finish();
        let whole = !self.reconciled;
        if whole {
            change = self.model.everything();
        }
        self.reconciled = false;
        let mut commit = Commit::default();
        for layout in &self.families {
            let edit = Edit::of(&change, layout.ipv6);
            let mut batch = layout.batch();
            if whole {
                layout.create(&mut batch);
            }
            batch.change(&OWNED, &edit.remove, &edit.add);
            if !batch.is_empty() {
                self.nft.commit(&mut batch)?;
            }
            commit.elements += edit.remove.len() + edit.add.len();
            commit.bytes += batch.bytes();
        }
        self.reconciled = true;
        Ok(commit)
    }
}

/// The changes of one table, as bytes.
struct Edit {
    remove: Vec<MapElement>,
    add: Vec<MapElement>,
}

impl Edit {
    fn of(change: &Change, ipv6: bool) -> Self {
        let encode = |elements: &[(Element, u32)]| {
            let ours = elements.iter().filter(|(element, _)| element.is_ipv6() == ipv6);
            ours.map(|(element, value)| layout::encode(element, *value)).collect()
        };
        Self { remove: encode(&change.remove), add: encode(&change.add) }
    }
}
