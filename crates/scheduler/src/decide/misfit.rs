//! Why no node fits, in the words that users know.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::cluster::Slot;
use crate::plugins::{PluginId, PluginSet, Refusal};

/// No node fits.
#[derive(Debug, Default)]
pub struct Misfit {
    pub nodes: usize,
    /// Why, and on how many nodes.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// Why it does not depend on nodes at all.
    pub hopeless: Option<String>,
    /// The plugins that refused.
    pub plugins: PluginSet,
    /// Nodes that might fit if less important pods went.
    pub candidates: Vec<Slot>,
}

impl Misfit {
    pub fn hopeless(nodes: usize, plugin: PluginId, message: String) -> Self {
        let mut plugins = PluginSet::default();
        plugins.insert(plugin);
        Self { nodes, hopeless: Some(message), plugins, ..Self::default() }
    }

    pub fn refused(&mut self, plugin: PluginId, refusal: Refusal, slot: Slot) {
        self.plugins.insert(plugin);
        if refusal.preemption_helps {
            self.candidates.push(slot);
        }
        for reason in refusal.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// As kubectl users know it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        if self.nodes == 0 && self.hopeless.is_none() {
            return "no nodes available to schedule pods".to_owned();
        }
        match &self.hopeless {
            Some(message) => format!("0/{} nodes are available: {message}.", self.nodes),
            None => tell(self.nodes, &self.reasons),
        }
    }
}

pub fn tell(nodes: usize, reasons: &BTreeMap<Cow<'static, str>, usize>) -> String {
    let mut reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if reasons.is_empty() {
        return format!("0/{nodes} nodes are available:");
    }
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}
