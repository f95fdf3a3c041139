//! The Node authorizer: a kubelet may do what the role `system:node` lists, and of that
//! - read Secrets, ConfigMaps, claims and volumes only where a pod bound to its node refers to them,
//! - get tokens only for service accounts that pods of its node run as,
//! - read and write only its own Node, Lease and CSINode, and pods of its own node.
//!
//! Which object a write is about, beyond its name, is for the NodeRestriction admission plugin to check.

use std::collections::BTreeSet;

use ahash::AHashMap;
use api::status::GroupResource;
use serde_json::Value;

use super::follow::Derived;
use super::rules::Rule;
use crate::admission::objects::{CLAIMS, Objects, VOLUME_ATTACHMENTS, VOLUMES, items};
use crate::request::RequestInfo;

/// What a pod can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

pub type References = BTreeSet<(Kind, Box<str>)>;

struct Pod {
    node: Box<str>,
    references: References,
}

/// Namespace and name.
type Key = (Box<str>, Box<str>);

/// Pods by node, with what they refer to.
#[derive(Default)]
pub struct Index {
    pods: AHashMap<Key, Pod>,
    nodes: AHashMap<Box<str>, BTreeSet<Key>>,
}

impl Derived for Index {
    fn apply(&mut self, _: GroupResource<'static>, namespace: &str, name: &str, object: Option<&Value>) {
        let key: Key = (namespace.into(), name.into());
        if let Some(old) = self.pods.remove(&key)
            && let Some(pods) = self.nodes.get_mut(&old.node)
        {
            pods.remove(&key);
            if pods.is_empty() {
                self.nodes.remove(&old.node);
            }
        }
        let Some(pod) = object else { return };
        let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) else {
            return;
        };
        self.nodes.entry(node.into()).or_default().insert(key.clone());
        let references = references(pod);
        let node = node.into();
        self.pods.insert(key, Pod { node, references });
    }

    fn forget(&mut self, _: GroupResource<'static>) {
        *self = Self::default();
    }
}

/// The names of all objects that a pod needs, by kind.
fn references(pod: &Value) -> References {
    // Mirror pods run without an account and may name nothing; what they name is not theirs to read.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return References::new();
    }
    named_by(pod)
}

/// What a pod names, be it allowed to or not.
pub fn named_by(pod: &Value) -> References {
    let spec = &pod["spec"];
    let mut found = References::new();
    let mut add = |kind: Kind, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.insert((kind, name.into()));
        }
    };
    add(Kind::ServiceAccount, &spec["serviceAccountName"]);
    for secret in items(&spec["imagePullSecrets"]) {
        add(Kind::Secret, &secret["name"]);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            for source in items(&container["envFrom"]) {
                add(Kind::Secret, &source["secretRef"]["name"]);
                add(Kind::ConfigMap, &source["configMapRef"]["name"]);
            }
            for variable in items(&container["env"]) {
                add(Kind::Secret, &variable["valueFrom"]["secretKeyRef"]["name"]);
                add(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"]["name"]);
            }
        }
    }
    for volume in items(&spec["volumes"]) {
        add(Kind::Secret, &volume["secret"]["secretName"]);
        add(Kind::ConfigMap, &volume["configMap"]["name"]);
        add(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object() {
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let volume_name = volume["name"].as_str().unwrap_or_default();
            add(Kind::Claim, &Value::String(format!("{pod_name}-{volume_name}")));
        }
        for source in items(&volume["projected"]["sources"]) {
            add(Kind::Secret, &source["secret"]["name"]);
            add(Kind::ConfigMap, &source["configMap"]["name"]);
        }
        // Drivers that predate claims name their secret in one of these forms.
        for driver in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            add(Kind::Secret, &volume[driver]["secretRef"]["name"]);
        }
        add(Kind::Secret, &volume["azureFile"]["secretName"]);
        add(Kind::Secret, &volume["csi"]["nodePublishSecretRef"]["name"]);
    }
    for claim in items(&spec["resourceClaims"]) {
        add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    for claim in items(&pod["status"]["resourceClaimStatuses"]) {
        add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    add(Kind::ResourceClaim, &pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"]);
    found
}

/// Namespace and name of the Secrets that a volume, bound to a claim of `namespace`, is used with.
fn secrets_of_volume<'a>(volume: &'a Value, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    const REFERENCES: [&str; 6] = [
        "secretRef",
        "controllerPublishSecretRef",
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "controllerExpandSecretRef",
        "nodeExpandSecretRef",
    ];
    let sources = volume["spec"].as_object().into_iter().flatten().map(|(_, source)| source);
    let references = sources.flat_map(|source| REFERENCES.into_iter().map(|field| &source[field]));
    let azure = &volume["spec"]["azureFile"];
    references
        .map(|reference| (&reference["namespace"], &reference["name"]))
        .chain([(&azure["secretNamespace"], &azure["secretName"])])
        .filter_map(move |(place, name)| {
            Some((place.as_str().filter(|place| !place.is_empty()).unwrap_or(namespace), name.as_str()?))
        })
}

/// One node, about to ask for something.
pub struct Node<'a> {
    name: &'a str,
    index: &'a Index,
    objects: &'a dyn Objects,
}

