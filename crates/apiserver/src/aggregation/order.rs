//! In which order discovery shows groups and versions: by the priorities of the APIServices, then by name and by how
//! mature a version is.

use std::cmp::Reverse;

use ahash::AHashMap;
use api::registry::Group;

use crate::crd::priority;

/// `groupPriorityMinimum` and `versionPriority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    pub group: i64,
    pub version: i64,
}

/// The built-in groups with their priorities, as upstream's APIServices have them.
const GROUPS: &[(&str, i64)] = &[
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("admissionregistration.k8s.io", 16700),
    ("apiextensions.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("resource.k8s.io", 15900),
    ("storagemigration.k8s.io", 15800),
];

impl Rank {
    /// Of what something else in this process serves; as the usual extension servers ask for.
    pub const INSIDE: Self = Self { group: 100, version: 100 };
    /// Of a custom resource.
    const CUSTOM: Self = Self { group: 1000, version: 100 };

    /// Of a group version of this server, as long as its APIService does not say otherwise.
    pub fn local(group: &str, version: &str) -> Self {
        // The group that APIServices are in has none itself, and is always first.
        if group == super::GROUP {
            return Self { group: 20_000, version: 100 };
        }
        let Some((_, rank)) = GROUPS.iter().find(|(name, _)| *name == group) else { return Self::CUSTOM };
        let version = match (group, version) {
            ("", _) => 1,
            ("autoscaling", "v2") => 30,
            ("flowcontrol.apiserver.k8s.io", "v1") => 21,
            (_, "v1") => 15,
            _ => 9,
        };
        Self { group: *rank, version }
    }
}

/// The groups in order, each with its versions in order.
pub fn arranged(versions: impl IntoIterator<Item = (String, String, Rank)>) -> Vec<Group> {
    let mut groups: AHashMap<String, (i64, Vec<(String, i64)>)> = AHashMap::new();
    for (group, version, rank) in versions {
        let (highest, versions) = groups.entry(group).or_insert((rank.group, Vec::new()));
        *highest = rank.group.max(*highest);
        if versions.iter().all(|(known, _)| *known != version) {
            versions.push((version, rank.version));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(name, (rank, _)), (other, (other_rank, _))| {
        (!name.is_empty(), Reverse(rank), name).cmp(&(!other.is_empty(), Reverse(other_rank), other))
    });
    let arranged = groups.into_iter().map(|(name, (_, mut versions))| {
        versions.sort_by_cached_key(|(version, rank)| Reverse((*rank, priority(version))));
        Group { name, versions: versions.into_iter().map(|(version, _)| version).collect() }
    });
    arranged.collect()
}

#[cfg(test)]
mod tests {
    use api::registry::Registry;

    use super::*;

    #[test]
    fn built_in_groups_are_where_upstream_has_them() {
        let builtin = Registry::builtin();
        let all = builtin.groups().iter().flat_map(|group| {
            group
                .versions
                .iter()
                .map(|version| (group.name.clone(), version.clone(), Rank::local(&group.name, version)))
        });
        let arranged = arranged(all);
        let names =
            |groups: &[Group]| -> Vec<String> { groups.iter().map(|group| group.name.clone()).collect() };
        assert_eq!(names(&arranged), names(builtin.groups()));
        assert!(names(&arranged).iter().all(|name| Rank::local(name, "v1") != Rank::CUSTOM));
        let autoscaling =
            arranged.iter().find(|group| group.name == "autoscaling").map(|group| &group.versions);
        assert_eq!(autoscaling.map(Vec::as_slice), Some(&["v2".to_owned(), "v1".to_owned()][..]));
    }

    #[test]
    fn priorities_go_before_names() {
        let given = [
            ("b", "v1", 100, 1),
            ("a", "v1", 100, 5),
            ("a", "v2", 100, 5),
            ("z", "v1beta1", 10, 1),
            ("z", "v1alpha1", 200, 9),
        ];
        let arranged = arranged(given.map(|(group, version, rank, of_version)| {
            (group.to_owned(), version.to_owned(), Rank { group: rank, version: of_version })
        }));
        let shown: Vec<String> =
            arranged.iter().map(|group| format!("{} {}", group.name, group.versions.join(" "))).collect();
        assert_eq!(shown, ["z v1alpha1 v1beta1", "a v2 v1", "b v1"]);
    }
}
