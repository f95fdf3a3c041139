//! DefaultIngressClass: an Ingress that names no class gets the cluster's default one.

use serde_json::json;

use super::AdmissionRequest;
use super::default_storage_class::newest_default;
use super::objects::{INGRESS_CLASSES, Objects, annotation, at};

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) {
    if !request.creates("networking.k8s.io", "ingresses")
        || !request.object["spec"]["ingressClassName"].is_null()
        || !annotation(&request.object, "kubernetes.io/ingress.class").is_empty()
    {
        return;
    }
    if let Some(name) = newest_default(objects, INGRESS_CLASSES, &[IS_DEFAULT]) {
        *at(&mut request.object, &["spec", "ingressClassName"]) = json!(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn defaults() {
        let class = json!({"metadata": {"name": "nginx", "annotations": {IS_DEFAULT: "true"}}});
        let fixture = Fixture::new().add(INGRESS_CLASSES, class);
        let check = |ingress: Value, expected: Value| {
            let case = Case::create("networking.k8s.io", "ingresses", ingress);
            let ingress = case
                .run(|request| {
                    mutate(request, &fixture);
                    Ok(())
                })
                .expect("admitted");
            assert_eq!(ingress["spec"]["ingressClassName"], expected);
        };
        check(json!({"spec": {}}), json!("nginx"));
        check(json!({"spec": {"ingressClassName": "x"}}), json!("x"));
        check(
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "y"}}, "spec": {}}),
            Value::Null,
        );
    }
}
