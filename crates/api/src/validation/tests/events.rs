//! Events of both groups.

use super::*;

#[test]
fn events() {
    let event = json!({"regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "r", "type": "Normal",
        "reportingController": "a.b/c", "reportingInstance": "i", "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z"});
    check("events.k8s.io/v1", "Event", event.clone(), &[]);
    let mut bad = event;
    bad["type"] = json!("Odd");
    bad["action"] = json!("");
    bad["deprecatedCount"] = json!(1);
    check(
        "events.k8s.io/v1",
        "Event",
        bad,
        &[
            "count: Invalid value: \"\": needs to be unset",
            "type: Invalid value: \"\": has invalid value: Odd",
            "action: Required value",
        ],
    );
    let elsewhere = json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "other"}});
    check(
        "v1",
        "Event",
        elsewhere,
        &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"],
    );
}
