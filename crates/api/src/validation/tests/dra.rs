//! Device claims.

use super::*;

#[test]
fn device_claims() {
    let claim = |requests: Value| json!({"spec": {"devices": {"requests": requests}}});
    let exactly = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
    check("resource.k8s.io/v1", "ResourceClaim", claim(json!([{"name": "r", "exactly": exactly}])), &[]);
    check(
        "resource.k8s.io/v1",
        "ResourceClaim",
        claim(json!([{"name": "r"}])),
        &[
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ],
    );
    check(
        "v1",
        "Pod",
        json!({"spec": {
            "resourceClaims": [{"name": "a"}],
            "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "b"}]}}],
        }}),
        &[
            "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            "spec.containers[0].resources.claims[0].name: Not found: \"b\"",
        ],
    );
}

const GROUP: &str = "resource.k8s.io/v1";

#[test]
fn limits_of_claims() {
    let exactly = |more: Value| {
        let mut request = json!({"deviceClassName": "c"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": request}]}}})
    };
    let check_request = |more: Value, want: &[&str]| check(GROUP, "ResourceClaim", exactly(more), want);
    check_request(json!({"allocationMode": "All"}), &[]);
    check_request(
        json!({"allocationMode": "All", "count": 2}),
        &[
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ],
    );
    check_request(
        json!({"allocationMode": "Some"}),
        &[
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ],
    );
    check_request(
        json!({"tolerations": [{"key": "k", "operator": "Exists", "value": "v", "effect": "PreferNoSchedule"}]}),
        &[
            "spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`",
            "spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \"NoSchedule\"",
        ],
    );
    check_request(
        json!({"tolerations": vec![json!({"key": "k", "operator": "Exists"}); 17]}),
        &["spec.devices.requests[0].exactly.tolerations: Too many: 17: must have at most 16 items"],
    );
    check_request(json!({"capacity": {"requests": {"example.com/memory": "1Gi"}}}), &[]);
    check_request(
        json!({"selectors": [{"cel": {"expression": "x".repeat(10241)}}, {}]}),
        &[
            "spec.devices.requests[0].exactly.selectors[0].cel.expression: Too long: may not be more than 10240 bytes",
            "spec.devices.requests[0].exactly.selectors[1].cel: Required value",
        ],
    );
    let many: Vec<Value> =
        (0..33).map(|n| json!({"name": format!("r{n}"), "exactly": {"deviceClassName": "c"}})).collect();
    check(
        GROUP,
        "ResourceClaim",
        json!({"spec": {"devices": {"requests": many}}}),
        &["spec.devices.requests: Too many: 33: must have at most 32 items"],
    );
    let constrained = |constraint: Value| {
        json!({"spec": {"devices": {
            "requests": [{"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "c"}]}],
            "constraints": [constraint],
        }}})
    };
    let check_constraint = |constraint: Value, want: &[&str]| {
        check(GROUP, "ResourceClaim", constrained(constraint), want);
    };
    check_constraint(json!({"requests": ["r/a"], "matchAttribute": "example.com/numa"}), &[]);
    check_constraint(
        json!({"requests": ["r/b"], "matchAttribute": "numa"}),
        &[
            "spec.devices.constraints[0].requests[0]: Invalid value: \"r/b\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": must include a domain",
        ],
    );
    check_constraint(
        json!({}),
        &[
            "spec.devices.constraints[0]: Required value: exactly one of `matchAttribute` or `distinctAttribute` is required",
        ],
    );
}

#[test]
fn device_classes() {
    let class = |name: &str| json!({"spec": {"extendedResourceName": name}});
    check(GROUP, "DeviceClass", class("example.com/gpu"), &[]);
    for name in ["cpu", "kubernetes.io/gpu", "requests.example.com/gpu"] {
        let want = format!(
            "spec.extendedResourceName: Invalid value: \"{name}\": must be a valid extended resource name"
        );
        check(GROUP, "DeviceClass", class(name), &[&want]);
    }
    check(
        GROUP,
        "DeviceClass",
        json!({"spec": {"config": [{"opaque": {"driver": "d.example.com", "parameters": {"x": "y".repeat(10240)}}}]}}),
        &["spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"],
    );
}

/// A slice with one device.
fn slice(device: Value) -> Value {
    let mut named = json!({"name": "d"});
    named.as_object_mut().unwrap().extend(device.as_object().unwrap().clone());
    json!({"spec": {
        "driver": "d.example.com", "nodeName": "n",
        "pool": {"name": "n", "resourceSliceCount": 1}, "devices": [named],
    }})
}

#[test]
fn devices_of_slices() {
    let check_device = |device: Value, want: &[&str]| check(GROUP, "ResourceSlice", slice(device), want);
    check_device(json!({"attributes": {"a": {"bool": false}, "b.com/c": {"version": "1.0.0"}}}), &[]);
    check_device(
        json!({"attributes": {"a": {}}}),
        &["spec.devices[0].attributes[a]: Required value: exactly one value must be specified"],
    );
    check_device(
        json!({"attributes": {"a": {"version": "1"}}}),
        &[
            "spec.devices[0].attributes[a].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
        ],
    );
    check_device(
        json!({"attributes": {"a": {"string": "x".repeat(65)}}}),
        &["spec.devices[0].attributes[a].string: Too long: may not be more than 64 bytes"],
    );
    check_device(
        json!({"nodeName": "n"}),
        &[
            "spec.devices[0].nodeName: Invalid value: \"n\": may only be specified when `perDeviceNodeSelection` is true",
        ],
    );
    check_device(
        json!({"bindingConditions": ["a"], "bindingFailureConditions": ["a"]}),
        &[
            "spec.devices[0].bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with bindingConditions",
        ],
    );
    check_device(
        json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}),
        &[
            "spec.devices[0].taints[0].effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ],
    );
    check_device(
        json!({"consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}, {"counterSet": "s"}]}),
        &[
            "spec.devices[0].consumesCounters[1].counterSet: Duplicate value: \"s\"",
            "spec.devices[0].consumesCounters[1].counters: Required value",
        ],
    );
}

#[test]
fn capacities_that_are_shared() {
    let shared = |policy: Value| {
        slice(json!({
            "allowMultipleAllocations": true,
            "capacity": {"memory": {"value": "10Gi", "requestPolicy": policy}},
        }))
    };
    let at = "spec.devices[0].capacity[memory].requestPolicy";
    let check_policy = |policy: Value, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|error| format!("{at}{error}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(GROUP, "ResourceSlice", shared(policy), &want);
    };
    check_policy(json!({"default": "1Gi"}), &[]);
    check_policy(json!({"default": "1Gi", "validValues": ["1Gi", "2Gi"]}), &[]);
    check_policy(json!({"default": "2Gi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "1Gi"}}), &[]);
    check_policy(
        json!({"validValues": ["2Gi", "1Gi", "20Gi"]}),
        &[
            ".default: Required value: required when `validValues` or `validRange` is defined",
            ".validValues[1]: Invalid value: \"1Gi\": values must be sorted in ascending order",
            ".validValues[2]: Invalid value: \"20Gi\": must not be larger than the capacity value",
        ],
    );
    check_policy(
        json!({"default": "5Gi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "2Gi"}}),
        &[
            ".default: Invalid value: {\"max\":\"4Gi\",\"min\":\"1Gi\",\"step\":\"2Gi\"}: must be within `validRange`",
            ".validRange.max: Invalid value: \"4Gi\": must be a multiple of `step` above `min`",
        ],
    );
    check(
        GROUP,
        "ResourceSlice",
        slice(json!({"capacity": {"memory": {"value": "1", "requestPolicy": {"default": "1"}}}})),
        &[&format!("{at}: Forbidden: may only be specified when `allowMultipleAllocations` is true")],
    );
}

#[test]
fn slices() {
    let spec = |more: Value| {
        let mut spec = json!({"driver": "d.example.com", "pool": {"name": "a/b", "resourceSliceCount": 1}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let check_spec = |more: Value, want: &[&str]| check(GROUP, "ResourceSlice", spec(more), want);
    check_spec(json!({"allNodes": true}), &[]);
    check_spec(
        json!({"allNodes": false, "nodeName": "n"}),
        &["spec.allNodes: Invalid value: false: must be either unset or set to true"],
    );
    check_spec(
        json!({"allNodes": true, "nodeName": "n"}),
        &[
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
        ],
    );
    let devices = |count: usize, more: Value| -> Vec<Value> {
        (0..count)
            .map(|n| {
                let mut device = more.clone();
                device["name"] = json!(format!("d{n}"));
                device
            })
            .collect()
    };
    check_spec(json!({"allNodes": true, "devices": devices(128, json!({}))}), &[]);
    check_spec(
        json!({"allNodes": true, "devices": devices(129, json!({}))}),
        &["spec.devices: Too many: 129: must have at most 128 items"],
    );
    check_spec(
        json!({"allNodes": true, "devices": devices(65, json!({"taints": [{"key": "k", "effect": "NoExecute"}]}))}),
        &["spec.devices: Too many: 65: must have at most 64 items"],
    );
    check_spec(json!({"perDeviceNodeSelection": true, "devices": devices(1, json!({"nodeName": "n"}))}), &[]);
    let counters = json!([{"name": "s", "counters": {"c": {"value": "1"}}}]);
    check_spec(json!({"allNodes": true, "sharedCounters": counters}), &[]);
    check_spec(
        json!({"allNodes": true, "sharedCounters": counters, "devices": [{"name": "d"}]}),
        &[
            "spec: Invalid value: \"{`sharedCounters`, `devices`}\": only one of `sharedCounters` or `devices` is allowed",
        ],
    );
    check_update(
        GROUP,
        "ResourceSlice",
        spec(json!({"allNodes": true})),
        spec(json!({"nodeName": "n"})),
        &["spec.nodeName: Invalid value: \"n\": field is immutable"],
    );
}

#[test]
fn what_claims_have_been_given() {
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let claim = |status: Value| json!({"spec": spec, "status": status});
    let result = json!({"request": "r", "driver": "d.example.com", "pool": "p", "device": "d"});
    let allocated = json!({"devices": {"results": [result]}});
    let check_claim = |old: Value, new: Value, want: &[&str]| {
        check_status(GROUP, "ResourceClaim", claim(old), claim(new), want);
    };
    check_claim(json!({}), json!({"allocation": allocated}), &[]);
    check_claim(
        json!({}),
        json!({"allocation": {"devices": {"results": [{"request": "x", "driver": "d", "pool": "/", "device": "D", "shareID": "1"}]}}}),
        &[
            "status.allocation.devices.results[0].request: Invalid value: \"x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            &format!(
                "status.allocation.devices.results[0].pool: Invalid value: \"\": {}",
                names::dns1123_subdomain("").unwrap()
            ),
            &format!(
                "status.allocation.devices.results[0].pool: Invalid value: \"\": {}",
                names::dns1123_subdomain("").unwrap()
            ),
            &format!(
                "status.allocation.devices.results[0].device: Invalid value: \"D\": {}",
                names::dns1123_label("D").unwrap()
            ),
            "status.allocation.devices.results[0].shareID: Invalid value: \"1\": must be a lowercase UUID in RFC 4122 format",
        ],
    );
    check_claim(
        json!({"allocation": allocated}),
        json!({"allocation": {}}),
        &["status.allocation: Invalid value: {}: field is immutable"],
    );
    let device = |more: Value| {
        let mut device = json!({"driver": "d.example.com", "pool": "p", "device": "d"});
        device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"allocation": allocated, "devices": [device]})
    };
    let check_device = |more: Value, want: &[&str]| {
        check_claim(json!({"allocation": allocated}), device(more), want);
    };
    check_device(
        json!({"data": {"a": 1}, "networkData": {"interfaceName": "eth0", "ips": ["10.0.0.1/24"]}}),
        &[],
    );
    check_device(
        json!({"device": "e"}),
        &[
            "status.devices[0]: Invalid value: \"d.example.com/p/e\": must be an allocated device in the claim",
        ],
    );
    check_device(
        json!({"data": "x", "networkData": {"interfaceName": "e".repeat(257), "ips": ["1.2.3.4"]}}),
        &[
            "status.devices[0].data: Invalid value: \"x\": must be a valid JSON object",
            "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
            "status.devices[0].networkData.ips[0]: Invalid value: \"1.2.3.4\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
        ],
    );
    let user = json!({"resource": "pods", "name": "p", "uid": "u"});
    check_claim(
        json!({}),
        json!({"reservedFor": [user]}),
        &["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
    );
}
