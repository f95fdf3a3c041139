use super::*;
use crate::schema::{SchemaRef, builtin};
use crate::validation::fuzz;
use proptest::prelude::*;
use serde_json::json;

fn schema(kind: &str) -> SchemaRef {
    builtin::named(&format!("io.k8s.api.{kind}")).unwrap()
}

fn deployments() -> SchemaRef {
    schema("apps.v1.Deployment")
}

fn updater<'a>(manager: &'a str, time: &'a str) -> Updater<'a> {
    Updater { manager, api_version: "apps/v1", subresource: "", time, ignored: &["status"] }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "namespace": "d"}, "spec": spec})
}

fn apply_as(
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    time: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    server_side_apply(live, config, &deployments(), &updater(manager, time), force)
}

/// manager/operation -> fields
fn owners(object: &Value) -> Value {
    let entries = managed::list(object).iter();
    Value::Object(
        entries
            .map(|e| {
                let key = format!("{}/{}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap());
                (key, e["fieldsV1"].clone())
            })
            .collect(),
    )
}

const IMAGE: &str = "k:{\"name\":\"c\"}";

#[test]
fn a_created_object_records_its_creator() {
    let mut object = deployment(
        json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}),
    );
    object["metadata"]["labels"] = json!({"l": "v"});
    object["status"] = json!({"replicas": 1});
    update_managed_fields(None, &mut object, &deployments(), &updater("kubectl-create", "t1"));
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": "t1", "fieldsType": "FieldsV1", "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
            "f:spec": {
                "f:replicas": {}, "f:selector": {},
                "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                    "f:spec": {"f:containers": {IMAGE: {".": {}, "f:name": {}, "f:image": {}}}}}}}}])
    );
}

#[test]
fn updates_take_over_what_they_change() {
    let mut old = deployment(json!({"replicas": 1, "paused": true, "minReadySeconds": 5}));
    update_managed_fields(None, &mut old, &deployments(), &updater("one", "t1"));
    let mut new = old.clone();
    new["spec"] = json!({"replicas": 2, "paused": true, "revisionHistoryLimit": 3});
    update_managed_fields(Some(&old), &mut new, &deployments(), &updater("two", "t2"));
    assert_eq!(
        owners(&new),
        json!({"one/Update": {"f:spec": {"f:paused": {}}}, "two/Update": {"f:spec": {"f:replicas": {}, "f:revisionHistoryLimit": {}}}})
    );
    // No change: nothing recorded, nothing lost even if the client drops the list.
    let mut same = new.clone();
    same["metadata"].as_object_mut().unwrap().remove("managedFields");
    update_managed_fields(Some(&new), &mut same, &deployments(), &updater("three", "t3"));
    assert_eq!(same, new);
    // Status through its own endpoint.
    let mut status = new.clone();
    status["status"] = json!({"replicas": 2});
    let by = Updater { subresource: "status", ignored: &["spec"], ..updater("controller", "t4") };
    update_managed_fields(Some(&new), &mut status, &deployments(), &by);
    assert_eq!(owners(&status)["controller/Update"], json!({"f:status": {".": {}, "f:replicas": {}}}));
    assert_eq!(managed::list(&status)[2]["subresource"], json!("status"));
}

#[test]
fn managers_can_be_forgotten() {
    let mut old = deployment(json!({"replicas": 1}));
    update_managed_fields(None, &mut old, &deployments(), &updater("one", "t1"));
    for reset in [json!([]), json!([{}])] {
        let mut new = old.clone();
        new["metadata"]["managedFields"] = reset;
        new["spec"]["replicas"] = json!(2);
        update_managed_fields(Some(&old), &mut new, &deployments(), &updater("two", "t2"));
        assert_eq!(new["metadata"].get("managedFields"), None);
        let mut later = new.clone();
        later["spec"]["replicas"] = json!(3);
        update_managed_fields(Some(&new), &mut later, &deployments(), &updater("two", "t3"));
        assert_eq!(later["metadata"].get("managedFields"), None);
        // The next apply finds an owner for what is there.
        let error =
            apply_as(Some(&later), &deployment(json!({"replicas": 9})), "a", "t4", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
        );
    }
}

