//! DefaultStorageClass: a claim that names no class gets the cluster's default one.

use serde_json::json;

use super::AdmissionRequest;
use super::objects::{self, Objects, STORAGE_CLASSES, annotation, at};

const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) {
    if !request.creates("", "persistentvolumeclaims")
        || !request.object["spec"]["storageClassName"].is_null()
        || !annotation(&request.object, "volume.beta.kubernetes.io/storage-class").is_empty()
    {
        return;
    }
    if let Some(name) = newest_default(objects, STORAGE_CLASSES, &IS_DEFAULT) {
        *at(&mut request.object, &["spec", "storageClassName"]) = json!(name);
    }
}

/// The name of the default class; where there are several, of the one made last.
pub fn newest_default(
    objects: &dyn Objects,
    resource: api::status::GroupResource<'_>,
    annotations: &[&str],
) -> Option<String> {
    let classes = objects.list(resource, "");
    let default = classes
        .iter()
        .filter(|class| annotations.iter().any(|key| annotation(class, key) == "true"))
        .min_by(|a, b| {
            let made = |class: &serde_json::Value| {
                class["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned()
            };
            made(b).cmp(&made(a)).then_with(|| objects::name(a).cmp(objects::name(b)))
        })?;
    Some(objects::name(default).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn class(name: &str, made: &str, default: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": {IS_DEFAULT[0]: default}}})
    }

    #[test]
    fn defaults() {
        let none = Fixture::new().add(STORAGE_CLASSES, class("a", "2026-01-01T00:00:00Z", "false"));
        let two = Fixture::new()
            .add(STORAGE_CLASSES, class("old", "2026-01-01T00:00:00Z", "true"))
            .add(STORAGE_CLASSES, class("new", "2026-02-01T00:00:00Z", "true"));
        let check = |fixture: &Fixture, spec: Value, expected: Value| {
            let case = Case::create("", "persistentvolumeclaims", json!({"spec": spec}));
            let claim = case
                .run(|request| {
                    mutate(request, fixture);
                    Ok(())
                })
                .expect("admitted");
            assert_eq!(claim["spec"]["storageClassName"], expected);
        };
        check(&none, json!({}), Value::Null);
        check(&two, json!({}), json!("new"));
        check(&two, json!({"storageClassName": ""}), json!(""));
        check(&two, json!({"storageClassName": "old"}), json!("old"));
    }
}
