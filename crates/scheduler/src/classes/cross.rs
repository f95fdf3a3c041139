//! What is counted over several nodes for pods that are alike: spreading and affinity between pods.

use super::affinity::Affinity;
use super::local::Judges;
use super::spread::Spread;
use crate::cluster::{Changed, Cluster, Missed, NodeState, Slot};
use crate::config::Profile;
use crate::labels::Labels;
use crate::plugins::pod_topology_spread::Constraints;
use crate::plugins::{PluginId, Refusal};
use crate::pod::PodInfo;

/// What a pod wishes for across nodes.
pub struct Wishes {
    pub constraints: Constraints,
    /// The pod's labels that some selector may look at.
    pub labels: Labels,
}

impl Wishes {
    /// Nothing if the pod has no such wishes, nor anybody about it.
    pub fn of(pod: &PodInfo, profile: &Profile, cluster: &Cluster) -> Option<Self> {
        let spreads = profile.spreads();
        let constraints = if spreads {
            Constraints::of(pod, &profile.spread_defaults, || cluster.workloads.selector_of(pod))
        } else {
            Constraints::default()
        };
        if constraints.all.is_empty()
            && (!profile.attracts() || (pod.terms.is_none() && cluster.with_terms == 0))
        {
            return None;
        }
        let own = pod.terms.iter().flat_map(|terms| terms.all().flat_map(|term| term.label_keys()));
        let own: Vec<&str> = own.chain(constraints.label_keys()).collect();
        let looked_at = |key: &str| own.contains(&key) || cluster.term_keys.contains_key(key);
        let labels = pod.pod.metadata.labels.iter().flatten();
        let labels = labels.filter(|(key, _)| looked_at(key));
        let labels = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        Some(Self { constraints, labels })
    }
}

pub struct CrossClass {
    pub spread: Spread,
    pub affinity: Affinity,
    /// What `affinity` is made of, to make it again.
    origin: (crate::plugins::inter_pod_affinity::Terms, String, Labels),
    seen: u64,
    namespaces_version: u64,
    selecting: bool,
    versions: Vec<u64>,
    made: bool,
    pub used: u64,
}

impl CrossClass {
    pub fn new(pod: &PodInfo, wishes: Wishes, profile: &Profile, cluster: &Cluster) -> Self {
        let terms = pod.terms.as_deref().cloned().unwrap_or_default();
        let (namespace, labels) = (pod.namespace(), wishes.labels);
        Self {
            spread: Spread::new(wishes.constraints, namespace, &labels),
            affinity: Affinity::new(terms.clone(), namespace, &labels, profile, &cluster.namespaces),
            origin: (terms, namespace.to_owned(), labels),
            seen: 0,
            namespaces_version: cluster.namespaces_version,
            selecting: false,
            versions: Vec::new(),
            made: false,
            used: 0,
        }
    }

    /// Looks at what has changed.
    pub fn refresh(&mut self, cluster: &Cluster, judges: &Judges, profile: &Profile) {
        // Somebody who selected by labels of namespaces may have gone since, and was counted by the old ones.
        let selecting = cluster.selecting_namespaces > 0;
        let selected = std::mem::replace(&mut self.selecting, selecting) || selecting;
        let renamed = self.namespaces_version != cluster.namespaces_version
            && (selected || self.origin.0.looks_at_namespaces());
        self.namespaces_version = cluster.namespaces_version;
        if renamed {
            let (terms, namespace, labels) = &self.origin;
            self.affinity = Affinity::new(terms.clone(), namespace, labels, profile, &cluster.namespaces);
            self.versions.clear();
        }
        match cluster.log.since(self.seen) {
            Missed::Some(changed) if self.made && !renamed => {
                for (version, slot, changed) in changed {
                    match changed {
                        Changed::Node => self.look_at(slot, cluster, judges),
                        Changed::PodAdded(pod) => self.pod_moved(version, slot, pod, 1, cluster, judges),
                        Changed::PodRemoved(pod) => self.pod_moved(version, slot, pod, -1, cluster, judges),
                    }
                }
            }
            _ => (0..cluster.nodes.len()).for_each(|slot| self.look_at(slot, cluster, judges)),
        }
        self.made = true;
        self.seen = cluster.log.version();
    }

    fn pod_moved(
        &mut self,
        version: u64,
        slot: Slot,
        pod: &PodInfo,
        sign: i64,
        cluster: &Cluster,
        judges: &Judges,
    ) {
        let Some(seen) = self.versions.get_mut(slot).filter(|seen| **seen > 0) else {
            self.look_at(slot, cluster, judges);
            return;
        };
        // Who has looked at the node since has seen it.
        if version > *seen {
            *seen = version;
            self.spread.pod_moved(slot, pod, sign);
            self.affinity.pod_moved(slot, pod, sign, cluster);
        }
    }

    fn look_at(&mut self, slot: Slot, cluster: &Cluster, judges: &Judges) {
        let Some(node) = cluster.nodes.get(slot) else { return };
        if self.versions.len() <= slot {
            self.versions.resize(slot + 1, 0);
        }
        if let Some(version) = self.versions.get_mut(slot) {
            if *version == node.version && node.version != 0 {
                return;
            }
            *version = node.version;
        }
        self.spread.look_at(slot, node, judges);
        self.affinity.look_at(slot, cluster);
    }

    pub fn refusal(
        &self,
        slot: Slot,
        node: Option<&NodeState>,
        profile: &Profile,
        cluster: &Cluster,
    ) -> Option<(PluginId, Refusal)> {
        if profile.filters.contains(PluginId::PodTopologySpread)
            && let Some(refusal) = self.spread.refusal(slot, node)
        {
            return Some((PluginId::PodTopologySpread, refusal));
        }
        if !profile.filters.contains(PluginId::InterPodAffinity) {
            return None;
        }
        let refusal = self.affinity.refusal(slot, node, &cluster.namespaces)?;
        Some((PluginId::InterPodAffinity, refusal))
    }
}