#[test]
fn many_updaters_are_lumped_together() {
    let mut object = deployment(json!({"replicas": 0}));
    update_managed_fields(None, &mut object, &deployments(), &updater("creator", "t00"));
    for i in 1..=12 {
        let mut new = object.clone();
        new["metadata"]["labels"][format!("l{i}")] = json!("x");
        let (name, time) = (format!("m{i:02}"), format!("t{i:02}"));
        update_managed_fields(Some(&object), &mut new, &deployments(), &updater(&name, &time));
        object = new;
    }
    let owners = owners(&object);
    assert_eq!(owners.as_object().unwrap().len(), 10);
    assert_eq!(owners["ancient-changes/Update"]["f:spec"], json!({"f:replicas": {}}));
    assert_eq!(owners["m12/Update"], json!({"f:metadata": {"f:labels": {"f:l12": {}}}}));
}

#[test]
fn apply_creates_changes_and_removes() {
    let first =
        apply_as(None, &deployment(json!({"replicas": 1, "paused": true})), "a", "t1", false).unwrap();
    assert_eq!(first["spec"], json!({"replicas": 1, "paused": true}));
    assert_eq!(owners(&first), json!({"a/Apply": {"f:spec": {"f:replicas": {}, "f:paused": {}}}}));

    // A default that nobody applied stays; a field no longer applied goes.
    let mut live = first.clone();
    live["spec"]["revisionHistoryLimit"] = json!(10);
    let second = apply_as(Some(&live), &deployment(json!({"replicas": 2})), "a", "t2", false).unwrap();
    assert_eq!(second["spec"], json!({"replicas": 2, "revisionHistoryLimit": 10}));
    assert_eq!(owners(&second), json!({"a/Apply": {"f:spec": {"f:replicas": {}}}}));
    assert_eq!(managed::list(&second)[0]["time"], json!("t2"));

    // The same again changes nothing, not even the time.
    let third = apply_as(Some(&second), &deployment(json!({"replicas": 2})), "a", "t3", false).unwrap();
    assert_eq!(third, second);
}

#[test]
fn emptied_containers_stay_only_for_their_owners() {
    let labelled = |labels: Value| {
        let mut object = deployment(json!({}));
        object["metadata"]["labels"] = labels;
        object
    };
    let live = apply_as(None, &labelled(json!({"a": "b"})), "a", "t1", false).unwrap();
    let none = apply_as(Some(&live), &deployment(json!({})), "a", "t2", false).unwrap();
    assert_eq!(none["metadata"].get("labels"), None);
    let empty = apply_as(Some(&live), &labelled(json!({})), "a", "t2", false).unwrap();
    assert_eq!(empty["metadata"]["labels"], json!({}));
    assert_eq!(apply_as(Some(&empty), &labelled(json!({})), "a", "t3", false).unwrap(), empty);
}

#[test]
fn values_are_shared_and_conflicts_are_named() {
    let live = apply_as(None, &deployment(json!({"replicas": 1, "paused": true})), "a", "t1", false).unwrap();
    // The same value is owned together, and survives one of its owners.
    let shared = apply_as(Some(&live), &deployment(json!({"replicas": 1})), "b", "t2", false).unwrap();
    assert_eq!(owners(&shared)["b/Apply"], json!({"f:spec": {"f:replicas": {}}}));
    let left = apply_as(Some(&shared), &deployment(json!({"paused": true})), "a", "t3", false).unwrap();
    assert_eq!(left["spec"], json!({"replicas": 1, "paused": true}));

    let error = apply_as(Some(&live), &deployment(json!({"replicas": 3})), "b", "t2", false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let error = apply_as(Some(&live), &deployment(json!({"replicas": 3, "paused": false})), "b", "t2", false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.paused\n- .spec.replicas"
    );
    let status = Status::from(error);
    assert_eq!((status.code, &*status.reason), (409, "Conflict"));
    let causes = &status.details.as_ref().unwrap().causes;
    assert_eq!(causes[1].kind, "FieldManagerConflict");
    assert_eq!(causes[1].message, "conflict with \"a\"");
    assert_eq!(causes[1].field, ".spec.replicas");

    let forced = apply_as(Some(&live), &deployment(json!({"replicas": 3})), "b", "t2", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], json!(3));
    assert_eq!(
        owners(&forced),
        json!({"a/Apply": {"f:spec": {"f:paused": {}}}, "b/Apply": {"f:spec": {"f:replicas": {}}}})
    );
}

