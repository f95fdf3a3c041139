//! Custom resources: served as soon as they are defined, in every way that built-in ones are.

use serde_json::{Value, json};

use crate::fixture::*;
use crate::hook::{Decision, Webhook};
use crate::watches::Watch;

pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const CRONTABS: &str = "/apis/example.com/v1/namespaces/default/crontabs";

pub fn crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "x-kubernetes-validations": [
                                {"rule": "!has(self.color) || self.color != 'pink' || self.replicas < 5", "message": "few are pink"},
                            ],
                            "properties": {
                                "cron": {"type": "string", "pattern": r"^\S+$"},
                                "replicas": {"type": "integer", "default": 1, "maximum": 10},
                                "color": {"type": "string"},
                                "ports": {
                                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                                    "items": {"type": "object", "required": ["port"], "properties": {
                                        "port": {"type": "integer"}, "name": {"type": "string"},
                                    }},
                                },
                            },
                        },
                        "status": {"type": "object", "properties": {
                            "replicas": {"type": "integer"}, "selector": {"type": "string"},
                        }},
                    },
                }},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                }},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"}],
            }],
        },
    })
}

pub fn crontab(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": {"cron": "x"}})
}

/// Waits for the definition to say something about itself: by watching it, as clients do.
pub async fn condition(server: &Server, name: &str, kind: &str, status: &str) -> Value {
    let path = format!("{CRDS}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=20");
    let mut lines = Watch::open(server, &path).await;
    loop {
        let event = lines.next().await.unwrap_or_else(|| panic!("{name} never became {kind}={status}"));
        let object = &event["object"];
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status) {
            return object.clone();
        }
    }
}

pub async fn define(server: &Server, crd: &Value) -> Value {
    server.post(CRDS, crd).await.ok();
    condition(server, crd["metadata"]["name"].as_str().unwrap(), "Established", "True").await
}

async fn with_crontabs() -> Server {
    let server = Server::start().await;
    define(&server, &crd()).await;
    server
}