impl<'a> Node<'a> {
    pub fn new(name: &'a str, index: &'a Index, objects: &'a dyn Objects) -> Self {
        Self { name, index, objects }
    }

    /// Whether the node may; false is for the other authorizers to decide, an error says why not.
    pub fn decide(&self, request: &RequestInfo, rules: &[Rule]) -> Result<bool, String> {
        if !request.is_resource {
            return Ok(false);
        }
        let by_rules = || rules.iter().any(|rule| rule.allows(request));
        let whole = request.subresource.is_empty();
        match (request.group.as_str(), request.resource.as_str()) {
            ("", "secrets") => match self.read_named(request, Kind::Secret) {
                Err(_) if request.verb == "get" && whole && self.volumes_name(request) => Ok(true),
                decided => decided,
            },
            ("", "configmaps") => self.read_named(request, Kind::ConfigMap),
            ("resource.k8s.io", "resourceclaims") => self.read_named(request, Kind::ResourceClaim),
            ("", "persistentvolumeclaims") if request.subresource == "status" => {
                self.verbs(request, &["get", "update", "patch"])?;
                self.refers(request, Kind::Claim)
            }
            ("", "persistentvolumeclaims") => {
                self.verbs(request, &["get"])?;
                self.refers(request, Kind::Claim)
            }
            ("", "persistentvolumes") => {
                self.verbs(request, &["get"])?;
                self.related(self.uses_volume(&request.name))
            }
            ("storage.k8s.io", "volumeattachments") => {
                self.verbs(request, &["get"])?;
                let attachment = self.objects.get(VOLUME_ATTACHMENTS, "", &request.name);
                self.related(attachment.is_some_and(|it| it["spec"]["nodeName"].as_str() == Some(self.name)))
            }
            // For tokens by which a registry knows an account.
            ("", "serviceaccounts") if whole && request.verb == "get" => {
                self.refers(request, Kind::ServiceAccount)
            }
            ("", "serviceaccounts") if request.subresource == "token" => {
                self.verbs(request, &["create"])?;
                self.refers(request, Kind::ServiceAccount)
            }
            ("", "nodes") if matches!(request.verb.as_str(), "list" | "watch") => {
                self.own(request.object_name() == self.name, "Node")
            }
            ("", "nodes") if matches!(request.verb.as_str(), "get" | "update" | "patch") => {
                Ok(by_rules() && self.own(request.name == self.name, "Node")?)
            }
            ("", "pods") if whole && matches!(request.verb.as_str(), "list" | "watch") => {
                let own = request.field("spec.nodeName") == Some(self.name)
                    || self.runs(&request.namespace, request.object_name());
                self.own(own, "pods: list and watch them with field selector spec.nodeName")
            }
            ("", "pods") if whole && request.verb == "get" => {
                self.related(self.runs(&request.namespace, &request.name))
            }
            ("coordination.k8s.io", "leases") => {
                self.verbs(request, &["get", "create", "update", "patch", "delete"])?;
                let own = request.namespace == "kube-node-lease"
                    && (request.verb == "create" || request.name == self.name);
                self.own(own, "Lease in kube-node-lease")
            }
            ("storage.k8s.io", "csinodes") => {
                self.verbs(request, &["get", "create", "update", "patch", "delete"])?;
                self.own(request.verb == "create" || request.name == self.name, "CSINode")
            }
            ("resource.k8s.io", "resourceslices") => {
                let narrowed = match request.verb.as_str() {
                    "list" | "watch" | "deletecollection" => {
                        request.field("spec.nodeName") == Some(self.name)
                    }
                    _ => true,
                };
                Ok(by_rules() && self.own(narrowed, "ResourceSlices: select them by spec.nodeName")?)
            }
            _ => Ok(by_rules()),
        }
    }

