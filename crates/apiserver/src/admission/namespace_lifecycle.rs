//! NamespaceLifecycle: nothing is created in a namespace that is missing or going away, and some namespaces stay.

use api::status::{Status, StatusCause};

use super::objects::{NAMESPACES, Objects};
use super::{AdmissionRequest, Operation};

/// Nobody deletes these.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub fn admit(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if request.is("", "namespaces") {
        if request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        return Ok(());
    }
    let namespace = request.namespace;
    if namespace.is_empty()
        || request.operation == Operation::Delete
        || request.resource.resource == "namespaces"
    {
        return Ok(());
    }
    if request.is("authorization.k8s.io", "localsubjectaccessreviews") {
        // Answers are independent of whether the namespace is there.
        return Ok(());
    }
    let Some(found) = objects.get(NAMESPACES, "", namespace) else {
        return Err(Status::not_found(NAMESPACES, namespace));
    };
    let terminating = found["metadata"]["deletionTimestamp"].is_string()
        || found["status"]["phase"].as_str() == Some("Terminating");
    if request.operation == Operation::Create && terminating {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = StatusCause {
            kind: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        };
        return Err(request.forbidden(why).with_causes(vec![cause]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn check(case: &Case, expected: &str) {
        let fixture = Fixture::new()
            .add(NAMESPACES, json!({"metadata": {"name": "here"}}))
            .add(NAMESPACES, json!({"metadata": {"name": "going"}, "status": {"phase": "Terminating"}}))
            .add(
                NAMESPACES,
                json!({"metadata": {"name": "deleted", "deletionTimestamp": "2027-01-01T00:00:00Z"}}),
            );
        assert_eq!(case.refusal(|request| admit(request, &fixture)), expected);
    }

    fn pod(namespace: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": "x"}})
    }

    #[test]
    fn namespaces() {
        check(&Case::create("", "pods", pod("here")), "");
        check(&Case::create("", "pods", pod("missing")), r#"namespaces "missing" not found"#);
        let going = r#"pods "x" is forbidden: unable to create new content in namespace going because it is being terminated"#;
        check(&Case::create("", "pods", pod("going")), going);
        check(&Case::create("", "pods", pod("deleted")), &going.replace("going", "deleted"));
        check(&Case::update("", "pods", pod("going"), pod("going")), "");
        check(&Case::delete("", "pods", pod("going")), "");
        check(&Case::create("authorization.k8s.io", "localsubjectaccessreviews", pod("missing")), "");
        check(&Case::create("", "nodes", json!({"metadata": {"name": "n"}})), "");
        let kube_system = json!({"metadata": {"name": "kube-system"}});
        check(
            &Case::delete("", "namespaces", kube_system),
            r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#,
        );
        check(&Case::delete("", "namespaces", json!({"metadata": {"name": "here"}})), "");
    }
}