#[tokio::test]
async fn a_defined_resource_is_discovered_and_described() {
    let server = Server::start().await;
    let etag = server.get("/openapi/v2").await.headers["etag"].clone();
    let defined = define(&server, &crd()).await;
    assert_eq!(defined["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(defined["status"]["acceptedNames"]["singular"], "crontab");
    let list = server.get("/apis/example.com/v1").await.ok();
    let names: Vec<_> =
        list["resources"].as_array().unwrap().iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(json!(names), json!(["crontabs", "crontabs/status", "crontabs/scale"]));
    assert_eq!(list["resources"][0]["shortNames"], json!(["ct"]));
    let aggregated = server
        .get_as("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        .await
        .ok();
    assert!(
        aggregated["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|group| group["metadata"]["name"] == "example.com")
    );
    let index = server.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let v3 = server.get(&url).await.ok();
    let schema = &v3["components"]["schemas"]["com.example.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["properties"]["replicas"]["maximum"], 10);
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    let v2 = server.get("/openapi/v2").await;
    assert_ne!(v2.headers["etag"], etag);
    assert!(v2.ok()["definitions"]["com.example.v1.CronTab"].is_object());
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_judged() {
    let server = with_crontabs().await;
    let mut object = crontab("a");
    object["spec"]["odd"] = json!(1);
    object["status"] = json!({"replicas": 7});
    let created = server.post(CRONTABS, &object).await;
    assert_eq!(created.warnings(), ["299 - \"unknown field \\\"spec.odd\\\"\""]);
    let created = created.ok();
    assert_eq!(created["spec"], json!({"cron": "x", "replicas": 1}));
    assert_eq!((&created["metadata"]["generation"], created.get("status")), (&json!(1), None));
    let (code, _, message) =
        server.post(&format!("{CRONTABS}?fieldValidation=Strict"), &object).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (
            400,
            "CronTab in version \"v1\" cannot be handled as a CronTab: strict decoding error: unknown field \"spec.odd\""
        )
    );
    let refused = |spec: Value| {
        let mut object = crontab("b");
        object["spec"] = spec;
        object
    };
    let (code, reason, message) = server.post(CRONTABS, &refused(json!({"replicas": 11}))).await.failure();
    assert_eq!(
        (code, reason.as_str(), message.as_str()),
        (
            422,
            "Invalid",
            "CronTab.example.com \"b\" is invalid: spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"
        )
    );
    let (_, _, message) =
        server.post(CRONTABS, &refused(json!({"color": "pink", "replicas": 7}))).await.failure();
    assert_eq!(message, "CronTab.example.com \"b\" is invalid: spec: Invalid value: few are pink");
    let mut odd = crontab("c");
    odd["metadata"]["labels"] = json!({"a": 1});
    assert_eq!(server.post(CRONTABS, &odd).await.failure().0, 400);
    assert_eq!(server.post(CRDS, &json!({"spec": {}})).await.failure().0, 422);
}

#[tokio::test]
async fn objects_are_listed_watched_and_printed() {
    let server = with_crontabs().await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        let mut object = crontab(name);
        object["spec"]["color"] = json!(color);
        server.post(CRONTABS, &object).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let list = server.get(&format!("{CRONTABS}?fieldSelector=spec.color%3Dred")).await.ok();
    assert_eq!(
        (list["kind"].as_str(), names(&list)),
        (Some("CronTabList"), vec!["a".to_owned(), "c".to_owned()])
    );
    assert_eq!(server.get(&format!("{CRONTABS}?fieldSelector=spec.cron%3Dx")).await.failure().0, 400);
    let page = server.get("/apis/example.com/v1/crontabs?limit=2").await.ok();
    assert_eq!((names(&page).len(), &page["metadata"]["remainingItemCount"]), (2, &json!(1)));
    let table = server.get_as(CRONTABS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "x"]));
    let partial = server
        .get_as(CRONTABS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
        .await
        .ok();
    assert_eq!(partial["items"].as_array().unwrap().len(), 3);
    assert_eq!(server.get_as(CRONTABS, "application/vnd.kubernetes.protobuf").await.code, 406);

    let path = format!(
        "{CRONTABS}?watch=true&resourceVersion={}",
        list["metadata"]["resourceVersion"].as_str().unwrap()
    );
    let mut lines = Watch::open(&server, &path).await;
    server.delete(&format!("{CRONTABS}/b"), "").await.ok();
    let event = lines.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("b")));
    server.delete(&format!("{CRONTABS}?labelSelector=x"), "").await.ok();
    assert_eq!(server.delete(CRONTABS, "").await.ok()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn objects_are_patched_applied_and_scaled() {
    let server = with_crontabs().await;
    let path = format!("{CRONTABS}/a");
    let mut applied = crontab("a");
    applied["spec"]["ports"] = json!([{"port": 1, "name": "one"}]);
    let created = server.patch(&format!("{path}?fieldManager=m1"), "apply-patch+yaml", &applied).await;
    assert_eq!(created.code, 201);
    applied["spec"] = json!({"ports": [{"port": 2, "name": "two"}]});
    let merged = server.patch(&format!("{path}?fieldManager=m2"), "apply-patch+yaml", &applied).await.ok();
    assert_eq!(merged["spec"]["ports"].as_array().unwrap().len(), 2);
    applied["spec"] = json!({"ports": [{"port": 1, "name": "mine"}]});
    assert_eq!(
        server.patch(&format!("{path}?fieldManager=m2"), "apply-patch+yaml", &applied).await.failure().1,
        "Conflict"
    );
    let patched = server.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!((&patched["spec"]["replicas"], &patched["metadata"]["generation"]), (&json!(3), &json!(3)));
    let strategic =
        server.patch(&path, "strategic-merge-patch+json", &json!({"spec": {"replicas": 3}})).await;
    assert_eq!(strategic.failure().0, 415);

    let status = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 9}, "status": {"replicas": 2, "selector": "a=b"}});
    let updated = server.patch(&format!("{path}/status"), "merge-patch+json", &status).await.ok();
    assert_eq!((&updated["spec"]["replicas"], &updated["status"]["replicas"]), (&json!(3), &json!(2)));
    assert_eq!((updated["metadata"].get("labels"), &updated["metadata"]["generation"]), (None, &json!(3)));
    let scale = server.get(&format!("{path}/scale")).await.ok();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 3}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    server.patch(&format!("{path}/scale"), "merge-patch+json", &json!({"spec": {"replicas": 5}})).await.ok();
    assert_eq!(server.get(&path).await.ok()["spec"]["replicas"], 5);
}

#[tokio::test]
async fn applied_nulls_are_judged_and_owned() {
    let server = with_crontabs().await;
    let path = format!("{CRONTABS}/a");
    let mut applied = crontab("a");
    let apply = async |applied: &Value| {
        server.patch(&format!("{path}?fieldManager=m"), "apply-patch+yaml", applied).await
    };
    // As everywhere else, a default takes the place of a null; its field belongs to who said so.
    applied["spec"]["replicas"] = Value::Null;
    let created = apply(&applied).await.json();
    assert_eq!(created["spec"], json!({"cron": "x", "replicas": 1}));
    let fields = json!({"f:spec": {"f:cron": {}, "f:replicas": {}}});
    assert_eq!(created["metadata"]["managedFields"][0]["fieldsV1"], fields);
    let again = apply(&applied).await.ok();
    assert_eq!(again, created);
    applied["spec"]["color"] = Value::Null;
    let (code, _, message) = apply(&applied).await.failure();
    let why = "spec.color: Invalid value: \"null\": spec.color in body must be of type string: \"null\"";
    assert_eq!((code, message.contains(why)), (422, true), "{message}");
    // Other writes drop it.
    let null = json!([{"op": "add", "path": "/spec/color", "value": null}]);
    assert_eq!(server.patch(&path, "json-patch+json", &null).await.ok()["spec"], created["spec"]);
}

