//! Admission webhooks and policies.

use super::edit::{Object, each, ensure, get, set, set_number, set_text};

pub fn configuration(kind: &str, object: &mut Object) {
    match kind {
        "ValidatingWebhookConfiguration" => each(object, "webhooks", webhook),
        "MutatingWebhookConfiguration" => each(object, "webhooks", |w| {
            webhook(w);
            set(w, "reinvocationPolicy", "Never");
        }),
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let Some(spec) = get(object, "spec") else { return };
            set(spec, "failurePolicy", "Fail");
            if kind == "MutatingAdmissionPolicy" {
                set_text(spec, "reinvocationPolicy", "Never");
            }
            if let Some(constraints) = get(spec, "matchConstraints") {
                match_resources(constraints);
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(resources) = get(object, "spec").and_then(|spec| get(spec, "matchResources")) {
                match_resources(resources);
            }
        }
        _ => {}
    }
}

fn webhook(w: &mut Object) {
    set(w, "failurePolicy", "Fail");
    set(w, "matchPolicy", "Equivalent");
    set(w, "timeoutSeconds", 10);
    set(w, "namespaceSelector", Object::new());
    set(w, "objectSelector", Object::new());
    each(w, "rules", |rule| set(rule, "scope", "*"));
    if let Some(service) = ensure(w, "clientConfig").and_then(|c| get(c, "service")) {
        set_number(service, "port", 443);
    }
}

fn match_resources(resources: &mut Object) {
    set(resources, "matchPolicy", "Equivalent");
    set(resources, "namespaceSelector", Object::new());
    set(resources, "objectSelector", Object::new());
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(resources, rules, |rule| set(rule, "scope", "*"));
    }
}
