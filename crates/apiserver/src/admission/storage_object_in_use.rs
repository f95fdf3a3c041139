//! StorageObjectInUseProtection: claims and volumes get a finalizer, so that they go only when nothing uses them.

use serde_json::{Value, json};

use super::AdmissionRequest;
use super::objects::{at, items};

pub fn mutate(request: &mut AdmissionRequest<'_>) {
    let finalizer = if request.creates("", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if request.creates("", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else if request.creates("storage.k8s.io", "volumeattributesclasses") {
        "kubernetes.io/vac-protection"
    } else {
        return;
    };
    if items(&request.object["metadata"]["finalizers"]).any(|have| have.as_str() == Some(finalizer)) {
        return;
    }
    match at(&mut request.object, &["metadata", "finalizers"]) {
        Value::Array(finalizers) => finalizers.push(json!(finalizer)),
        place => *place = json!([finalizer]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn finalizers() {
        let check = |resource: &str, given: Value, expected: Value| {
            let case = Case::create("", resource, json!({"metadata": {"finalizers": given}}));
            let object = case
                .run(|request| {
                    mutate(request);
                    Ok(())
                })
                .expect("admitted");
            assert_eq!(object["metadata"]["finalizers"], expected);
        };
        check("persistentvolumeclaims", json!(null), json!(["kubernetes.io/pvc-protection"]));
        check("persistentvolumes", json!(["a"]), json!(["a", "kubernetes.io/pv-protection"]));
        check(
            "persistentvolumes",
            json!(["kubernetes.io/pv-protection"]),
            json!(["kubernetes.io/pv-protection"]),
        );
        check("pods", json!(["a"]), json!(["a"]));
    }
}
