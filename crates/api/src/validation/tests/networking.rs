//! Ingresses, policies, classes and addresses.

use super::*;

#[test]
fn ingresses_and_policies() {
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
    );
    check(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"ingress": [{"from": [{}]}]}}),
        &["spec.ingress[0].from[0]: Required value: must specify a peer"],
    );
}

#[test]
fn classes_and_addresses() {
    check("networking.k8s.io/v1", "IngressClass", json!({"spec": {"controller": "a.b/c"}}), &[]);
    check(
        "networking.k8s.io/v1",
        "IngressClass",
        json!({"spec": {"controller": "nope"}}),
        &[
            "spec.controller: Invalid value: \"nope\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
    check_update(
        "networking.k8s.io/v1",
        "IngressClass",
        json!({"spec": {"controller": "a.b/c"}}),
        json!({"spec": {"controller": "a.b/d"}}),
        &["spec.controller: Invalid value: \"a.b/d\": field is immutable"],
    );
    let cidrs = |list: Value| json!({"spec": {"cidrs": list}});
    check("networking.k8s.io/v1", "ServiceCIDR", cidrs(json!(["10.0.0.0/24", "fd00::/64"])), &[]);
    check(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        cidrs(json!(["10.0.0.1/24"])),
        &["spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length"],
    );
    check_update(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        cidrs(json!(["10.0.0.0/24"])),
        cidrs(json!(["10.0.0.0/24", "fd00::/64"])),
        &[],
    );
    check_update(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        cidrs(json!(["10.0.0.0/24"])),
        cidrs(json!(["10.1.0.0/24"])),
        &["spec.cidrs: Invalid value: [\"10.1.0.0/24\"]: field is immutable"],
    );
}

#[test]
fn odd_networks_stay() {
    let policy = |cidr: &str, label: &str| {
        json!({"spec": {"podSelector": {"matchLabels": {"a": label}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]}})
    };
    let odd = policy("10.0.0.1/8", "b");
    let refused = "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length";
    check("networking.k8s.io/v1", "NetworkPolicy", odd.clone(), &[refused]);
    let update = |old: Value, new: Value, want: &[&str]| {
        check_update("networking.k8s.io/v1", "NetworkPolicy", old, new, want);
    };
    update(odd.clone(), policy("10.0.0.1/8", "c"), &[]);
    update(policy("10.0.0.0/8", "b"), odd, &[refused]);
}
