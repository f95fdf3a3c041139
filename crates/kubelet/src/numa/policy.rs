//! The topology manager's policies: the hints of all managers become one, and decide about the pod.

use std::collections::BTreeMap;

use super::machine::Machine;
use super::{Hint, Hints, Mask};
use crate::config::KubeletConfiguration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    None,
    BestEffort,
    Restricted,
    SingleNumaNode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Container,
    Pod,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub kind: Kind,
    pub scope: Scope,
    prefer_closest: bool,
}

/// The kernel's figures are combined in every way: more nodes than this take too long.
const MOST_NODES: usize = 8;

impl Policy {
    pub fn new(config: &KubeletConfiguration, machine: &Machine) -> Result<Self, String> {
        let kind = match config.topology_manager_policy.as_str() {
            "none" | "" => Kind::None,
            "best-effort" => Kind::BestEffort,
            "restricted" => Kind::Restricted,
            "single-numa-node" => Kind::SingleNumaNode,
            other => return Err(format!("unknown policy: {other:?}")),
        };
        let scope = match config.topology_manager_scope.as_str() {
            "container" | "" => Scope::Container,
            "pod" => Scope::Pod,
            other => return Err(format!("unknown scope: {other:?}")),
        };
        let mut policy = Self { kind, scope, prefer_closest: false };
        let mut most = MOST_NODES;
        for (name, value) in &config.topology_manager_policy_options {
            let bad = || format!("bad value for option {name:?}: {value:?}");
            match name.as_str() {
                "prefer-closest-numa-nodes" => policy.prefer_closest = value.parse().map_err(|_| bad())?,
                "max-allowable-numa-nodes" => {
                    most =
                        value.parse().ok().filter(|most| (MOST_NODES..=16).contains(most)).ok_or_else(bad)?;
                }
                _ => return Err(format!("unknown Topology Manager Policy option: {name:?}")),
            }
        }
        if kind != Kind::None && machine.nodes.len() > most {
            return Err(format!("unsupported on machines with more than {most} NUMA Nodes"));
        }
        Ok(policy)
    }

    /// The one hint of all managers, and whether the pod may run with it.
    pub fn merge(&self, machine: &Machine, providers: &[Hints]) -> (Hint, bool) {
        let any = machine.mask();
        let mut lists: Vec<Vec<Hint>> = providers.iter().flat_map(lists_of).collect();
        if self.kind == Kind::SingleNumaNode {
            for list in &mut lists {
                list.retain(|hint| hint.preferred && hint.mask.is_none_or(|mask| mask.count() == 1));
            }
        }
        let smallest = |list: &Vec<Hint>| list.iter().filter_map(|hint| hint.mask).map(Mask::count).min();
        let judge = Judge {
            machine,
            closest: self.prefer_closest && self.kind != Kind::SingleNumaNode,
            enough: lists.iter().filter_map(smallest).max().unwrap_or(0),
        };
        let mut best: Option<Joined> = None;
        for joined in combinations(&lists, any) {
            best = judge.better(best, joined);
        }
        let best = best.unwrap_or(Joined { mask: any, preferred: false });
        let mut hint = Hint { mask: Some(best.mask), preferred: best.preferred };
        if self.kind == Kind::SingleNumaNode && best.mask == any {
            hint.mask = None;
        }
        let admitted = match self.kind {
            Kind::None | Kind::BestEffort => true,
            Kind::Restricted | Kind::SingleNumaNode => hint.preferred,
        };
        (hint, admitted)
    }
}

/// What a manager says, a list for each resource. Who says nothing does not mind; who has no hint cannot serve.
fn lists_of(hints: &Hints) -> Vec<Vec<Hint>> {
    let any = |preferred| vec![Hint { mask: None, preferred }];
    if hints.is_empty() {
        return vec![any(true)];
    }
    let list = |hints: &Option<Vec<Hint>>| match hints {
        None => any(true),
        Some(hints) if hints.is_empty() => any(false),
        Some(hints) => hints.clone(),
    };
    hints.values().map(list).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Joined {
    mask: Mask,
    preferred: bool,
}

/// What comes of taking one hint of each list. Lists are folded one by one and equal outcomes kept once, so that the work
/// is bounded by the number of masks, not by the product of the lists. Preferred is what all agree on.
fn combinations(lists: &[Vec<Hint>], any: Mask) -> Vec<Joined> {
    // By outcome: whether all masks so far were the same one, and which.
    let mut so_far: BTreeMap<(Joined, Option<Mask>), ()> = BTreeMap::new();
    so_far.insert((Joined { mask: any, preferred: true }, None), ());
    for list in lists {
        let mut next = BTreeMap::new();
        for (joined, first) in so_far.keys() {
            for hint in list {
                let same = match (hint.mask, *first) {
                    (Some(mask), Some(first)) => mask == first,
                    _ => true,
                };
                let joined = Joined {
                    mask: joined.mask.and(hint.mask.unwrap_or(any)),
                    preferred: joined.preferred && hint.preferred && same,
                };
                next.insert((joined, first.or(hint.mask)), ());
            }
        }
        so_far = next;
    }
    so_far.into_keys().map(|(joined, _)| joined).filter(|joined| !joined.mask.is_empty()).collect()
}

struct Judge<'a> {
    machine: &'a Machine,
    closest: bool,
    /// Nodes that the most demanding resource needs: unpreferred hints come as near to that as they can.
    enough: usize,
}

