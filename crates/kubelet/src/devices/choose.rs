//! Which devices could serve a container, and near which NUMA nodes they are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::plugin::Device;
use crate::numa::{Hint, Mask, hints};

fn near(device: &Device) -> Mask {
    Mask::of(device.numa_nodes.iter().filter_map(|node| u32::try_from(*node).ok()))
}

fn is_near(devices: &BTreeMap<String, Device>, id: &str, mask: Mask) -> bool {
    devices.get(id).is_some_and(|device| !near(device).and(mask).is_empty())
}

/// Hints for `wanted` of the `free` devices, together with all those that are `reusable`; nothing where no device is near
/// any node.
pub fn hints_for(
    machine: Mask,
    devices: &BTreeMap<String, Device>,
    free: &BTreeSet<String>,
    reusable: &BTreeSet<String>,
    wanted: usize,
) -> Option<Vec<Hint>> {
    if devices.values().all(|device| device.numa_nodes.is_empty()) {
        return None;
    }
    if free.union(reusable).count() < wanted {
        return Some(Vec::new());
    }
    let count = |ids: &mut dyn Iterator<Item = &String>, mask: Mask| {
        ids.filter(|id| is_near(devices, id, mask)).count()
    };
    let placed: BTreeSet<&String> = reusable
        .iter()
        .filter(|id| devices.get(*id).is_some_and(|device| !device.numa_nodes.is_empty()))
        .collect();
    Some(hints(
        machine,
        |mask| count(&mut devices.keys(), mask) >= wanted,
        |mask| {
            placed.iter().all(|id| is_near(devices, id, mask))
                && count(&mut free.iter().filter(|id| !placed.contains(id)), mask) + placed.len() >= wanted
        },
    ))
}

/// The free devices in the order to take them: those near the hint's nodes, those near others, those near none. The first
/// number tells how many of them are near.
pub fn ordered(
    devices: &BTreeMap<String, Device>,
    free: Vec<String>,
    hint: Option<Hint>,
) -> (usize, Vec<String>) {
    let Some(mask) = hint.and_then(|hint| hint.mask) else { return (free.len(), free) };
    if devices.values().all(|device| device.numa_nodes.is_empty()) {
        return (free.len(), free);
    }
    let (aligned, rest): (Vec<String>, Vec<String>) =
        free.into_iter().partition(|id| is_near(devices, id, mask));
    let (elsewhere, nowhere): (Vec<String>, Vec<String>) =
        rest.into_iter().partition(|id| devices.get(id).is_some_and(|device| !device.numa_nodes.is_empty()));
    let count = aligned.len();
    (count, [aligned, elsewhere, nowhere].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(list: &[(&str, &[i64])]) -> BTreeMap<String, Device> {
        let device = |(id, nodes): &(&str, &[i64])| {
            ((*id).to_owned(), Device { healthy: true, numa_nodes: nodes.to_vec() })
        };
        list.iter().map(device).collect()
    }

    fn ids(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn hints_by_what_is_free() {
        let placed = devices(&[("a", &[0]), ("b", &[0]), ("c", &[1]), ("d", &[])]);
        let check =
            |free: &[&str], reusable: &[&str], wanted: usize, expected: Option<Vec<(Vec<u32>, bool)>>| {
                let hints = hints_for(Mask::of([0, 1]), &placed, &ids(free), &ids(reusable), wanted);
                let shown = hints.map(|hints| {
                    hints.iter().map(|hint| (hint.mask.unwrap().nodes().collect(), hint.preferred)).collect()
                });
                assert_eq!(shown, expected, "{wanted} of {free:?}");
            };
        check(&["a", "b", "c"], &[], 1, Some(vec![(vec![0], true), (vec![1], true), (vec![0, 1], false)]));
        check(&["a", "c"], &[], 2, Some(vec![(vec![0, 1], false)]));
        check(&["a", "b"], &["c"], 2, Some(vec![(vec![0, 1], false)]));
        check(&["a"], &[], 2, Some(vec![]));
        let plain = devices(&[("a", &[])]);
        assert_eq!(hints_for(Mask::of([0]), &plain, &ids(&["a"]), &ids(&[]), 1), None);
    }

    #[test]
    fn near_ones_first() {
        let placed = devices(&[("a", &[0]), ("b", &[]), ("c", &[1])]);
        let free = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let hint = |mask| Some(Hint { mask, preferred: true });
        assert_eq!(
            ordered(&placed, free(), hint(Some(Mask::of([1])))),
            (1, vec!["c".into(), "a".into(), "b".into()])
        );
        assert_eq!(ordered(&placed, free(), hint(None)).1, free());
    }
}
