//! The facts behind `x-kubernetes-list-type`, `-list-map-keys`, `-map-type`, `-patch-strategy` and `-patch-merge-key`.
//! Most are markers in the published comments; the few that are not, or are newer than k8s-pb, stand here.

use anyhow::{Context, Result};
use api::schema::builtin::Definition;
use api::schema::{Field, ListType, Object, Schema, SchemaRef, Shape};

use crate::proto::Markers;

/// Applies the markers of a field. True if its (inline) type has changed.
pub fn apply(markers: &Markers, field: &mut Field, schema: &mut Schema) -> bool {
    let strategy = markers.get("patchStrategy").unwrap_or_default();
    field.patch_merge = strategy.split(',').any(|part| part == "merge");
    field.patch_retain_keys = strategy.split(',').any(|part| part == "retainKeys");
    field.patch_merge_key = markers.get("patchMergeKey").map(|key| key.to_owned().into());
    match &mut schema.shape {
        Shape::List(list) => {
            let kind = markers.get("listType").or_else(|| markers.get("k8s:listType")).unwrap_or_default();
            let keys: Vec<_> = markers
                .all("listMapKey")
                .chain(markers.all("k8s:listMapKey"))
                .map(|key| key.to_owned().into())
                .collect();
            let list_type = match kind {
                "set" => ListType::Set,
                "map" => ListType::Map(dedup(keys)),
                _ => ListType::Atomic,
            };
            std::mem::replace(&mut list.list_type, list_type.clone()) != list_type
        }
        Shape::Map(map) => {
            std::mem::replace(&mut map.atomic, markers.get("mapType") == Some("atomic")) != map.atomic
        }
        _ => false,
    }
}

fn dedup<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    items.into_iter().fold(Vec::new(), |mut unique, item| {
        if !unique.contains(&item) {
            unique.push(item);
        }
        unique
    })
}

/// What the comments do not say.
pub fn correct(name: &str, object: &mut Object) {
    let kind = name.rsplit('.').next().unwrap_or_default();
    for field in &mut object.fields {
        // A missing key of an associative list stands for this.
        if matches!(kind, "ContainerPort" | "ServicePort") && field.name == "protocol" {
            field.default = Some(Box::new("TCP".into()));
        }
    }
}

/// Fields of k8s-pb's Kubernetes version that v1.36 has no more.
pub fn is_withdrawn(name: &str, field: &str) -> bool {
    (name, field) == ("io.k8s.api.core.v1.PodSpec", "workload_ref")
}

/// `PersistentVolumeSpec.claimRef` is owned field by field (`+structType=granular` on the field), although its type
/// is atomic everywhere else: it gets a copy of that type.
pub fn own_claim_ref_by_field(definitions: &mut Vec<Definition>) -> Result<()> {
    let find = |name: &str| {
        definitions.iter().position(|definition| definition.name == name).with_context(|| name.to_owned())
    };
    let spec = find("io.k8s.api.core.v1.PersistentVolumeSpec")?;
    let mut reference = definitions[find("io.k8s.api.core.v1.ObjectReference")?].schema.clone();
    if let Shape::Object(object) = &mut reference.shape {
        object.atomic = false;
    }
    let index = u16::try_from(definitions.len())?;
    definitions.push(Definition { name: format!("~{index:04}"), schema: reference });
    let Shape::Object(spec) = &mut definitions[spec].schema.shape else {
        anyhow::bail!("a spec that is no object")
    };
    let field = spec.fields.iter_mut().find(|field| field.name == "claimRef").context("no claimRef")?;
    field.schema = SchemaRef::Builtin(index);
    Ok(())
}
