//! Making room for an important pod by sending less important ones away. Free of IO.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::misfit::tell;
use super::{Attempt, Misfit};
use crate::budgets::Budgets;
use crate::cluster::Slot;
use crate::pod::PodInfo;
use crate::random::Random;

/// The pods that would have to go, and from where.
#[derive(Clone, Debug)]
pub struct Victims {
    pub node: String,
    /// The most important first.
    pub pods: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget would rather keep.
    pub violations: usize,
}

/// What came of looking for victims.
#[derive(Debug)]
pub enum Preemption {
    /// In the order in which they are preferred.
    Candidates(Vec<Victims>),
    /// Nobody can be sent away, or nobody need be; what is added to the pod's message.
    Futile(String),
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Where the least harm makes room, if it can be made anywhere.
pub fn find(
    attempt: Option<&Attempt<'_>>,
    pod: &PodInfo,
    misfit: &Misfit,
    budgets: &Budgets,
    from: &mut Random,
) -> Preemption {
    if misfit.nodes == 0 {
        return Preemption::Futile(String::new());
    }
    if !pod.may_preempt() {
        return Preemption::Futile("preemption: not eligible due to preemptionPolicy=Never.".to_owned());
    }
    if let Some(attempt) = attempt
        && waits_for_victims(attempt, pod, misfit)
    {
        return Preemption::Futile(
            "preemption: not eligible due to a terminating pod on the nominated node.".to_owned(),
        );
    }
    let mut reasons: BTreeMap<Cow<'static, str>, usize> = BTreeMap::new();
    let unhelpful = misfit.nodes - misfit.candidates.len();
    if unhelpful > 0 {
        reasons.insert(NOT_HELPFUL.into(), unhelpful);
    }
    let mut found = Vec::new();
    let enough = attempt.map_or(0, |attempt| attempt.profile.preemption.enough(misfit.nodes));
    // Not always the same nodes of a large cluster.
    let first = from.below(misfit.candidates.len());
    let (before, after) = misfit.candidates.split_at(first);
    for slot in after.iter().chain(before) {
        let Some(attempt) = attempt else { continue };
        if found.len() >= enough && found.iter().any(|victims: &Victims| victims.violations == 0) {
            break;
        }
        match victims(attempt, pod, *slot, budgets) {
            Ok(victims) => found.push(victims),
            Err(why) => why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
    }
    if found.is_empty() {
        return Preemption::Futile(format!("preemption: {}", tell(misfit.nodes, &reasons)));
    }
    // The lowest most important victim, the least sum of importance, the fewest victims, and of these those whose
    // most important victim has run the shortest.
    found.sort_by_cached_key(|victims| {
        let first = victims.pods.first();
        let sum: i128 =
            victims.pods.iter().map(|victim| i128::from(victim.priority) + i128::from(i32::MAX) + 1).sum();
        let most = first.map(|victim| victim.priority);
        let of_most = victims.pods.iter().filter(|victim| Some(victim.priority) == most);
        let earliest = of_most.filter_map(|victim| victim.started()).min();
        (victims.violations, most, sum, victims.pods.len(), std::cmp::Reverse(earliest))
    });
    Preemption::Candidates(found)
}

/// Room is being made already: less important pods are on their way out there.
fn waits_for_victims(attempt: &Attempt<'_>, pod: &PodInfo, misfit: &Misfit) -> bool {
    let Some(slot) = pod.nominated_node().and_then(|name| attempt.cluster.slot_of(name)) else {
        return false;
    };
    // If the node can never fit, what goes on there does not matter.
    misfit.candidates.contains(&slot)
        && attempt.cluster.nodes.get(slot).is_some_and(|node| {
            node.pods.values().any(|other| {
                let preempted =
                    other.pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(
                        |condition| {
                            condition.type_ == "DisruptionTarget"
                                && condition.status == "True"
                                && condition.reason.as_deref() == Some("PreemptionByScheduler")
                        },
                    );
                other.is_terminating() && other.priority < pod.priority && preempted
            })
        })
}

/// Whom a node has to lose: everybody less important, except those who may stay after all.
fn victims(
    attempt: &Attempt<'_>,
    pod: &PodInfo,
    slot: Slot,
    budgets: &Budgets,
) -> Result<Victims, Vec<Cow<'static, str>>> {
    let Some(node) = attempt.cluster.nodes.get(slot) else { return Err(vec![NOT_HELPFUL.into()]) };
    let mut less: Vec<_> =
        node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if less.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    let mut without = node.clone();
    for other in &less {
        without.remove_pod(&other.uid);
    }
    if let Some((_, refusal)) = attempt.refusal_if(slot, &without) {
        return Err(refusal.reasons);
    }
    // The most important first, of equals the one that has run longest.
    less.sort_by_key(|other| (std::cmp::Reverse(other.priority), other.started().is_none(), other.started()));
    // Those whom a budget protects stay if anybody can.
    let (protected, free) = budgets.split(&less);
    let mut pods = Vec::new();
    let mut violations = 0;
    for (group, counts) in [(protected, 1), (free, 0)] {
        for other in group {
            without.add_pod(other.clone());
            if attempt.refusal_if(slot, &without).is_some() {
                without.remove_pod(&other.uid);
                violations += counts;
                pods.push(other);
            }
        }
    }
    pods.sort_by_key(|other| (std::cmp::Reverse(other.priority), other.started().is_none(), other.started()));
    Ok(Victims { node: node.name.clone(), pods, violations })
}
