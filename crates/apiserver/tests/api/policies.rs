//! Admission policies: expressions that refuse, warn of, record or change what is written.

use serde_json::{Value, json};

use crate::fixture::{CONFIG_MAPS, PODS, Server, config_map, pod, with_service_account};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn constraints(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"],
        "resources": [resource]}]})
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

/// A policy of that name and a binding of the same name.
async fn bind(server: &Server, sort: &str, name: &str, spec: &Value, binding: Value) {
    let mut bound = binding;
    bound["policyName"] = json!(name);
    if sort == "validating" && bound["validationActions"].is_null() {
        bound["validationActions"] = json!(["Deny"]);
    }
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    server.post(&format!("{ADMISSION}/{sort}admissionpolicies"), &policy).await.ok();
    let binding = json!({"metadata": {"name": format!("{name}-binding")}, "spec": bound});
    server.post(&format!("{ADMISSION}/{sort}admissionpolicybindings"), &binding).await.ok();
}

#[tokio::test]
async fn violations_are_refused() {
    let server = Server::start().await;
    let spec = json!({
        "matchConstraints": constraints("apps", "deployments"),
        "variables": [{"name": "max", "expression": "namespaceObject.metadata.name == 'default' ? 5 : 1"},
            {"name": "unused", "expression": "1 / 0"}],
        "validations": [
            {"expression": "object.spec.replicas <= variables.max"},
            {"expression": "object.metadata.name != 'forbidden'", "message": "not this name", "reason": "Forbidden"},
            {"expression": "!object.metadata.name.startsWith('x')",
                "messageExpression": "'names do not begin with x: ' + object.metadata.name"},
            {"expression": "object.metadata.name != 'odd' || object.spec.nowhere == 1"},
        ],
    });
    bind(&server, "validating", "demo", &spec, json!({})).await;
    const DENIED: &str = "ValidatingAdmissionPolicy 'demo' with binding 'demo-binding' denied request";
    server.post(DEPLOYMENTS, &deployment("fine", 5)).await.ok();
    let refused = server.post(DEPLOYMENTS, &deployment("many", 6)).await;
    let why = format!("{DENIED}: failed expression: object.spec.replicas <= variables.max");
    assert_eq!(
        refused.failure(),
        (422, "Invalid".to_owned(), format!("deployments.apps \"many\" is forbidden: {why}"))
    );
    assert_eq!(refused.json()["details"]["causes"][0]["message"], why.as_str());
    let (code, reason, message) = server.post(DEPLOYMENTS, &deployment("forbidden", 1)).await.failure();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(message.ends_with(&format!("{DENIED}: not this name")), "{message}");
    let (_, _, message) = server.post(DEPLOYMENTS, &deployment("x1", 1)).await.failure();
    assert!(message.ends_with("names do not begin with x: x1"), "{message}");
    let (_, _, message) = server.post(DEPLOYMENTS, &deployment("odd", 1)).await.failure();
    assert!(message.ends_with("resulted in error: no such key: nowhere"), "{message}");
    // An update is held to it as well; what lies outside of the rules is not.
    let replicas = json!({"spec": {"replicas": 9}});
    server.patch(&format!("{DEPLOYMENTS}/fine"), "merge-patch+json", &replicas).await.failure();
    server.post(CONFIG_MAPS, &config_map("x1")).await.ok();
}

