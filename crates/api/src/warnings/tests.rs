use super::*;
use crate::validation::names;
use serde_json::json;

#[track_caller]
fn check(api_version: &str, kind: &str, object: Value, want: &[&str]) {
    let version = api_version.parse::<crate::gvk::GroupVersion>().unwrap();
    assert_eq!(of_object(&version.with_kind(kind), &object, None), want, "{kind}");
}

fn pod(container: Value, mut spec: Value) -> Value {
    spec["containers"] = json!([container]);
    json!({"metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn pods() {
    check("v1", "Pod", pod(json!({}), json!({})), &[]);
    check(
        "v1",
        "Pod",
        pod(
            json!({
                "env": [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"},
                    {"containerPort": 80, "protocol": "TCP"}],
                "resources": {"requests": {"memory": "100m", "cpu": "100m"}},
            }),
            json!({}),
        ),
        &[
            "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]",
        ],
    );
    check(
        "v1",
        "Pod",
        pod(
            json!({}),
            json!({
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}],
                "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
                "volumes": [{"name": "g", "gitRepo": {}}],
                "topologySpreadConstraints": [{"topologyKey": "zone"}],
            }),
        ),
        &[
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "spec.hostAliases[1].ip: duplicate ip \"1.2.3.4\"",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
        ],
    );
}

#[test]
fn templates_are_only_told_about_when_they_change() {
    let gvk = "apps/v1".parse::<crate::gvk::GroupVersion>().unwrap().with_kind("Deployment");
    let template = json!({"spec": {"nodeSelector": {"beta.kubernetes.io/arch": "x"}, "containers": []}});
    let object = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "template": template}});
    assert_eq!(
        of_object(&gvk, &object, None),
        [
            "spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead"
        ]
    );
    assert_eq!(of_object(&gvk, &object, Some(&object)), [""; 0]);
}

#[test]
fn other_kinds() {
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "externalName": "x", "sessionAffinity": "ClientIP"}}),
        &[
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            "spec.SessionAffinity is ignored for headless services",
        ],
    );
    check(
        "v1",
        "PersistentVolume",
        json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}}),
        &[
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ],
    );
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}}),
        &[
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
        ],
    );
}

#[test]
fn definitions_and_custom_objects() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "format": "foo"}, "b": {"type": "string", "format": "date"},
        "c": {"type": "integer", "format": "int32"}, "d": {"type": "array", "items": {"type": "string", "format": "int32"}},
    }});
    let crd = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
    let gvk = crate::gvk::GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let expected = ["unrecognized format \"foo\"", "unrecognized format \"int32\""];
    assert_eq!(super::of_object(&gvk, &crd, None), expected);
    assert_eq!(super::of_object(&gvk, &crd, Some(&crd)), [""; 0]);
    let custom = crate::gvk::GroupVersionKind::new("example.com", "v1", "Thing");
    let object = json!({"metadata": {"finalizers": ["x", "example.com/y"]}});
    let told = super::of_object(&custom, &object, None);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("metadata.finalizers: \"x\": prefer a domain-qualified finalizer name"),
        "{told:?}"
    );
}

#[test]
fn addresses() {
    check(
        "v1",
        "Service",
        json!({"metadata": {"annotations": {"service.kubernetes.io/topology-aware-hints": "auto"}},
            "spec": {"type": "LoadBalancer", "externalIPs": ["2001:DB8::1", "1.2.3.4"], "loadBalancerSourceRanges": ["2001:DB8::/64"]}}),
        &[
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
            "spec.externalIPs is deprecated",
            "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            "spec.loadBalancerSourceRanges[0]: IPv6 CIDR value \"2001:DB8::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")",
        ],
    );
    check(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "2001:DB8::/64"}}]}]}}),
        &[
            "spec.egress[0].to[0].ipBlock.cidr: IPv6 CIDR value \"2001:DB8::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")",
        ],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}]}),
        &["addressType: FQDN endpoints are deprecated"],
    );
}

#[test]
fn workloads() {
    let label = names::dns1123_label("a.b").unwrap();
    check(
        "apps/v1",
        "Deployment",
        json!({"metadata": {"name": "a.b"}, "spec": {"template": {"spec": {"dnsConfig": {"nameservers": ["::FFFF"]}}}}}),
        &[
            &format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{label}]"
            ),
            "spec.template.spec.dnsConfig.nameservers[0]: IPv6 address \"::FFFF\" should be in RFC 5952 canonical format (\"::ffff\")",
        ],
    );
    check(
        "apps/v1",
        "StatefulSet",
        json!({"spec": {"revisionHistoryLimit": -1, "template": {}, "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "1m"}}}}]}}),
        &[
            "spec.volumeClaimTemplates[0].Spec.resources.requests[storage]: fractional byte value \"1m\" is invalid, must be an integer",
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
        ],
    );
}