#[tokio::test]
async fn what_was_stored_under_another_schema_is_shown_by_the_present_one() {
    let server = with_crontabs().await;
    server.post(CRONTABS, &crontab("a")).await.ok();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let patch = json!([
        {"op": "add", "path": format!("{schema}/image"), "value": {"type": "string", "default": "nginx"}},
        {"op": "remove", "path": format!("{schema}/replicas")},
        {"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations"},
    ]);
    let path = format!("{CRONTABS}?watch=true");
    let mut lines = Watch::open(&server, &path).await;
    lines.next().await.unwrap();
    server.patch(&format!("{CRDS}/crontabs.example.com"), "json-patch+json", &patch).await.ok();
    // Who watched is to look again.
    assert_eq!(lines.next().await, None);
    let object = server.get(&format!("{CRONTABS}/a")).await.ok();
    assert_eq!(object["spec"], json!({"cron": "x", "image": "nginx"}));
}

#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let server = with_crontabs().await;
    let mut held = crontab("held");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    server.post(CRONTABS, &held).await.ok();
    server.post(CRONTABS, &crontab("a")).await.ok();
    let path = format!("{CRONTABS}?watch=true");
    let mut lines = Watch::open(&server, &path).await;
    for _ in 0..2 {
        lines.next().await.unwrap();
    }
    let marked = server.delete(&format!("{CRDS}/crontabs.example.com"), "").await.ok();
    assert_eq!(marked["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    // One goes, the other waits for its finalizer.
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let event = lines.next().await.expect("an event");
        gone.push((event["type"].clone(), event["object"]["metadata"]["name"].clone()));
    }
    gone.sort_by_key(|(kind, _)| kind.to_string());
    assert_eq!(gone, [(json!("DELETED"), json!("a")), (json!("MODIFIED"), json!("held"))]);
    let (code, _, message) = server.post(CRONTABS, &crontab("b")).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "crontabs.example.com is forbidden: create not allowed while custom resource definition is terminating"
        )
    );
    let release = json!({"metadata": {"finalizers": null}});
    server.patch(&format!("{CRONTABS}/held"), "merge-patch+json", &release).await.ok();
    let crds = format!("{CRDS}?watch=true&timeoutSeconds=20");
    let mut definitions = Watch::open(&server, &crds).await;
    while let Some(event) = definitions.next().await {
        if event["type"] == "DELETED" {
            break;
        }
        let left = server.get(&format!("{CRDS}/crontabs.example.com")).await;
        if left.code == 404 {
            break;
        }
    }
    assert_eq!(server.get(&format!("{CRDS}/crontabs.example.com")).await.code, 404);
}

#[tokio::test]
async fn names_belong_to_the_first() {
    let server = with_crontabs().await;
    let mut other = crd();
    other["metadata"]["name"] = json!("others.example.com");
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["ct"]});
    server.post(CRDS, &other).await.ok();
    let refused = condition(&server, "others.example.com", "NamesAccepted", "False").await;
    let conditions = refused["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|condition| condition["reason"] == "ShortNamesConflict"));
    assert_eq!(server.get("/apis/example.com/v1/others").await.code, 404);
    server.delete(&format!("{CRDS}/crontabs.example.com"), "").await.ok();
    condition(&server, "others.example.com", "Established", "True").await;
    server.get("/apis/example.com/v1/others").await.ok();
}

