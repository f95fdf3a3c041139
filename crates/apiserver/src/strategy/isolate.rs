//! Keeps apart what may be changed through which endpoint: the object itself, its status, and its other subresources.

use serde_json::{Map, Value};

use super::{StatusMetadata, has_status, put_back};
use crate::catalog::Served;

/// Takes back what an update through this endpoint may not change.
pub fn isolate(served: &Served, subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "" if has_status(served) => put_back(new, old, "status"),
        "status" => {
            let status = new["status"].take();
            let mut metadata = new["metadata"].take();
            keep_metadata(&mut metadata, &old["metadata"], served.strategy.status_metadata);
            *new = old.clone();
            new["metadata"] = metadata;
            if status.is_null() {
                if let Some(object) = new.as_object_mut() {
                    object.remove("status");
                }
            } else {
                new["status"] = status;
            }
            (served.strategy.status)(new, old);
        }
        "finalize" => only(new, old, &["spec", "finalizers"]),
        "approval" => {
            let metadata = new["metadata"].take();
            only(new, old, &["status", "conditions"]);
            new["metadata"] = metadata;
            (served.strategy.status)(new, old);
        }
        "ephemeralcontainers" => only(new, old, &["spec", "ephemeralContainers"]),
        "resize" => {
            let mut resized = old.clone();
            for list in ["containers", "initContainers"] {
                let containers = new["spec"][list].take();
                for (container, wanted) in
                    items(&mut resized["spec"][list]).zip(containers.as_array().into_iter().flatten())
                {
                    if container["name"] == wanted["name"] {
                        for field in ["resources", "resizePolicy"] {
                            put_back(container, wanted, field);
                        }
                    }
                }
            }
            put_back(&mut resized["spec"], &new["spec"], "resources");
            keep_owners(&mut resized, new);
            *new = resized;
        }
        _ => {}
    }
}

fn keep_metadata(new: &mut Value, old: &Value, rule: StatusMetadata) {
    match rule {
        StatusMetadata::Any => {}
        StatusMetadata::Without(fields) => fields.iter().for_each(|field| put_back(new, old, field)),
        StatusMetadata::Nothing => {
            // What the client based its update on is checked elsewhere, and who owns the status is recorded here.
            let mut kept = old.clone();
            for field in ["managedFields", "resourceVersion", "uid"] {
                put_back(&mut kept, new, field);
            }
            *new = kept;
        }
    }
}

fn items(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}

/// Takes one field from `new`, the rest from `old`; whose the fields are is for the caller to say.
fn only(new: &mut Value, old: &Value, path: &[&str; 2]) {
    let [outer, inner] = path;
    let taken = new[*outer][*inner].take();
    let mut kept = old.clone();
    keep_owners(&mut kept, new);
    *new = kept;
    if !new[*outer].is_object() {
        new[*outer] = Value::Object(Map::new());
    }
    if let Some(outer) = new[*outer].as_object_mut() {
        match taken {
            Value::Null => outer.remove(*inner),
            taken => outer.insert((*inner).to_owned(), taken),
        };
    }
}

/// Server-side apply has worked out the owners before the rest is taken back.
fn keep_owners(kept: &mut Value, new: &Value) {
    put_back(&mut kept["metadata"], &new["metadata"], "managedFields");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_leaves_the_metadata_that_is_not_its_own() {
        #[track_caller]
        fn check(rule: StatusMetadata, want: Value) {
            let old = json!({"labels": {"a": "1"}, "uid": "u"});
            let mut new =
                json!({"labels": {"a": "2"}, "annotations": {"x": "y"}, "managedFields": [{}], "uid": "u"});
            keep_metadata(&mut new, &old, rule);
            assert_eq!(new, want);
        }
        check(
            StatusMetadata::Any,
            json!({"labels": {"a": "2"}, "annotations": {"x": "y"}, "managedFields": [{}], "uid": "u"}),
        );
        check(
            StatusMetadata::Without(&["labels"]),
            json!({"labels": {"a": "1"}, "annotations": {"x": "y"}, "managedFields": [{}], "uid": "u"}),
        );
        check(StatusMetadata::Nothing, json!({"labels": {"a": "1"}, "managedFields": [{}], "uid": "u"}));
    }

    #[test]
    fn owners_survive_what_is_taken_back() {
        let old = json!({"metadata": {"managedFields": []}, "spec": {"a": 1}});
        let mut new = json!({"metadata": {"managedFields": [{"manager": "m"}], "labels": {}}, "spec": {"a": 2, "b": 3}});
        only(&mut new, &old, &["spec", "b"]);
        assert_eq!(new, json!({"metadata": {"managedFields": [{"manager": "m"}]}, "spec": {"a": 1, "b": 3}}));
    }
}
