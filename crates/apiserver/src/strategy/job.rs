//! Jobs: a selector that no other Job can have, made from the uid, unless the user brings one.

use serde_json::{Value, json};

use super::{PLAIN, Strategy};
use crate::UserInfo;
use crate::options::Propagation;
use crate::write::meta;

/// Its pods stay where a delete does not say: so it was before there was a garbage collector.
pub static STRATEGY: Strategy =
    Strategy { create, generation: true, propagation: Some(Propagation::Orphan), ..PLAIN };

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// What they were called before 1.27; still set for those who select by them.
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

fn create(job: &mut Value, _: &UserInfo) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let uid = meta::text(job, "uid").to_owned();
    let name = meta::text(job, "name").to_owned();
    let spec = &mut job["spec"];
    if !spec.is_object() {
        return;
    }
    let template = &mut spec["template"];
    if !template.is_object() {
        *template = json!({});
    }
    let metadata = meta::of(template);
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    for (label, value) in
        [(UID_LABEL, &uid), (OLD_UID_LABEL, &uid), (NAME_LABEL, &name), (OLD_NAME_LABEL, &name)]
    {
        labels[label] = json!(value);
    }
    let selector = &mut spec["selector"];
    if !selector.is_object() {
        *selector = json!({});
    }
    if !selector["matchLabels"].is_object() {
        selector["matchLabels"] = json!({});
    }
    selector["matchLabels"][UID_LABEL] = json!(uid);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_is_made() {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}});
        create(&mut job, &UserInfo::default());
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {UID_LABEL: "u"}}));
        assert_eq!(job["spec"]["template"]["metadata"]["labels"][NAME_LABEL], "j");
        let manual = json!({"metadata": {"uid": "u"}, "spec": {"manualSelector": true, "template": {}}});
        let mut same = manual.clone();
        create(&mut same, &UserInfo::default());
        assert_eq!(same, manual);
    }
}