    fn verbs(&self, request: &RequestInfo, allowed: &[&str]) -> Result<(), String> {
        if allowed.contains(&request.verb.as_str()) {
            return Ok(());
        }
        Err(format!("can only {} this type of resource", allowed.join(", ")))
    }

    fn read_named(&self, request: &RequestInfo, kind: Kind) -> Result<bool, String> {
        if !matches!(request.verb.as_str(), "get" | "list" | "watch") {
            return Err("can only read resources of this type".to_owned());
        }
        if !request.subresource.is_empty() {
            return Err("cannot read subresource".to_owned());
        }
        if request.namespace.is_empty() || request.object_name().is_empty() {
            return Err("can only read namespaced object of this type by name".to_owned());
        }
        self.refers(request, kind)
    }

    fn refers(&self, request: &RequestInfo, kind: Kind) -> Result<bool, String> {
        let key: (Kind, Box<str>) = (kind, request.object_name().into());
        self.related(
            self.pods()
                .any(|(namespace, pod)| **namespace == *request.namespace && pod.references.contains(&key)),
        )
    }

    fn related(&self, related: bool) -> Result<bool, String> {
        if related {
            return Ok(true);
        }
        Err(format!("no relationship found between node '{}' and this object", self.name))
    }

    fn own(&self, own: bool, what: &str) -> Result<bool, String> {
        if own {
            return Ok(true);
        }
        Err(format!("node '{}' can only access its own {what}", self.name))
    }

    fn runs(&self, namespace: &str, pod: &str) -> bool {
        let key: Key = (namespace.into(), pod.into());
        self.index.pods.get(&key).is_some_and(|pod| *pod.node == *self.name)
    }

    fn pods(&self) -> impl Iterator<Item = (&Box<str>, &Pod)> {
        let keys = self.index.nodes.get(self.name).into_iter().flatten();
        keys.filter_map(|key| Some((&key.0, self.index.pods.get(key)?)))
    }

    fn uses_volume(&self, volume: &str) -> bool {
        let mut claims = self.claims();
        claims.any(|(_, claim)| claim["spec"]["volumeName"].as_str() == Some(volume))
            && self.objects.get(VOLUMES, "", volume).is_some()
    }

    /// The claims of the node's pods, with their namespaces.
    fn claims(&self) -> impl Iterator<Item = (&str, std::sync::Arc<Value>)> {
        self.pods().flat_map(move |(namespace, pod)| {
            let named = pod.references.iter().filter(|(kind, _)| *kind == Kind::Claim);
            named
                .filter_map(move |(_, name)| Some((&**namespace, self.objects.get(CLAIMS, namespace, name)?)))
        })
    }