#[tokio::test]
async fn versions_without_a_webhook_differ_in_their_schemas() {
    let server = Server::start().await;
    let mut crd = crd();
    let mut second = crd["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["extra"] =
        json!({"type": "string", "default": "e"});
    crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    define(&server, &crd).await;
    server.post(CRONTABS, &crontab("a")).await.ok();
    let second = "/apis/example.com/v2/namespaces/default/crontabs";
    let mut object = server.get(&format!("{second}/a")).await.ok();
    assert_eq!((&object["apiVersion"], &object["spec"]["extra"]), (&json!("example.com/v2"), &json!("e")));
    object["spec"]["extra"] = json!("kept");
    server.put(&format!("{second}/a"), &object).await.ok();
    assert_eq!(server.get(&format!("{CRONTABS}/a")).await.ok()["spec"].get("extra"), None);
    assert_eq!(server.get(second).await.ok()["items"][0]["spec"]["extra"], "kept");
    let group = server.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v2");
}

#[tokio::test]
async fn versions_are_converted_by_a_webhook() {
    let hook = Webhook::start(|request| {
        let to = request["desiredAPIVersion"].clone();
        let converted: Vec<Value> = request["objects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| {
                let mut object = object.clone();
                let spec = object["spec"].as_object_mut().unwrap();
                let (from, into) =
                    if to == "example.com/v2" { ("cron", "schedule") } else { ("schedule", "cron") };
                if let Some(value) = spec.remove(from) {
                    spec.insert(into.to_owned(), value);
                }
                object["apiVersion"] = to.clone();
                object
            })
            .collect();
        Decision::Answer(json!({"result": {"status": "Success"}, "convertedObjects": converted}))
    })
    .await;
    let server = Server::start().await;
    let mut crd = crd();
    let mut second = crd["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "object", "properties": {"schedule": {"type": "string"}, "replicas": {"type": "integer"}, "color": {"type": "string"}}});
    crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": hook.client_config(),
    }});
    define(&server, &crd).await;
    const SECOND: &str = "/apis/example.com/v2/namespaces/default/crontabs";
    server.post(CRONTABS, &crontab("a")).await.ok();
    let object = server.get(&format!("{SECOND}/a")).await.ok();
    assert_eq!(object["spec"], json!({"schedule": "x", "replicas": 1}));
    let mut watch = Watch::open(&server, &format!("{SECOND}?watch=true")).await;
    assert_eq!(watch.next().await.unwrap()["object"]["spec"]["schedule"], "x");
    let patched = server
        .patch(&format!("{SECOND}/a"), "merge-patch+json", &json!({"spec": {"schedule": "y"}}))
        .await
        .ok();
    assert_eq!(
        (&patched["apiVersion"], &patched["spec"]["schedule"]),
        (&json!("example.com/v2"), &json!("y"))
    );
    assert_eq!(server.get(&format!("{CRONTABS}/a")).await.ok()["spec"]["cron"], "y");
    assert_eq!(watch.next().await.unwrap()["object"]["spec"]["schedule"], "y");
    assert_eq!(server.get(SECOND).await.ok()["items"][0]["apiVersion"], "example.com/v2");
}

/// Of the size that operators ship: templates of pods, written out with their descriptions.
fn huge() -> Value {
    fn nested(depth: usize) -> Value {
        if depth == 0 {
            return json!({"type": "string", "description": "what it means ".repeat(8)});
        }
        let fields = (0..7).map(|field| {
            let schema = match field % 3 {
                0 => nested(depth - 1),
                1 => json!({"type": "array", "x-kubernetes-list-type": "atomic", "items": nested(depth - 1)}),
                _ => json!({"type": "integer", "minimum": 0, "default": 1, "description": "a number ".repeat(9)}),
            };
            (format!("field{field}"), schema)
        });
        json!({"type": "object", "properties": fields.collect::<serde_json::Map<_, _>>(), "description": "d".repeat(200)})
    }
    let versions = ["v1", "v1beta1", "v1alpha1"].map(|name| {
        json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": nested(if name == "v1" { 5 } else { 3 })},
        }}})
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "giants.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "giants", "kind": "Giant"},
            "versions": versions},
    })
}

#[tokio::test]
async fn definitions_of_half_a_megabyte_are_like_others() {
    let server = Server::start().await;
    let mut crd = huge();
    let length = crd.to_string().len();
    assert!(length > 500_000, "{length}");
    let path = format!("{CRDS}/giants.example.com");
    server.patch(&format!("{path}?fieldManager=test"), "apply-patch+yaml", &crd).await.ok();
    condition(&server, "giants.example.com", "Established", "True").await;
    let giants = "/apis/example.com/v1beta1/namespaces/default/giants";
    let giant = json!({"apiVersion": "example.com/v1beta1", "kind": "Giant", "metadata": {"name": "g"},
        "spec": {"field0": {"field2": 3}}});
    let made = server.post(giants, &giant).await.ok();
    assert_eq!(made["spec"], json!({"field0": {"field2": 3, "field5": 1}, "field2": 1, "field5": 1}));
    let stored = server.get(&format!("{}/g", giants.replace("v1beta1", "v1"))).await.ok();
    assert_eq!((&stored["apiVersion"], &stored["spec"]), (&json!("example.com/v1"), &made["spec"]));
    // What `kubectl apply` on the client's side runs into.
    crd["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": crd.to_string()});
    let (code, _, message) = server.patch(&path, "merge-patch+json", &crd).await.failure();
    assert_eq!(code, 422);
    assert!(
        message.contains("metadata.annotations: Too long: may not be more than 262144 bytes"),
        "{message}"
    );
}
