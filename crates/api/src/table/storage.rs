//! Volumes, claims and the classes and drivers behind them.

use serde_json::Value;

use super::cells::{UNSET, age, flag, is_deleted, list, map, name, plain, text, text_or, texts};
use super::config::length;
use super::{AGE, NAME, Printer, column, number, wide};

static VOLUME: Printer = Printer {
    columns: &[
        NAME,
        column("Capacity", "capacity is the description of the persistent volume's resources and capacity."),
        column("Access Modes", "accessModes contains all ways the volume can be mounted."),
        column(
            "Reclaim Policy",
            "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim.",
        ),
        column(
            "Status",
            "phase indicates if a volume is available, bound to a claim, or released by a claim.",
        ),
        column(
            "Claim",
            "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim.",
        ),
        column(
            "StorageClass",
            "storageClassName is the name of StorageClass to which this persistent volume belongs.",
        ),
        column(
            "VolumeAttributesClass",
            "Name of VolumeAttributesClass to which this persistent volume belongs.",
        ),
        column("Reason", "reason is a brief CamelCase string that describes any failure."),
        AGE,
        wide(
            "VolumeMode",
            "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state.",
        ),
    ],
    cells: |object, now| {
        let claim = match object.pointer("/spec/claimRef") {
            Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
            None => String::new(),
        };
        vec![
            name(object),
            object.pointer("/spec/capacity/storage").map(plain).unwrap_or_default().into(),
            access_modes(object, "/spec/accessModes").into(),
            text(object, "/spec/persistentVolumeReclaimPolicy").into(),
            phase(object).into(),
            claim.into(),
            storage_class(object).into(),
            text_or(object, "/spec/volumeAttributesClassName", UNSET).into(),
            text(object, "/status/reason").into(),
            age(object, now),
            text_or(object, "/spec/volumeMode", UNSET).into(),
        ]
    },
};

static CLAIM: Printer = Printer {
    columns: &[
        NAME,
        column("Status", "phase represents the current phase of PersistentVolumeClaim."),
        column("Volume", "volumeName is the binding reference to the PersistentVolume backing this claim."),
        column("Capacity", "capacity represents the actual resources of the underlying volume."),
        column(
            "Access Modes",
            "accessModes contains the actual access modes the volume backing the PVC has.",
        ),
        column("StorageClass", "storageClassName is the name of the StorageClass required by the claim."),
        column(
            "VolumeAttributesClass",
            "volumeAttributesClassName may be used to set the VolumeAttributesClass used by this claim.",
        ),
        AGE,
        wide("VolumeMode", "volumeMode defines what type of volume is required by the claim."),
    ],
    cells: |object, now| {
        // What the claim has, which it only has once it is bound.
        let bound = !text(object, "/spec/volumeName").is_empty();
        let capacity = object.pointer("/status/capacity/storage").filter(|_| bound);
        vec![
            name(object),
            phase(object).into(),
            text(object, "/spec/volumeName").into(),
            capacity.map(plain).unwrap_or_default().into(),
            if bound { access_modes(object, "/status/accessModes") } else { String::new() }.into(),
            storage_class(object).into(),
            text_or(object, "/spec/volumeAttributesClassName", UNSET).into(),
            age(object, now),
            text_or(object, "/spec/volumeMode", UNSET).into(),
        ]
    },
};

static STORAGE_CLASS: Printer = Printer {
    columns: &[
        NAME,
        column("Provisioner", "provisioner indicates the type of the provisioner."),
        column(
            "ReclaimPolicy",
            "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class.",
        ),
        column(
            "VolumeBindingMode",
            "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.",
        ),
        column(
            "AllowVolumeExpansion",
            "allowVolumeExpansion shows whether the storage class allow volume expand.",
        ),
        AGE,
    ],
    cells: |object, now| {
        vec![
            name_with_default(object, "storageclass.kubernetes.io/is-default-class"),
            text(object, "/provisioner").into(),
            text_or(object, "/reclaimPolicy", "Delete").into(),
            text_or(object, "/volumeBindingMode", "Immediate").into(),
            flag(object, "/allowVolumeExpansion").to_string().into(),
            age(object, now),
        ]
    },
};

static VOLUME_ATTRIBUTES_CLASS: Printer = Printer {
    columns: &[NAME, column("DriverName", "Name of the CSI driver"), AGE],
    cells: |object, now| {
        vec![
            name_with_default(object, "storageclass.kubernetes.io/is-default-class"),
            text(object, "/driverName").into(),
            age(object, now),
        ]
    },
};

