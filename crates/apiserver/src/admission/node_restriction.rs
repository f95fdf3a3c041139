//! NodeRestriction: a kubelet writes only its own Node and pods of its own node. What the Node authorizer cannot
//! see, because it is in the body of the request, is checked here.

use api::status::Status;
use serde_json::Value;

use super::objects::{self, NODES, Objects, PODS, annotation, items};
use super::{AdmissionRequest, Operation};
use crate::authz::node::{self, Kind};

const MIRROR: &str = "kubernetes.io/config.mirror";

pub fn validate(request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let Some(name) = request.user.node_name() else {
        return Ok(());
    };
    let check = Check { request, objects, node: name };
    match (request.resource.group.as_str(), request.resource.resource.as_str(), request.subresource) {
        ("", "pods", "") => check.pod(),
        ("", "pods", "status") => check.pod_status(),
        ("", "pods", "eviction") => check.eviction(),
        ("", "pods", _) => {
            Err(request.forbidden(format!("unexpected pod subresource {}", request.subresource)))
        }
        ("", "nodes", _) => check.node(),
        ("", "persistentvolumeclaims", "status") => check.claim_status(),
        ("", "serviceaccounts", "token") => check.token(),
        ("coordination.k8s.io", "leases", _) => check.lease(),
        ("storage.k8s.io", "csinodes", _) => {
            check.own_name("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices", _) => check.slice(),
        _ => Ok(()),
    }
}

struct Check<'a> {
    request: &'a AdmissionRequest<'a>,
    objects: &'a dyn Objects,
    node: &'a str,
}

