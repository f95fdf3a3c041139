//! The FlowSchemas and PriorityLevelConfigurations that every cluster has.
//!
//! Mandatory ones are always as written here. Suggested ones are brought up to date as long as nobody has taken
//! them over.

use serde_json::{Value, json};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// While `true`, the server keeps the spec as it suggests it.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

pub fn is_mandatory(name: &str) -> bool {
    matches!(name, "exempt" | "catch-all")
}

/// All levels.
pub fn levels() -> Vec<Value> {
    let queues = |queues: u32, hand: u32| json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}});
    let limited = |name: &str, shares: u32, lendable: u32, response: Value| {
        json!({
            "apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata(name),
            "spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
            }},
        })
    };
    vec![
        json!({
            "apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata("exempt"),
            "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
        }),
        limited("catch-all", 5, 0, json!({"type": "Reject"})),
        limited("system", 30, 33, queues(64, 6)),
        limited("node-high", 40, 25, queues(64, 6)),
        limited("leader-election", 10, 0, queues(16, 4)),
        limited("workload-high", 40, 50, queues(128, 6)),
        limited("workload-low", 100, 90, queues(128, 6)),
        limited("global-default", 20, 50, queues(128, 6)),
    ]
}

/// All schemas.
pub fn schemas() -> Vec<Value> {
    let everyone = || groups(&["system:unauthenticated", "system:authenticated"]);
    let leases = || resources(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false);
    let system_accounts = || vec![service_account("*")];
    let with = |mut first: Vec<Value>, more: Vec<Value>| {
        first.extend(more);
        first
    };
    vec![
        schema("exempt", "exempt", 1, None, everything(groups(&["system:masters"]))),
        schema(
            "probes",
            "exempt",
            2,
            None,
            json!({"subjects": everyone(), "nonResourceRules": [
                {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]},
            ]}),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            Some("ByUser"),
            json!({
                "subjects": with(
                    users(&["system:kube-controller-manager", "system:kube-scheduler"]), system_accounts(),
                ),
                "resourceRules": [leases()],
            }),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            Some("ByUser"),
            json!({
                "subjects": with(
                    users(&["system:kube-controller-manager"]),
                    vec![service_account("endpoint-controller"), service_account("endpointslicemirroring-controller")],
                ),
                "resourceRules": [resources(&["get", "create", "update"], "", &["endpoints"], false)],
            }),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            Some("ByUser"),
            json!({"subjects": system_accounts(), "resourceRules": [leases()]}),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            Some("ByUser"),
            json!({
                "subjects": groups(&["system:nodes"]),
                "resourceRules": [
                    resources(&["*"], "", &["nodes", "nodes/status"], true),
                    resources(&["*"], "coordination.k8s.io", &["leases"], false),
                ],
            }),
        ),
        schema("system-nodes", "system", 500, Some("ByUser"), everything(groups(&["system:nodes"]))),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            Some("ByNamespace"),
            everything(users(&["system:kube-controller-manager"])),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            Some("ByNamespace"),
            everything(users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            Some("ByNamespace"),
            everything(system_accounts()),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            Some("ByUser"),
            everything(groups(&["system:serviceaccounts"])),
        ),
        schema("global-default", "global-default", 9900, Some("ByUser"), everything(everyone())),
        schema("catch-all", "catch-all", 10000, Some("ByUser"), everything(everyone())),
    ]
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {AUTOUPDATE: "true"}})
}

fn schema(name: &str, level: &str, precedence: u32, distinguisher: Option<&str>, rule: Value) -> Value {
    let mut schema = json!({
        "apiVersion": API_VERSION, "kind": "FlowSchema", "metadata": metadata(name),
        "spec": {
            "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
        },
    });
    if let Some(distinguisher) = distinguisher {
        schema["spec"]["distinguisherMethod"] = json!({"type": distinguisher});
    }
    schema
}

fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn service_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
}