static VOLUME_ATTACHMENT: Printer = Printer {
    columns: &[
        NAME,
        column("Attacher", "attacher indicates the name of the volume driver that MUST handle this request."),
        column("PV", "The persistent volume to attach."),
        column("Node", "nodeName represents the node that the volume should be attached to."),
        column("Attached", "attached indicates the volume is successfully attached."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/spec/attacher").into(),
            text(object, "/spec/source/persistentVolumeName").into(),
            text(object, "/spec/nodeName").into(),
            flag(object, "/status/attached").to_string().into(),
            age(object, now),
        ]
    },
};

static CSI_DRIVER: Printer = Printer {
    columns: &[
        NAME,
        column(
            "AttachRequired",
            "attachRequired indicates this CSI volume driver requires an attach operation.",
        ),
        column(
            "PodInfoOnMount",
            "podInfoOnMount indicates this CSI volume driver requires additional pod information during mount operations.",
        ),
        column(
            "StorageCapacity",
            "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity that the driver deployment will report.",
        ),
        column(
            "TokenRequests",
            "tokenRequests indicates the CSI driver needs pods' service account tokens it is mounting volume for to do necessary authentication.",
        ),
        column(
            "RequiresRepublish",
            "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called.",
        ),
        column("Modes", "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports."),
        AGE,
    ],
    cells: |object, now| {
        let requested: Vec<&str> =
            list(object, "/spec/tokenRequests").iter().map(|request| text(request, "/audience")).collect();
        vec![
            name(object),
            object
                .pointer("/spec/attachRequired")
                .and_then(Value::as_bool)
                .unwrap_or(true)
                .to_string()
                .into(),
            flag(object, "/spec/podInfoOnMount").to_string().into(),
            flag(object, "/spec/storageCapacity").to_string().into(),
            if requested.is_empty() { UNSET.to_owned() } else { requested.join(",") }.into(),
            flag(object, "/spec/requiresRepublish").to_string().into(),
            match texts(object, "/spec/volumeLifecycleModes").as_slice() {
                [] => "<none>".to_owned(),
                modes => modes.join(","),
            }
            .into(),
            age(object, now),
        ]
    },
};

static CSI_NODE: Printer = Printer {
    columns: &[
        NAME,
        number("Drivers", "Drivers indicates the number of CSI drivers registered on the node"),
        AGE,
    ],
    cells: |object, now| vec![name(object), length(object, "/spec/drivers"), age(object, now)],
};

static CSI_STORAGE_CAPACITY: Printer = Printer {
    columns: &[
        NAME,
        column(
            "StorageClassName",
            "storageClassName represents the name of the StorageClass that the reported capacity applies to.",
        ),
        column("Capacity", "capacity is the value reported by the CSI driver in its GetCapacityResponse."),
    ],
    cells: |object, _| {
        let capacity = object.get("capacity").map_or(UNSET.to_owned(), plain);
        vec![name(object), text(object, "/storageClassName").into(), capacity.into()]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "PersistentVolume" => Some(&VOLUME),
        "PersistentVolumeClaim" => Some(&CLAIM),
        "StorageClass" => Some(&STORAGE_CLASS),
        "VolumeAttributesClass" => Some(&VOLUME_ATTRIBUTES_CLASS),
        "VolumeAttachment" => Some(&VOLUME_ATTACHMENT),
        "CSIDriver" => Some(&CSI_DRIVER),
        "CSINode" => Some(&CSI_NODE),
        "CSIStorageCapacity" => Some(&CSI_STORAGE_CAPACITY),
        _ => None,
    }
}

fn phase(object: &Value) -> &str {
    if is_deleted(object) { "Terminating" } else { text(object, "/status/phase") }
}

/// `RWO,ROX`: each mode once, in a fixed order.
fn access_modes(object: &Value, pointer: &str) -> String {
    const MODES: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = texts(object, pointer);
    MODES.iter().filter(|(mode, _)| has.contains(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The annotation is older than the field and wins.
fn storage_class(object: &Value) -> &str {
    let annotation = map(object, "/metadata/annotations")
        .and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"));
    annotation.and_then(Value::as_str).unwrap_or_else(|| text(object, "/spec/storageClassName"))
}

fn name_with_default(object: &Value, annotation: &str) -> Value {
    let is_default = map(object, "/metadata/annotations")
        .and_then(|all| all.get(annotation))
        .is_some_and(|value| value == "true");
    if is_default { format!("{} (default)", text(object, "/metadata/name")).into() } else { name(object) }
}