impl Check<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Result<(), Status> {
        Err(self.request.forbidden(why))
    }

    fn pod(&self) -> Result<(), Status> {
        let node = self.node;
        match self.request.operation {
            Operation::Create => self.mirror_pod(),
            Operation::Delete => {
                if self.runs(self.request.old_object) {
                    return Ok(());
                }
                self.refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
            }
            other => self.refuse(format!(
                "unexpected operation {other:?}, node {node:?} can only create and delete mirror pods"
            )),
        }
    }

    fn runs(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"].as_str() == Some(self.node)
    }

    fn mirror_pod(&self) -> Result<(), Status> {
        let (pod, node) = (&self.request.object, self.node);
        if annotation(pod, MIRROR).is_empty() {
            let name = objects::name(pod);
            return self.refuse(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods ({name})"
            ));
        }
        if !self.runs(pod) {
            return self
                .refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners: Vec<&Value> = items(&pod["metadata"]["ownerReferences"]).collect();
        match owners.as_slice() {
            [] => {}
            [owner] => {
                let this = self.objects.get(NODES, "", node);
                let uid_matches = this.is_some_and(|this| Some(objects::uid(&this)) == owner["uid"].as_str());
                if owner["kind"].as_str() != Some("Node")
                    || owner["name"].as_str() != Some(node)
                    || !uid_matches
                {
                    return self.refuse(format!(
                        "node {node:?} can only create pods with an owner reference set to itself"
                    ));
                }
            }
            _ => {
                return self.refuse(format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        }
        let spec = &pod["spec"];
        if !spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
            return self
                .refuse(format!("node {node:?} can not create pods that reference a service account"));
        }
        // Who may make a pod that names something would be told what it says.
        let named = node::named_by(pod);
        for (kind, what) in [
            (Kind::Secret, "secrets"),
            (Kind::ConfigMap, "configmaps"),
            (Kind::Claim, "persistentvolumeclaims"),
            (Kind::ResourceClaim, "resourceclaims"),
        ] {
            if named.iter().any(|(found, _)| *found == kind) {
                return self.refuse(format!("node {node:?} can not create pods that reference {what}"));
            }
        }
        let projects = |volume: &Value, kind: &str| {
            items(&volume["projected"]["sources"]).any(|source| source[kind].is_object())
        };
        for (kind, what) in
            [("clusterTrustBundle", "clustertrustbundles"), ("podCertificate", "podcertificates")]
        {
            if items(&spec["volumes"]).any(|volume| projects(volume, kind)) {
                return self.refuse(format!("node {node:?} can not create pods that reference {what}"));
            }
        }
        Ok(())
    }

    fn pod_status(&self) -> Result<(), Status> {
        let node = self.node;
        if self.request.operation != Operation::Update {
            return self.refuse(format!("unexpected operation {:?}", self.request.operation));
        }
        if !self.runs(self.request.old_object) {
            return self.refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        let (new, old) = (&self.request.object, self.request.old_object);
        if new["metadata"]["labels"] != old["metadata"]["labels"] {
            return self.refuse(format!("node {node:?} cannot update labels through pod status"));
        }
        // Those decide which claims the node may read.
        for field in ["resourceClaimStatuses", "extendedResourceClaimStatus"] {
            if new["status"][field] != old["status"][field] {
                return self.refuse(format!("node {node:?} cannot update resource claim statuses"));
            }
        }
        Ok(())
    }

    fn eviction(&self) -> Result<(), Status> {
        let pod = self.objects.get(PODS, self.request.namespace, self.request.name);
        if pod.is_some_and(|pod| self.runs(&pod)) {
            return Ok(());
        }
        self.refuse(format!("node {:?} can only evict pods with spec.nodeName set to itself", self.node))
    }

    fn node(&self) -> Result<(), Status> {
        let (request, node) = (self.request, self.node);
        if request.object_name() != node {
            return self
                .refuse(format!("node {node:?} is not allowed to modify node {:?}", request.object_name()));
        }
        let (new, old) = (&request.object, request.old_object);
        match request.operation {
            Operation::Create => {
                if !new["spec"]["configSource"].is_null() {
                    return self.refuse("is not allowed to create pods with a non-nil configSource");
                }
                if let Some(label) = items_of_labels(new).find(|label| is_forbidden(label)) {
                    return self.refuse(format!("is not allowed to set the following labels: {label}"));
                }
                Ok(())
            }
            Operation::Update => {
                if new["spec"]["taints"] != old["spec"]["taints"] && request.subresource.is_empty() {
                    return self.refuse(format!("node {node:?} is not allowed to modify taints"));
                }
                if let Some(label) = changed_labels(new, old).find(|label| is_forbidden(label)) {
                    return self.refuse(format!("is not allowed to modify labels: {label}"));
                }
                if !new["metadata"]["ownerReferences"].is_null()
                    && new["metadata"]["ownerReferences"] != old["metadata"]["ownerReferences"]
                {
                    return self.refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
                }
                Ok(())
            }
            Operation::Delete => self.refuse(format!("node {node:?} is not allowed to delete nodes")),
            Operation::Connect => Ok(()),
        }
    }

    fn claim_status(&self) -> Result<(), Status> {
        if self.request.operation != Operation::Update {
            return self.refuse(format!("unexpected operation {:?}", self.request.operation));
        }
        let without = |claim: &Value| {
            let mut claim = claim.clone();
            if let Some(claim) = claim.as_object_mut() {
                claim.remove("status");
            }
            if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
                for field in ["resourceVersion", "managedFields", "generation"] {
                    metadata.remove(field);
                }
            }
            claim
        };
        if without(&self.request.object) == without(self.request.old_object) {
            return Ok(());
        }
        self.refuse(format!("node {:?} is not allowed to update fields other than status", self.node))
    }

    fn token(&self) -> Result<(), Status> {
        let (request, node) = (self.request, self.node);
        let reference = &request.object["spec"]["boundObjectRef"];
        let is_pod =
            reference["kind"].as_str() == Some("Pod") && reference["apiVersion"].as_str() == Some("v1");
        if !is_pod {
            return self.refuse(format!("node requested token not bound to a pod ({node})"));
        }
        let (name, uid) =
            (reference["name"].as_str().unwrap_or_default(), reference["uid"].as_str().unwrap_or_default());
        if uid.is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let Some(pod) = self.objects.get(PODS, request.namespace, name) else {
            return Err(Status::not_found(PODS, name));
        };
        if objects::uid(&pod) != uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(Status::conflict(PODS, name, why));
        }
        if !self.runs(&pod) {
            return self.refuse("node requested token bound to a pod scheduled on a different node");
        }
        Ok(())
    }

    fn lease(&self) -> Result<(), Status> {
        if self.request.namespace != "kube-node-lease" {
            return self.refuse(r#"can only access leases in the "kube-node-lease" system namespace"#);
        }
        self.own_name("can only access node lease with the same name as the requesting node")
    }

    fn own_name(&self, why: &str) -> Result<(), Status> {
        if self.request.object_name() == self.node {
            return Ok(());
        }
        self.refuse(why)
    }

    fn slice(&self) -> Result<(), Status> {
        let slice = match self.request.operation {
            Operation::Delete => self.request.old_object,
            _ => &self.request.object,
        };
        if slice["spec"]["nodeName"].as_str() == Some(self.node) {
            return Ok(());
        }
        self.refuse("can only write ResourceSlices with the same NodeName as the requesting node")
    }
}

fn items_of_labels(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["labels"].as_object().into_iter().flatten().map(|(label, _)| label.as_str())
}

fn changed_labels<'a>(new: &'a Value, old: &'a Value) -> impl Iterator<Item = &'a str> {
    items_of_labels(new)
        .chain(items_of_labels(old))
        .filter(move |label| new["metadata"]["labels"][*label] != old["metadata"]["labels"][*label])
}