#[tokio::test]
async fn bindings_say_where_and_what_follows() {
    let server = Server::start().await;
    let mut spec =
        json!({"matchConstraints": constraints("", "configmaps"), "validations": [{"expression": "false"}]});
    let only = |label: &str| json!({"objectSelector": {"matchLabels": {"to": label}}});
    bind(
        &server,
        "validating",
        "warns",
        &spec,
        json!({"validationActions": ["Warn"], "matchResources": only("warn")}),
    )
    .await;
    bind(
        &server,
        "validating",
        "audits",
        &spec,
        json!({"validationActions": ["Audit"], "matchResources": only("audit")}),
    )
    .await;
    spec["failurePolicy"] = json!("Ignore");
    spec["validations"] = json!([{"expression": "object.nothing == 1"}]);
    bind(&server, "validating", "ignores", &spec, json!({})).await;
    spec["matchConditions"] = json!([{"name": "m", "expression": "object.metadata.name == 'chosen'"}]);
    spec["validations"] = json!([{"expression": "false"}]);
    bind(&server, "validating", "conditional", &spec, json!({})).await;

    let labelled = |label: &str| json!({"metadata": {"name": label, "labels": {"to": label}}});
    let warned = server.post(CONFIG_MAPS, &labelled("warn")).await;
    warned.ok();
    let told = "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns-binding': failed expression: false\"";
    assert_eq!(warned.warnings(), [told]);
    let audited = server.post(CONFIG_MAPS, &labelled("audit")).await;
    audited.ok();
    assert!(audited.warnings().is_empty());
    server.post(CONFIG_MAPS, &config_map("chosen")).await.failure();
    let metrics = server.get("/metrics").await;
    let metrics = std::str::from_utf8(&metrics.bytes).unwrap();
    for (policy, action) in [("warns", "warn"), ("audits", "audit"), ("conditional", "deny")] {
        let counted = format!(
            "apiserver_validating_admission_policy_check_total{{policy=\"{policy}\",policy_binding=\"{policy}-binding\",error_type=\"no_error\",enforcement_action=\"{action}\"}} 1\n"
        );
        assert!(metrics.contains(&counted), "{counted}");
    }
    // Without bindings nothing applies.
    server
        .delete(&format!("{ADMISSION}/validatingadmissionpolicybindings/conditional-binding"), "")
        .await
        .ok();
    server.post(CONFIG_MAPS, &config_map("chosen")).await.ok();
}