    /// Whether a volume that the node's pods use names the Secret.
    fn volumes_name(&self, request: &RequestInfo) -> bool {
        let wanted = (request.namespace.as_str(), request.name.as_str());
        self.claims().any(|(namespace, claim)| {
            let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
            let volume = self.objects.get(VOLUMES, "", volume);
            volume.is_some_and(|volume| secrets_of_volume(&volume, namespace).any(|found| found == wanted))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::admission::objects::PODS;
    use crate::admission::objects::tests::Fixture;
    use crate::authz::policy;

    fn pod(node: &str) -> Value {
        json!({
            "metadata": {"namespace": "ns", "name": format!("on-{node}")},
            "spec": {
                "nodeName": node, "serviceAccountName": format!("sa-{node}"),
                "imagePullSecrets": [{"name": format!("pull-{node}")}],
                "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": format!("env-{node}")}}}],
                                "envFrom": [{"secretRef": {"name": format!("from-{node}")}}]}],
                "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": format!("projected-{node}")}}]}},
                            {"name": "c", "persistentVolumeClaim": {"claimName": format!("claim-{node}")}},
                            {"name": "e", "ephemeral": {}}],
            },
        })
    }

    fn decide(method: Method, uri: &str) -> bool {
        let mut index = Index::default();
        for node in ["n1", "n2"] {
            index.apply(PODS, "ns", &format!("on-{node}"), Some(&pod(node)));
        }
        let mut objects = Fixture::new();
        for node in ["n1", "n2"] {
            objects = objects
                .add(
                    CLAIMS,
                    json!({"metadata": {"namespace": "ns", "name": format!("claim-{node}")},
                                    "spec": {"volumeName": format!("pv-{node}")}}),
                )
                .add(
                    VOLUMES,
                    json!({"metadata": {"name": format!("pv-{node}")}, "spec": {"csi": {
                        "nodeStageSecretRef": {"namespace": "storage", "name": format!("stage-{node}")}}}}),
                );
        }
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let request = RequestInfo::parse(&method, path, query);
        Node::new("n1", &index, &objects).decide(&request, &policy::node_rules()).unwrap_or(false)
    }

    #[test]
    fn what_concerns_the_node() {
        let check = |method: Method, uri: &str, expected: bool| {
            assert_eq!(decide(method.clone(), uri), expected, "{method} {uri}");
        };
        let get = || Method::GET;
        for (kind, name) in [
            ("secrets", "pull"),
            ("secrets", "from"),
            ("secrets", "projected"),
            ("configmaps", "env"),
            ("persistentvolumeclaims", "claim"),
        ] {
            check(get(), &format!("/api/v1/namespaces/ns/{kind}/{name}-n1"), true);
            check(get(), &format!("/api/v1/namespaces/ns/{kind}/{name}-n2"), false);
            check(get(), &format!("/api/v1/namespaces/other/{kind}/{name}-n1"), false);
            check(Method::PUT, &format!("/api/v1/namespaces/ns/{kind}/{name}-n1"), false);
            check(get(), &format!("/api/v1/{kind}"), false);
        }
        check(get(), "/api/v1/namespaces/ns/persistentvolumeclaims/on-n1-e", true);
        check(get(), "/api/v1/namespaces/ns/secrets?watch=1&fieldSelector=metadata.name%3Dpull-n1", true);
        check(get(), "/api/v1/namespaces/ns/secrets?watch=1&fieldSelector=metadata.name%3Dpull-n2", false);
        check(get(), "/api/v1/persistentvolumes/pv-n1", true);
        check(get(), "/api/v1/persistentvolumes/pv-n2", false);
        check(get(), "/api/v1/namespaces/storage/secrets/stage-n1", true);
        check(get(), "/api/v1/namespaces/storage/secrets/stage-n2", false);
        check(get(), "/api/v1/namespaces/ns/secrets/stage-n1", false);
        check(get(), "/api/v1/namespaces/ns/serviceaccounts/sa-n1", true);
        check(get(), "/api/v1/namespaces/ns/serviceaccounts/sa-n2", false);
        check(Method::POST, "/api/v1/namespaces/ns/serviceaccounts/sa-n1/token", true);
        check(Method::POST, "/api/v1/namespaces/ns/serviceaccounts/sa-n2/token", false);
        check(Method::POST, "/api/v1/nodes", true);
        check(Method::PATCH, "/api/v1/nodes/n1/status", true);
        check(Method::PATCH, "/api/v1/nodes/n2/status", false);
        check(Method::DELETE, "/api/v1/nodes/n1", false);
        check(get(), "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=1", true);
        check(get(), "/api/v1/nodes", false);
        check(get(), "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&watch=1", true);
        check(get(), "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", false);
        check(get(), "/api/v1/pods", false);
        check(get(), "/api/v1/namespaces/ns/pods/on-n1", true);
        check(get(), "/api/v1/namespaces/ns/pods/on-n2", false);
        check(Method::PATCH, "/api/v1/namespaces/ns/pods/on-n1/status", true);
        check(Method::POST, "/api/v1/namespaces/ns/pods/on-n1/exec", false);
        check(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", true);
        check(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2", false);
        check(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/default/leases/n1", false);
        check(Method::POST, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", true);
        check(get(), "/api/v1/services", true);
        check(Method::POST, "/api/v1/services", false);
        check(get(), "/apis/rbac.authorization.k8s.io/v1/clusterroles", false);
        check(get(), "/metrics", false);
    }

    #[test]
    fn pods_come_and_go() {
        let mut index = Index::default();
        index.apply(PODS, "ns", "a", Some(&pod("n1")));
        index.apply(PODS, "ns", "a", Some(&pod("n2")));
        assert!(!index.nodes.contains_key("n1"));
        index.apply(PODS, "ns", "a", None);
        index.apply(PODS, "ns", "b", Some(&json!({"spec": {}})));
        index.apply(PODS, "ns", "c", Some(&json!("junk")));
        assert!(index.pods.is_empty() && index.nodes.is_empty());
    }
}