impl Judge<'_> {
    fn better(&self, current: Option<Joined>, other: Joined) -> Option<Joined> {
        let Some(current) = current else { return Some(other) };
        let fitter = if self.fits_better(other.mask, current.mask) { other } else { current };
        let (now, then) = (current.mask.count(), other.mask.count());
        let chosen = match (current.preferred, other.preferred) {
            (false, true) => other,
            (true, false) => current,
            (true, true) => fitter,
            (false, false) if now > self.enough => fitter,
            (false, false) if now == self.enough => {
                if then == now {
                    fitter
                } else {
                    current
                }
            }
            (false, false) if then > self.enough || then < now => current,
            (false, false) if then > now => other,
            (false, false) => fitter,
        };
        Some(chosen)
    }

    fn fits_better(&self, other: Mask, current: Mask) -> bool {
        if self.closest && other.count() == current.count() {
            let (a, b) = (self.machine.distance(other), self.machine.distance(current));
            if a != b {
                return a < b;
            }
        }
        other.is_narrower_than(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(nodes: &[u32], preferred: bool) -> Hint {
        Hint { mask: (!nodes.is_empty()).then(|| Mask::of(nodes.iter().copied())), preferred }
    }

    fn provider(lists: &[(&str, Option<Vec<Hint>>)]) -> Hints {
        lists.iter().map(|(name, list)| ((*name).to_owned(), list.clone())).collect()
    }

    fn policy(kind: Kind) -> Policy {
        Policy { kind, scope: Scope::Container, prefer_closest: false }
    }

    fn check(kind: Kind, providers: &[Hints], expected: (Hint, bool)) {
        assert_eq!(
            policy(kind).merge(&Machine::fake(2, 1, 4, 1), providers),
            expected,
            "{kind:?} {providers:?}"
        );
    }

    #[test]
    fn hints_are_joined() {
        use Kind::{BestEffort, Restricted, SingleNumaNode};
        let cpu = |list: Vec<Hint>| provider(&[("cpu", Some(list))]);
        let gpu = |list: Vec<Hint>| provider(&[("gpu", Some(list))]);
        let both = || vec![hint(&[0], true), hint(&[1], true), hint(&[0, 1], false)];
        // All say the same.
        let agreed = [cpu(both()), gpu(vec![hint(&[1], true), hint(&[0, 1], false)])];
        for kind in [BestEffort, Restricted, SingleNumaNode] {
            check(kind, &agreed, (hint(&[1], true), true));
        }
        // They do not: the pod runs where it may run badly.
        let torn = [cpu(vec![hint(&[0], true), hint(&[0, 1], false)]), gpu(vec![hint(&[1], true)])];
        check(BestEffort, &torn, (hint(&[1], false), true));
        check(Restricted, &torn, (hint(&[1], false), false));
        check(SingleNumaNode, &torn, (hint(&[], false), false));
        // Two nodes are what it takes.
        let large = [cpu(vec![hint(&[0, 1], true)])];
        check(Restricted, &large, (hint(&[0, 1], true), true));
        check(SingleNumaNode, &large, (hint(&[], false), false));
        // Nobody minds.
        check(Restricted, &[Hints::new(), provider(&[("gpu", None)])], (hint(&[0, 1], true), true));
        check(SingleNumaNode, &[Hints::new()], (hint(&[], true), true));
        // Nothing can serve.
        check(Restricted, &[cpu(vec![])], (hint(&[0, 1], false), false));
        check(BestEffort, &[cpu(vec![])], (hint(&[0, 1], false), true));
    }

    #[test]
    fn unpreferred_hints_come_near_to_what_is_needed() {
        let machine = Machine::fake(4, 1, 4, 1);
        let needs_two = provider(&[("cpu", Some(vec![hint(&[0, 1], false), hint(&[0, 1, 2], false)]))]);
        let needs_one = provider(&[("gpu", Some(vec![hint(&[0], false), hint(&[0, 1], false)]))]);
        let (merged, _) = policy(Kind::BestEffort).merge(&machine, &[needs_two, needs_one]);
        assert_eq!(merged, hint(&[0, 1], false));
    }

    #[test]
    fn nodes_that_are_near_each_other() {
        let mut machine = Machine::fake(4, 1, 4, 1);
        for (id, node) in &mut machine.nodes {
            node.distances = (0..4).map(|other| (other, if other % 2 == id % 2 { 10 } else { 20 })).collect();
        }
        let hints = provider(&[("cpu", Some(vec![hint(&[0, 1], true), hint(&[0, 2], true)]))]);
        let near = Policy { prefer_closest: true, ..policy(Kind::Restricted) };
        assert_eq!(near.merge(&machine, std::slice::from_ref(&hints)).0, hint(&[0, 2], true));
        assert_eq!(policy(Kind::Restricted).merge(&machine, &[hints]).0, hint(&[0, 1], true));
    }

    #[test]
    fn options_are_read() {
        let machine = Machine::fake(2, 1, 4, 1);
        let check = |policy: &str, options: &[(&str, &str)], ok: bool| {
            let config = KubeletConfiguration {
                topology_manager_policy: policy.into(),
                topology_manager_policy_options: options
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                ..Default::default()
            };
            assert_eq!(Policy::new(&config, &machine).is_ok(), ok, "{policy} {options:?}");
        };
        check("restricted", &[("prefer-closest-numa-nodes", "true")], true);
        check("restricted", &[("prefer-closest-numa-nodes", "perhaps")], false);
        check("restricted", &[("max-allowable-numa-nodes", "4")], false);
        check("restricted", &[("max-allowable-numa-nodes", "10")], true);
        check("restricted", &[("x", "1")], false);
        check("strict", &[], false);
    }
}