#[tokio::test]
async fn parameters() {
    let server = Server::start().await;
    let limit = |name: &str, max: &str| json!({"metadata": {"name": name, "labels": {"limits": "yes"}}, "data": {"max": max}});
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": constraints("apps", "deployments"),
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)",
            "messageExpression": "'at most ' + params.data.max"}],
    });
    let named =
        |name: &str, missing: &str| json!({"paramRef": {"name": name, "parameterNotFoundAction": missing}});
    bind(&server, "validating", "named", &spec, named("limit", "Deny")).await;
    let (_, _, message) = server.post(DEPLOYMENTS, &deployment("a", 1)).await.failure();
    assert!(message.ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"), "{message}");
    server.post(CONFIG_MAPS, &limit("limit", "3")).await.ok();
    server.post(DEPLOYMENTS, &deployment("a", 3)).await.ok();
    let (_, _, message) = server.post(DEPLOYMENTS, &deployment("b", 4)).await.failure();
    assert!(message.ends_with("at most 3"), "{message}");
    // Each of those that are selected has to be satisfied.
    let selector = json!({"paramRef": {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Allow"}});
    bind(&server, "validating", "selected", &spec, selector).await;
    server.post(CONFIG_MAPS, &limit("stricter", "2")).await.ok();
    let (_, _, message) = server.post(DEPLOYMENTS, &deployment("b", 3)).await.failure();
    assert!(message.contains("'selected'") && message.ends_with("at most 2"), "{message}");
    bind(&server, "validating", "absent", &spec, named("nobody", "Allow")).await;
    server.post(DEPLOYMENTS, &deployment("b", 2)).await.ok();
}

#[tokio::test]
async fn authorization_of_the_user() {
    let server = Server::start().await;
    let spec = json!({
        "matchConstraints": constraints("", "configmaps"),
        "validations": [
            {"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"},
            {"expression": "!authorizer.serviceAccount('default', 'nobody').requestResource.check('create').allowed() || true"},
        ],
    });
    let policy = json!({"metadata": {"name": "wrong"}, "spec": spec});
    let (code, _, message) =
        server.post(&format!("{ADMISSION}/validatingadmissionpolicies"), &policy).await.failure();
    assert!(code == 422 && message.contains("spec.validations[1].expression"), "{message}");
    let mut spec = spec;
    spec["validations"][1]["expression"] = json!(
        "!authorizer.serviceAccount('default', 'nobody').group('').resource('secrets').check('get').allowed()"
    );
    bind(&server, "validating", "authorized", &spec, json!({})).await;
    // The test's user may do everything, that service account nothing.
    server.post(CONFIG_MAPS, &config_map("x")).await.ok();
}

#[tokio::test]
async fn mutations_by_configuration_and_by_patch() {
    let server = with_service_account().await;
    let apply = json!({
        "matchConstraints": constraints("", "pods"), "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "not-yet", "expression": "!object.spec.initContainers.exists(c, c.name == 'mesh')"}],
        "failurePolicy": "Ignore",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'by': 'policy', 'app.kubernetes.io/x': object.metadata.name}}, spec: Object.spec{terminationGracePeriodSeconds: 5, containers: [Object.spec.containers{name: 'side', image: 'busybox'}]}}"}}],
    });
    // The condition cannot be evaluated where there are no init containers: the policy is passed over.
    bind(&server, "mutating", "apply", &apply, json!({})).await;
    let plain = server.post(PODS, &pod("plain")).await.ok();
    assert_eq!(plain["spec"]["terminationGracePeriodSeconds"], 30);
    let mut apply = apply;
    apply["matchConditions"] = json!([{"name": "c", "expression": "!has(object.spec.initContainers)"}]);
    let policies = format!("{ADMISSION}/mutatingadmissionpolicies");
    server.patch(&format!("{policies}/apply"), "merge-patch+json", &json!({"spec": apply})).await.ok();
    let stored = server.post(PODS, &pod("p")).await.ok();
    assert_eq!(stored["metadata"]["labels"], json!({"app": "p", "by": "policy", "app.kubernetes.io/x": "p"}));
    let names: Vec<&str> =
        stored["spec"]["containers"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["c", "side"]);
    let side = &stored["spec"]["containers"][1];
    assert_eq!(
        (&side["imagePullPolicy"], &stored["spec"]["terminationGracePeriodSeconds"]),
        (&json!("Always"), &json!(5))
    );
    // Plugins see what policies have added.
    assert!(side["volumeMounts"][0]["mountPath"].is_string());

    let patch = json!({
        "matchConstraints": constraints("", "configmaps"), "reinvocationPolicy": "IfNeeded",
        "variables": [{"name": "key", "expression": "'a/b'"}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'test', path: '/data/a', value: '1'}, JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}, JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey(variables.key), value: string(size(object.data))}]"}}],
    });
    bind(&server, "mutating", "patch", &patch, json!({})).await;
    let stored = server.post(CONFIG_MAPS, &config_map("x")).await.ok();
    assert_eq!(stored["metadata"]["annotations"], json!({"a/b": "1"}));
    // What is tested is another one here: it stays as it is.
    let other = json!({"metadata": {"name": "y"}, "data": {"a": "2"}});
    assert_eq!(server.post(CONFIG_MAPS, &other).await.ok()["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn wrong_policies_are_refused() {
    let server = Server::start().await;
    let policies = format!("{ADMISSION}/validatingadmissionpolicies");
    let refused = |spec: Value| {
        let policy = json!({"metadata": {"name": "p"}, "spec": spec});
        let (server, policies) = (&server, &policies);
        async move { server.post(policies, &policy).await.failure() }
    };
    let (code, _, message) = refused(json!({"validations": [{"expression": "true"}]})).await;
    assert!(code == 422 && message.contains("spec.matchConstraints: Required value"), "{message}");
    let of = constraints("", "pods");
    let (code, _, message) =
        refused(json!({"matchConstraints": of, "validations": [{"expression": "object.x == "}]})).await;
    assert!(code == 422 && message.contains("compilation failed: ERROR: <input>:1:"), "{message}");
    // Policies do not judge policies.
    let all = json!({"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*"]}]}, "validations": [{"expression": "false"}]});
    bind(&server, "validating", "no", &all, json!({})).await;
    server.post(CONFIG_MAPS, &config_map("x")).await.failure();
    server.delete(&format!("{policies}/no"), "").await.ok();
    server.post(CONFIG_MAPS, &config_map("x")).await.ok();
}

