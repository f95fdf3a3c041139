//! What can happen in a cluster that lets a pod fit that did not fit before.

use k8s_openapi::api::core::v1::Node;

use crate::cluster::NodeState;
use crate::pod::PodInfo;

/// A set of sorts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const NODE_ADDED: Self = Self(1);
    pub const NODE_RESOURCES: Self = Self(1 << 1);
    pub const NODE_LABELS: Self = Self(1 << 2);
    pub const NODE_TAINTS: Self = Self(1 << 3);
    /// A pod has gone, or has got smaller.
    pub const POD_REMOVED: Self = Self(1 << 4);
    pub const POD_ADDED: Self = Self(1 << 5);
    pub const CLAIM: Self = Self(1 << 6);
    pub const VOLUME: Self = Self(1 << 7);
    pub const STORAGE_CLASS: Self = Self(1 << 8);
    pub const CSI_NODE: Self = Self(1 << 9);
    pub const CSI_DRIVER: Self = Self(1 << 10);
    pub const CSI_CAPACITY: Self = Self(1 << 11);
    pub const RESOURCE_CLAIM: Self = Self(1 << 12);
    pub const RESOURCE_SLICE: Self = Self(1 << 13);
    pub const DEVICE_CLASS: Self = Self(1 << 14);
    pub const NODE_FEATURES: Self = Self(1 << 15);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What metrics call it: the first of its sorts.
    pub fn label(self) -> &'static str {
        const LABELS: [&str; 16] = [
            "NodeAdd",
            "NodeAllocatableChange",
            "NodeLabelChange",
            "NodeTaintChange",
            "AssignedPodDelete",
            "AssignedPodAdd",
            "PersistentVolumeClaimUpdate",
            "PersistentVolumeUpdate",
            "StorageClassUpdate",
            "CSINodeUpdate",
            "CSIDriverUpdate",
            "CSIStorageCapacityUpdate",
            "ResourceClaimUpdate",
            "ResourceSliceUpdate",
            "DeviceClassUpdate",
            "NodeDeclaredFeatureChange",
        ];
        LABELS.get(self.0.trailing_zeros() as usize).copied().unwrap_or("Unknown")
    }

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// What about a node has changed that may matter. Heartbeats do not.
    pub fn of_node(old: &Node, new: &Node) -> Self {
        let mut kinds = Self::NONE;
        let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
        if allocatable(old) != allocatable(new) {
            kinds = kinds.or(Self::NODE_RESOURCES);
        }
        if old.metadata.labels != new.metadata.labels {
            kinds = kinds.or(Self::NODE_LABELS);
        }
        let taints = |node: &Node| {
            node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable == Some(true)))
        };
        if taints(old) != taints(new) {
            kinds = kinds.or(Self::NODE_TAINTS);
        }
        let features = |node: &Node| node.status.as_ref().and_then(|status| status.declared_features.clone());
        if features(old) != features(new) {
            kinds = kinds.or(Self::NODE_FEATURES);
        }
        kinds
    }
}

/// One event, with what it is about.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    Node(Kinds, &'a NodeState),
    PodAdded(&'a PodInfo),
    PodRemoved(&'a PodInfo),
    /// A claim of that namespace and name.
    Claim(&'a str, &'a str),
    /// A claim for devices, of that namespace and name.
    ResourceClaim(&'a str, &'a str),
    Other(Kinds),
}

impl Event<'_> {
    pub const fn kinds(&self) -> Kinds {
        match self {
            Self::Node(kinds, _) | Self::Other(kinds) => *kinds,
            Self::PodAdded(_) => Kinds::POD_ADDED,
            Self::PodRemoved(_) => Kinds::POD_REMOVED,
            Self::Claim(..) => Kinds::CLAIM,
            Self::ResourceClaim(..) => Kinds::RESOURCE_CLAIM,
        }
    }
}
