//! Services and their endpoints.

use super::*;

#[test]
fn services() {
    let service = |spec: Value| json!({"spec": spec});
    check("v1", "Service", service(json!({"ports": [{"port": 80}]})), &[]);
    check("v1", "Service", service(json!({"clusterIP": "None"})), &[]);
    check("v1", "Service", service(json!({})), &["spec.ports: Required value"]);
    check(
        "v1",
        "Service",
        service(json!({"ports": [{"port": 80}, {"port": 80, "name": "a"}]})),
        &[
            "spec.ports[0].name: Required value",
            r#"spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}"#,
        ],
    );
    check(
        "v1",
        "Service",
        service(json!({"type": "Odd", "ports": [{"port": 80}]})),
        &[
            r#"spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ],
    );
    check(
        "v1",
        "Service",
        service(json!({"ports": [{"port": 80, "nodePort": 30000}]})),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check("v1", "Service", service(json!({"type": "ExternalName"})), &["spec.externalName: Required value"]);
    let at = |ip: &str| service(json!({"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80}]}));
    check_update(
        "v1",
        "Service",
        at("10.96.0.1"),
        at("10.96.0.2"),
        &[r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.2"]: may not change once set"#],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": []}]}),
        &[
            r#"endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    );
}

#[test]
fn statuses() {
    check_status(
        "v1",
        "Service",
        json!({}),
        json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"hostname": "1.2.3.4", "ipMode": "VIP"}]}}}),
        &[
            "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
            "status.loadBalancer.ingress[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
        ],
    );
}

#[test]
fn only_load_balancers_have_balancers() {
    check_status(
        "v1",
        "Service",
        json!({}),
        json!({"spec": {"type": "ClusterIP"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
        &["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \"LoadBalancer\""],
    );
}

#[test]
fn what_services_keep() {
    let balanced = |class: &str, port: i64| {
        json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": class, "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port, "ports": [{"port": 80}]}})
    };
    check_update("v1", "Service", balanced("a", 1), balanced("a", 1), &[]);
    check_update(
        "v1",
        "Service",
        balanced("a", 1),
        balanced("b", 2),
        &[
            r#"spec.loadBalancerClass: Invalid value: "b": may not change once set"#,
            "spec.healthCheckNodePort: Forbidden: field is immutable",
        ],
    );
    let dual = |policy: &str, addresses: Value, families: Value| {
        json!({"spec": {"ipFamilyPolicy": policy, "clusterIP": addresses[0], "clusterIPs": addresses,
            "ipFamilies": families, "ports": [{"port": 80}]}})
    };
    let both = || dual("PreferDualStack", json!(["10.0.0.1", "fd00::1"]), json!(["IPv4", "IPv6"]));
    check_update("v1", "Service", both(), dual("SingleStack", json!(["10.0.0.1"]), json!(["IPv4"])), &[]);
    check_update(
        "v1",
        "Service",
        both(),
        dual("PreferDualStack", json!(["10.0.0.1"]), json!(["IPv4"])),
        &[
            r#"spec.clusterIPs[1]: Invalid value: ["10.0.0.1"]: secondary clusterIP can not be unset"#,
            r#"spec.ipFamilies[1]: Invalid value: ["IPv4"]: secondary ipFamily can not be unset"#,
        ],
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"trafficDistribution": "Far", "loadBalancerClass": "a", "ports": [{"port": 80, "appProtocol": "a/b/c"}]}}),
        &[
            "spec.ports[0].appProtocol: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            r#"spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameNode", "PreferSameZone""#,
        ],
    );
}

#[test]
fn hints() {
    let zones: Vec<Value> = (0..9).map(|i| json!({"name": format!("z{i}")})).collect();
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": zones}}]}),
        &["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"],
    );
}
