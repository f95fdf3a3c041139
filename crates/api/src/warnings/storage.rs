//! Persistent volumes, claims and storage classes.

use serde_json::Value;

use super::SPEC;
use super::pod::{fractions, node_term};
use crate::field::Path;
use crate::validation::read::{given, items, text};

pub fn volume(object: &Value, out: &mut Vec<String>) {
    let spec = &object["spec"];
    if text(&spec["persistentVolumeReclaimPolicy"]) == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let metadata = Path::new("metadata");
    let path = metadata.child("annotations");
    for (annotation, why) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if object["metadata"]["annotations"].get(annotation).is_some() {
            out.push(format!("{}: {why}", path.key(annotation)));
        }
    }
    for (source, why) in [
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if given(&spec[source]) {
            out.push(format!("{}: {why}", SPEC.child(source)));
        }
    }
    let affinity = SPEC.child("nodeAffinity");
    let required = affinity.child("required");
    let terms = required.child("nodeSelectorTerms");
    for (i, term) in items(&spec["nodeAffinity"]["required"]["nodeSelectorTerms"]).iter().enumerate() {
        node_term(term, &terms.index(i), out);
    }
}

pub fn claim(spec: &Value, path: &Path<'_>, out: &mut Vec<String>) {
    let resources = path.child("resources");
    for list in ["limits", "requests"] {
        fractions(&spec["resources"][list], &resources.child(list), out);
    }
}

pub fn class(object: &Value, out: &mut Vec<String>) {
    let path = Path::new("allowedTopologies");
    for (i, term) in items(&object["allowedTopologies"]).iter().enumerate() {
        let term_path = path.index(i);
        let list = term_path.child("matchLabelExpressions");
        for (j, expression) in items(&term["matchLabelExpressions"]).iter().enumerate() {
            let as_term = serde_json::json!({"matchExpressions": [{"key": expression["key"]}]});
            let mut found = Vec::new();
            node_term(&as_term, &term_path, &mut found);
            out.extend(found.into_iter().filter_map(|warning| {
                let (_, why) = warning.split_once(": ")?;
                Some(format!("{}: {why}", list.index(j).child("key")))
            }));
        }
    }
}