#[tokio::test]
async fn what_cannot_be_evaluated_is_a_violation_like_others() {
    let server = Server::start().await;
    let spec = json!({
        "matchConstraints": constraints("", "configmaps"),
        "validations": [{"expression": "object.data.nowhere == 'x'"}],
    });
    bind(&server, "validating", "demo", &spec, json!({"validationActions": ["Warn"]})).await;
    let mut map = config_map("a");
    map["data"] = json!({"k": "v"});
    let warned = server.post(CONFIG_MAPS, &map).await;
    let why = "expression 'object.data.nowhere == 'x'' resulted in error: no such key: nowhere";
    assert!(warned.warnings().iter().any(|warning| warning.contains(why)), "{:?}", warned.warnings());
    assert_eq!(warned.code, 201);
    // Audit annotations have no other way to fail.
    let mut annotated = spec.clone();
    annotated["validations"] = json!([{"expression": "true"}]);
    annotated["auditAnnotations"] = json!([{"key": "k", "valueExpression": "object.data.nowhere"}]);
    bind(&server, "validating", "other", &annotated, json!({"validationActions": ["Warn"]})).await;
    map["metadata"]["name"] = json!("b");
    let (_, _, message) = server.post(CONFIG_MAPS, &map).await.failure();
    assert!(
        message.ends_with("expression 'object.data.nowhere' resulted in error: no such key: nowhere"),
        "{message}"
    );
}

#[tokio::test]
async fn mutations_that_do_not_fit() {
    let server = Server::start().await;
    let spec = |mutation: Value| {
        json!({"matchConstraints": constraints("", "configmaps"), "mutations": [mutation],
            "reinvocationPolicy": "Never", "failurePolicy": "Fail"})
    };
    // A test that fails leaves the object as it is.
    let tested = "[JSONPatch{op: 'test', path: '/metadata/name', value: 'x'}, \
                  JSONPatch{op: 'add', path: '/metadata/labels', value: {'was': 'x'}}]";
    let tested = spec(json!({"patchType": "JSONPatch", "jsonPatch": {"expression": tested}}));
    bind(&server, "mutating", "tested", &tested, json!({})).await;
    assert_eq!(server.post(CONFIG_MAPS, &config_map("a")).await.ok()["metadata"].get("labels"), None);
    assert_eq!(server.post(CONFIG_MAPS, &config_map("x")).await.ok()["metadata"]["labels"]["was"], "x");
    let missing = spec(json!({"patchType": "JSONPatch", "jsonPatch": {"expression":
        "object.metadata.name == 'm' ? [JSONPatch{op: 'remove', path: '/nowhere'}] : []"}}));
    bind(&server, "mutating", "missing", &missing, json!({})).await;
    let (code, reason, message) = server.post(CONFIG_MAPS, &config_map("m")).await.failure();
    assert_eq!((code, reason.as_str()), (403, "Invalid"));
    let told = "policy 'missing' with binding 'missing-binding' denied request: JSON Patch: ";
    assert!(message.starts_with(told), "{message}");
    let unknown = "Object{nowhere: 'x'}";
    let unknown =
        spec(json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": unknown}}));
    bind(&server, "mutating", "unknown", &unknown, json!({})).await;
    let (code, _, message) = server.post(CONFIG_MAPS, &config_map("b")).await.failure();
    let why = "policy 'unknown' with binding 'unknown-binding' denied request: error applying patch: failed to \
               convert patch object to typed object: .nowhere: field not declared in schema";
    assert_eq!((code, &*message), (403, why));
}