#[test]
fn updaters_conflict_with_their_version() {
    let mut live = deployment(json!({"replicas": 1}));
    update_managed_fields(None, &mut live, &deployments(), &updater("kubectl-client-side-apply", "t1"));
    let error = apply_as(Some(&live), &deployment(json!({"replicas": 3})), "b", "t2", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut live = deployment(json!({"replicas": 1, "paused": true}));
    let config = r#"{"spec":{"replicas":1}}"#;
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": config});
    update_managed_fields(None, &mut live, &deployments(), &updater("kubectl-client-side-apply", "t1"));
    let applied = apply_as(Some(&live), &deployment(json!({"replicas": 2})), "kubectl", "t2", false).unwrap();
    assert_eq!(applied["spec"]["replicas"], json!(2));
    let annotation = applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
        .as_str()
        .unwrap();
    assert!(annotation.contains("\"replicas\":2"), "{annotation}");
    // What it did not apply is not its own.
    assert!(apply_as(Some(&live), &deployment(json!({"paused": false})), "kubectl", "t2", false).is_err());
}

#[test]
fn list_items_are_owned_by_key() {
    let containers = |list: Value| deployment(json!({"template": {"spec": {"containers": list}}}));
    let live = apply_as(
        None,
        &containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
        "one",
        "t1",
        false,
    )
    .unwrap();
    // Another manager adds an item and part of an existing one.
    let live = apply_as(
        Some(&live),
        &containers(json!([{"name": "new", "image": "2"}, {"name": "b", "tty": true}])),
        "two",
        "t2",
        false,
    )
    .unwrap();
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"],
        json!([{"name": "a", "image": "1"}, {"name": "new", "image": "2"}, {"name": "b", "image": "1", "tty": true}])
    );
    // The first drops both of its items: one goes, the other keeps what the second manager set.
    let live = apply_as(Some(&live), &containers(json!([])), "one", "t3", false).unwrap();
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"],
        json!([{"name": "new", "image": "2"}, {"name": "b", "tty": true}])
    );
}

