//! `docs/node.md` names every field of a pod's spec and of the kubelet's configuration.

use api::gvk::GroupVersionKind;
use api::registry::Registry;
use api::schema::{Schema, Shape};

use crate::config::{KubeletConfiguration, WITHOUT_EFFECT};

const DOCUMENT: &str = include_str!("../../../docs/node.md");

fn check(prefix: &str, names: impl Iterator<Item = String>) {
    let missing: Vec<String> =
        names.filter(|name| !DOCUMENT.contains(&format!("| `{prefix}{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/node.md says nothing of {prefix}: {missing:?}");
}

#[test]
fn every_field_of_a_pod() {
    let registry = Registry::builtin();
    let kind = GroupVersionKind { group: String::new(), version: "v1".into(), kind: "Pod".into() };
    let pod = registry.kind(&kind).expect("there are pods");
    let root = pod.schema().expect("they have a schema");
    let spec = root.child("spec").expect("they have a spec");
    let within = |schema: &'_ Schema, path: &str| -> Schema {
        let mut at = schema.clone();
        for name in path.split('.') {
            let next = at.child(name).expect("the path is right").clone();
            at = next.items().cloned().unwrap_or(next);
        }
        at
    };
    let fields = |schema: &Schema| match &schema.shape {
        Shape::Object(object) => object.fields.iter().map(|field| field.name.to_string()).collect::<Vec<_>>(),
        shape => panic!("not an object: {shape:?}"),
    };
    check("spec.", fields(spec).into_iter());
    for path in [
        "containers",
        "containers.securityContext",
        "containers.lifecycle",
        "containers.livenessProbe",
        "containers.volumeMounts",
        "volumes",
        "securityContext",
    ] {
        check(&format!("{path}."), fields(&within(spec, path)).into_iter());
    }
}

#[test]
fn every_field_of_the_configuration() {
    let known = serde_json::to_value(KubeletConfiguration::default()).expect("it is JSON");
    check("", known.as_object().expect("an object").keys().cloned());
    check("", WITHOUT_EFFECT.iter().map(|(name, _)| (*name).to_owned()));
}
