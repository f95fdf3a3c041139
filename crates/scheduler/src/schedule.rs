//! Choosing a node for a pod. Free of IO.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::IndexedRandom;

use crate::cluster::{Cluster, NodeState};
use crate::plugins::{Check, Events, Plugin};
use crate::pod::PodInfo;

/// Below this many nodes all are looked at; above, enough that fit.
const LOOK_AT_ALL: usize = 100;

/// No node fits.
#[derive(Debug, Default)]
pub struct Misfit {
    pub nodes: usize,
    /// Why, and on how many nodes.
    pub reasons: BTreeMap<String, usize>,
    /// The plugins that refused a node.
    pub plugins: BTreeSet<&'static str>,
    /// What could change that.
    pub helped_by: Events,
    /// Nodes that might fit if less important pods went.
    pub candidates: Vec<String>,
}

impl Misfit {
    /// As kubectl users know it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut reasons: Vec<_> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        format!("0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }

    /// What is added when no less important pod stands in the way.
    pub fn preemption_message(&self) -> String {
        if self.nodes == 0 {
            return String::new();
        }
        let unhelpful = self.nodes - self.candidates.len();
        let mut parts = Vec::new();
        if !self.candidates.is_empty() {
            parts.push(format!("{} No preemption victims found for incoming pod", self.candidates.len()));
        }
        if unhelpful > 0 {
            parts.push(format!("{unhelpful} Preemption is not helpful for scheduling"));
        }
        format!(" preemption: 0/{} nodes are available: {}.", self.nodes, parts.join(", "))
    }
}

/// The plugins, prepared for one pod.
pub struct Checks<'a>(Vec<(&'a dyn Plugin, Box<dyn Check + 'a>)>);

impl<'a> Checks<'a> {
    pub fn prepare(plugins: &'a [Box<dyn Plugin>], pod: &'a PodInfo, cluster: &'a Cluster) -> Self {
        let prepared = plugins.iter().filter_map(|plugin| Some((&**plugin, plugin.prepare(pod, cluster)?)));
        Self(prepared.collect())
    }

    pub fn fits(&self, node: &NodeState) -> bool {
        self.0.iter().all(|(_, check)| check.filter(node).is_ok())
    }
}

/// Finds the best node. `start` is where the search begins, so that large clusters are used evenly.
pub fn choose(
    plugins: &[Box<dyn Plugin>],
    pod: &PodInfo,
    cluster: &Cluster,
    start: &mut usize,
) -> Result<String, Misfit> {
    let checks = Checks::prepare(plugins, pod, cluster);
    let total = cluster.nodes.len();
    let enough = enough_nodes(total);
    let mut fitting: Vec<&NodeState> = Vec::new();
    let mut misfit = Misfit::default();
    let first = if total == 0 { 0 } else { *start % total };
    let mut looked_at = 0;
    for node in cluster.nodes.iter().cycle().skip(first).take(total) {
        looked_at += 1;
        if node.node.is_none() {
            continue;
        }
        misfit.nodes += 1;
        let refusal = checks.0.iter().find_map(|(plugin, check)| Some((plugin, check.filter(node).err()?)));
        match refusal {
            None => fitting.push(node),
            Some((plugin, refusal)) => {
                misfit.helped_by = misfit.helped_by.or(plugin.helped_by());
                misfit.plugins.insert(plugin.name());
                if refusal.preemption_helps {
                    misfit.candidates.push(node.name.clone());
                }
                for reason in refusal.reasons {
                    *misfit.reasons.entry(reason).or_default() += 1;
                }
            }
        }
        if fitting.len() >= enough {
            break;
        }
    }
    *start = first + looked_at;
    match best(&checks, &fitting) {
        Some(node) => Ok(node.name.clone()),
        None => {
            if misfit.nodes == 0 {
                misfit.helped_by = Events::NODE_ADDED;
            }
            Err(misfit)
        }
    }
}

/// How many fitting nodes are enough: all of a small cluster, a part of a large one, as upstream has it.
fn enough_nodes(total: usize) -> usize {
    if total <= LOOK_AT_ALL {
        return total.max(1);
    }
    let percentage = 50_usize.saturating_sub(total / 125).max(5);
    (total * percentage / 100).max(LOOK_AT_ALL)
}

fn best<'a>(checks: &Checks<'_>, fitting: &[&'a NodeState]) -> Option<&'a NodeState> {
    if fitting.len() <= 1 {
        return fitting.first().copied();
    }
    let mut totals = vec![0_i64; fitting.len()];
    for (plugin, check) in checks.0.iter().filter(|(_, check)| check.scores()) {
        let mut scores: Vec<i64> = fitting.iter().map(|node| check.score(node)).collect();
        check.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * plugin.weight();
        }
    }
    let most = totals.iter().copied().max()?;
    let winners: Vec<_> =
        fitting.iter().zip(&totals).filter(|(_, total)| **total == most).map(|(node, _)| *node).collect();
    winners.choose(&mut rand::rng()).copied()
}