#[test]
fn keys_of_items_have_defaults() {
    let service = schema("core.v1.Service");
    let by = Updater { api_version: "v1", ..updater("a", "t1") };
    let live = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}, "metadata": {"managedFields": [
        {"manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]}});
    let config = json!({"spec": {"ports": [{"port": 80, "name": "http"}]}});
    let got = server_side_apply(Some(&live), &config, &service, &by, false).unwrap();
    assert_eq!(
        got["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80, "name": "http"}])
    );
}

#[test]
fn amounts_are_compared_by_value() {
    let quotas = schema("core.v1.ResourceQuota");
    let by = Updater { api_version: "v1", ..updater("a", "t1") };
    let quota = |cpu: &str| json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": cpu}}});
    let live = server_side_apply(None, &quota("500m"), &quotas, &by, false).unwrap();
    let again =
        server_side_apply(Some(&live), &quota("0.5"), &quotas, &Updater { time: "t2", ..by }, false).unwrap();
    assert_eq!(again, live);
}

#[test]
fn who_says_null_owns_the_field() {
    let spec = |spec: Value| deployment(spec);
    let fields = |object: &Value, owner: &str| owners(object)[owner]["f:spec"].clone();
    let one = apply_as(None, &spec(json!({"replicas": null, "template": null})), "a", "t1", false).unwrap();
    assert_eq!(one["spec"], json!({"replicas": null, "template": null}));
    assert_eq!(fields(&one, "a/Apply"), json!({"f:replicas": {}, "f:template": {}}));

    // As stored, with a default in its place.
    let mut stored = one;
    stored["spec"] = json!({"replicas": 1, "template": {"metadata": {"labels": {"a": "b"}}}});
    let refused = apply_as(Some(&stored), &spec(json!({"replicas": 3})), "b", "t2", false).unwrap_err();
    assert_eq!(refused.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    // A null over what has members of its own leaves those alone.
    let other = apply_as(Some(&stored), &spec(json!({"template": null})), "b", "t2", false).unwrap();
    assert_eq!(other["spec"]["template"], stored["spec"]["template"]);
    assert_eq!(fields(&other, "b/Apply"), json!({"f:template": {}}));
    // Over a scalar it takes its place.
    let other = apply_as(Some(&stored), &spec(json!({"replicas": null})), "b", "t2", true).unwrap();
    assert_eq!(other["spec"]["replicas"], Value::Null);
    assert_eq!(fields(&other, "a/Apply"), json!({"f:template": {}}));
    for (containers, why) in [
        (json!([null]), "containers: element 0: associative list with keys may not have a null element"),
        (json!([{"name": "c", "envFrom": []}]), ""),
    ] {
        let config = spec(json!({"template": {"spec": {"containers": containers}}}));
        let told = apply_as(None, &config, "a", "t", false).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(told.ends_with(why), "{told}");
    }
    let mut config = spec(json!({}));
    config["metadata"]["finalizers"] = json!(["a", null]);
    let told = apply_as(None, &config, "a", "t", false).unwrap_err().to_string();
    let why = ".metadata.finalizers: element 1: associative list without keys has an element that's an explicit null";
    assert!(told.ends_with(why), "{told}");
}

#[test]
fn an_empty_list_of_items_claims_nothing() {
    let config = |containers: Value| deployment(json!({"template": {"spec": {"containers": containers}}}));
    let one = apply_as(None, &config(json!([{"name": "c"}])), "a", "t1", false).unwrap();
    let none = apply_as(Some(&one), &config(json!([])), "a", "t2", false).unwrap();
    assert_eq!(owners(&none), json!({}));
    assert_eq!(none.get("spec"), None);
    // What identifies the object stays when nobody owns anything beside it.
    assert_eq!(none["metadata"], json!({"name": "x", "namespace": "d"}));
    let mut labelled = deployment(json!({"paused": true}));
    labelled["metadata"]["labels"] = json!({"l": "v"});
    let mut live = apply_as(None, &labelled, "a", "t1", false).unwrap();
    live["metadata"]["resourceVersion"] = json!("7");
    let bare = apply_as(Some(&live), &deployment(json!({"paused": true})), "a", "t2", false).unwrap();
    assert_eq!(bare["metadata"]["resourceVersion"], "7");
    assert_eq!(bare["metadata"].get("labels"), None);
}

#[test]
fn times_alone_are_no_change() {
    let config = deployment(json!({"paused": false}));
    let mut live = apply_as(None, &config, "a", "t1", false).unwrap();
    live["spec"].as_object_mut().unwrap().remove("paused");
    let mut again = apply_as(Some(&live), &config, "a", "t2", false).unwrap();
    assert_eq!(owners(&again)["a/Apply"]["f:spec"], json!({"f:paused": {}}));
    again["spec"].as_object_mut().unwrap().remove("paused");
    assert_ne!(again, live);
    keep_times(&live, &mut again);
    assert_eq!(again, live);
    let mut other = again.clone();
    other["metadata"]["managedFields"][0]["time"] = json!("t3");
    other["spec"]["replicas"] = json!(2);
    let before = other.clone();
    keep_times(&live, &mut other);
    assert_eq!(other, before);
}

#[test]
fn malformed_configurations() {
    #[track_caller]
    fn check(config: Value, want: &str) {
        assert_eq!(apply_as(None, &config, "a", "t", false).unwrap_err().to_string(), want);
    }
    check(json!([]), "the applied configuration must be an object");
    check(json!({"metadata": {"managedFields": [{}]}}), "metadata.managedFields must be nil");
    let mut twice = deployment(json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}));
    twice["metadata"]["namespace"] = json!("d");
    check(
        twice,
        "failed to create typed patch object (d/x; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
    );
}

proptest! {
    #[test]
    fn nothing_panics_and_applying_twice_is_once((gvk, live, config) in fuzz::any_pair()) {
        let resource = crate::registry::Registry::builtin().kind(&gvk).unwrap();
        let schema = resource.schema().unwrap();
        let by = updater("a", "t1");
        let mut recorded = live.clone();
        update_managed_fields(None, &mut recorded, schema, &by);
        let mut updated = config.clone();
        update_managed_fields(Some(&recorded), &mut updated, schema, &updater("u", "t2"));
        let mut config = config;
        if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if let Ok(once) = server_side_apply(Some(&recorded), &config, schema, &by, true) {
            let twice = server_side_apply(Some(&once), &config, schema, &updater("a", "t9"), false).unwrap();
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn an_update_owns_exactly_what_it_changed((gvk, old, new) in fuzz::any_pair()) {
        let resource = crate::registry::Registry::builtin().kind(&gvk).unwrap();
        let schema = Some(resource.schema().unwrap());
        // Items with the same key cannot be told apart; only status can have them.
        if [&old, &new].iter().any(|o| typed::duplicate(o, schema, &mut Vec::new()).is_some()) {
            return Ok(());
        }
        prop_assert!(compare::compare(&old, &old, schema).is_empty());
        let there = compare::compare(&old, &new, schema);
        let back = compare::compare(&new, &old, schema);
        prop_assert_eq!(there.added, back.removed);
        prop_assert_eq!(there.removed, back.added);
        prop_assert_eq!(there.modified, back.modified);
    }
}
