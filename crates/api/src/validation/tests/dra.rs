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
