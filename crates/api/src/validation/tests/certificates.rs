//! Certificate signing requests.

use super::*;

#[test]
fn statuses() {
    let approved = json!([{"type": "Approved", "status": "True"}]);
    check_status(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        json!({}),
        json!({"status": {"conditions": approved}}),
        &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
    );
}