/// Labels by which an administrator tells nodes apart: a node must not give them to itself.
fn is_forbidden(label: &str) -> bool {
    const ALLOWED: [&str; 14] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let Some((prefix, _)) = label.split_once('/') else {
        return false;
    };
    let below = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    if !below("kubernetes.io") && !below("k8s.io") {
        return false;
    }
    !ALLOWED.contains(&label) && !below("kubelet.kubernetes.io") && !below("node.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;
    use crate::UserInfo;

    fn fixture() -> Fixture {
        let pod = |name: &str, node: &str| json!({"metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")}, "spec": {"nodeName": node}});
        Fixture::new()
            .add(NODES, json!({"metadata": {"name": "n1", "uid": "node-uid"}}))
            .add(PODS, pod("mine", "n1"))
            .add(PODS, pod("yours", "n2"))
    }

    fn check(mut case: Case, expected: &str) {
        case.user = UserInfo::authenticated("system:node:n1", &["system:nodes"]);
        let refusal = case.refusal(|request| validate(request, &fixture()));
        assert!(refusal.contains(expected) && (refusal.is_empty() == expected.is_empty()), "{refusal}");
        case.user = UserInfo::authenticated("admin", &[]);
        assert_eq!(case.refusal(|request| validate(request, &fixture())), "");
    }

    fn pod(node: &str, extra: Value) -> Value {
        let mut pod = json!({"metadata": {"namespace": "ns", "name": "x", "annotations": {MIRROR: "h"}}, "spec": extra});
        pod["spec"]["nodeName"] = json!(node);
        pod
    }

    #[test]
    fn pods() {
        check(Case::create("", "pods", pod("n1", json!({}))), "");
        check(Case::create("", "pods", pod("n2", json!({}))), "spec.nodeName set to itself");
        check(Case::create("", "pods", json!({"spec": {"nodeName": "n1"}})), "can only create mirror pods");
        check(Case::create("", "pods", pod("n1", json!({"serviceAccountName": "sa"}))), "service account");
        check(
            Case::create("", "pods", pod("n1", json!({"volumes": [{"secret": {"secretName": "s"}}]}))),
            "reference secrets",
        );
        let environment = json!({"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]});
        check(Case::create("", "pods", pod("n1", environment)), "reference configmaps");
        let bundle =
            json!({"volumes": [{"projected": {"sources": [{"clusterTrustBundle": {"name": "b"}}]}}]});
        check(Case::create("", "pods", pod("n1", bundle)), "reference clustertrustbundles");
        check(Case::delete("", "pods", pod("n1", json!({}))), "");
        check(Case::delete("", "pods", pod("n2", json!({}))), "can only delete");
        let status = |node: &str| Case {
            subresource: "status",
            ..Case::update("", "pods", pod(node, json!({})), pod(node, json!({})))
        };
        check(status("n1"), "");
        check(status("n2"), "can only update pod status");
        let mut claimed = status("n1");
        claimed.object["status"] =
            json!({"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "b"}]});
        check(claimed, "resource claim statuses");
        let evict = |name: &str| {
            let eviction = json!({"metadata": {"namespace": "ns", "name": name}});
            Case { subresource: "eviction", ..Case::create("", "pods", eviction) }
        };
        check(evict("mine"), "");
        check(evict("yours"), "can only evict");
    }

    #[test]
    fn nodes() {
        let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
        check(Case::create("", "nodes", node("n1", json!({"kubernetes.io/hostname": "n1", "own": "x"}))), "");
        check(Case::create("", "nodes", node("n2", json!({}))), "not allowed to modify node");
        let restricted = json!({"node-restriction.kubernetes.io/tier": "gold"});
        check(Case::create("", "nodes", node("n1", restricted.clone())), "not allowed to set");
        check(
            Case::create("", "nodes", node("n1", json!({"node-role.kubernetes.io/control-plane": ""}))),
            "not allowed to set",
        );
        let plain = node("n1", json!({}));
        check(
            Case::update("", "nodes", plain.clone(), node("n1", restricted.clone())),
            "not allowed to modify labels",
        );
        check(Case::update("", "nodes", node("n1", restricted.clone()), node("n1", restricted)), "");
        let mut tainted = plain.clone();
        tainted["spec"] = json!({"taints": []});
        check(Case::update("", "nodes", plain.clone(), tainted), "not allowed to modify taints");
        check(Case::delete("", "nodes", plain), "not allowed to delete");
    }

    #[test]
    fn tokens_and_leases() {
        let token = |name: &str, uid: &str| {
            let object = json!({"metadata": {"namespace": "ns", "name": "sa"}, "spec": {"boundObjectRef":
                {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}});
            Case { subresource: "token", ..Case::create("", "serviceaccounts", object) }
        };
        check(token("mine", "uid-mine"), "");
        check(token("mine", "other"), "does not match");
        check(token("mine", ""), "without a uid");
        check(token("yours", "uid-yours"), "different node");
        check(token("gone", "x"), "not found");
        let lease = |namespace: &str, name: &str| {
            Case::create(
                "coordination.k8s.io",
                "leases",
                json!({"metadata": {"namespace": namespace, "name": name}}),
            )
        };
        check(lease("kube-node-lease", "n1"), "");
        check(lease("kube-node-lease", "n2"), "same name");
        check(lease("default", "n1"), "kube-node-lease");
    }
}
