//! Extensions of the API (custom resources, aggregated APIs), flow control and dynamic resource allocation.

use super::edit::{Object, each, ensure, get, set, set_number, set_text, text};
use serde_json::json;

pub fn api_service(object: &mut Object) {
    if let Some(service) = get(object, "spec").and_then(|spec| get(spec, "service")) {
        set_number(service, "port", 443);
    }
}

pub fn custom_resource_definition(object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    if let Some(names) = get(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            set_text(names, "singular", &kind.to_lowercase());
            set_text(names, "listKind", &format!("{kind}List"));
        }
    }
    set(spec, "conversion", json!({"strategy": "None"}));
    let webhook =
        get(spec, "conversion").and_then(|c| get(c, "webhook")).and_then(|w| get(w, "clientConfig"));
    if let Some(service) = webhook.and_then(|c| get(c, "service")) {
        set_number(service, "port", 443);
    }
}

pub fn flow_control(kind: &str, object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    match kind {
        "FlowSchema" => set_number(spec, "matchingPrecedence", 1000),
        "PriorityLevelConfiguration" => {
            if let Some(exempt) = get(spec, "exempt") {
                set(exempt, "nominalConcurrencyShares", 0);
                set(exempt, "lendablePercent", 0);
            }
            let Some(limited) = get(spec, "limited") else { return };
            set(limited, "nominalConcurrencyShares", 30);
            set(limited, "lendablePercent", 0);
            let Some(response) = ensure(limited, "limitResponse") else { return };
            if let Some(queuing) = get(response, "queuing") {
                set_number(queuing, "queues", 64);
                set_number(queuing, "handSize", 8);
                set_number(queuing, "queueLengthLimit", 50);
            }
        }
        _ => {}
    }
}

pub fn resource_claim(kind: &str, object: &mut Object) {
    let spec = match kind {
        "ResourceClaim" => get(object, "spec"),
        "ResourceClaimTemplate" => get(object, "spec").and_then(|template| get(template, "spec")),
        _ => None,
    };
    let Some(devices) = spec.and_then(|spec| get(spec, "devices")) else { return };
    each(devices, "requests", |request| {
        if let Some(exactly) = get(request, "exactly") {
            device_request(exactly);
        }
        each(request, "firstAvailable", device_request);
    });
}

fn device_request(request: &mut Object) {
    set_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        set_number(request, "count", 1);
    }
    each(request, "tolerations", |toleration| set_text(toleration, "operator", "Equal"));
}
