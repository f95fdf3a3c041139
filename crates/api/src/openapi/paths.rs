//! The paths of a resource with their operations.
//!
//! kubectl looks at them to learn which kinds take which query parameters (`fieldValidation` on a patch tells it that
//! the server validates) and which kind a path serves.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, name_of};
use super::{Dialect, root};
use crate::gvk::GroupVersionKind;
use crate::registry::{Resource, Subresource};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A query parameter: name, type, description.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', then the output is pretty printed.");
const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. An invalid or unrecognized dryRun directive will result in an error response and no further processing of the request. Valid values are: - All: all dry run stages will be processed",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "fieldManager is a name associated with the actor or entity that is making these changes. The value must be less than or 128 characters long, and only contain printable characters.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "fieldValidation instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate fields. Valid values are: Ignore, Warn and Strict.",
);
const FORCE: Parameter = (
    "force",
    "boolean",
    "Force is going to \"force\" Apply requests. It means user will re-acquire conflicting fields owned by other people. Force flag must be unset for non-apply patch requests.",
);
const WRITE: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const APPLY: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const READ: &[Parameter] = &[PRETTY];
const LIST: &[Parameter] = &[
    PRETTY,
    ("allowWatchBookmarks", "boolean", "allowWatchBookmarks requests watch events with type \"BOOKMARK\"."),
    ("continue", "string", "The continue option should be set when retrieving more results from the server."),
    (
        "fieldSelector",
        "string",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
    ),
    (
        "labelSelector",
        "string",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
    ("limit", "integer", "limit is a maximum number of responses to return for a list call."),
    (
        "resourceVersion",
        "string",
        "resourceVersion sets a constraint on what resource versions a request may be served from.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "resourceVersionMatch determines how resourceVersion is applied to list calls.",
    ),
    ("sendInitialEvents", "boolean", "`sendInitialEvents=true` may be set together with `watch=true`."),
    ("timeoutSeconds", "integer", "Timeout for the list/watch call."),
    (
        "watch",
        "boolean",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications.",
    ),
];
const DELETE: &[Parameter] = &[
    PRETTY,
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: please use the PropagationPolicy, this field will be deprecated in 1.7.",
    ),
    (
        "propagationPolicy",
        "string",
        "Whether and how garbage collection will be performed: 'Orphan', 'Background' or 'Foreground'.",
    ),
];

/// One operation before it is put into words.
struct Operation<'a> {
    method: &'static str,
    action: &'static str,
    /// What a `Deployment`, a `collection of Deployment` ... is called in the summary and the operation's name.
    target: String,
    gvk: &'a GroupVersionKind,
    parameters: &'static [Parameter],
    body: Option<String>,
    response: String,
}

/// The paths of a resource and its subresources.
pub(super) fn of(
    resource: &Resource,
    dialect: Dialect,
    definitions: &mut Definitions<'_>,
) -> Vec<(String, Value)> {
    let root = root(&resource.gvk.group, &resource.gvk.version);
    let kind = name_of(&resource.gvk);
    let list = format!("{kind}List");
    let scope = if resource.namespaced { "Namespaced" } else { "" };
    let named = format!("{scope}{}", resource.gvk.kind);
    let base = if resource.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let gvk = &resource.gvk;
    let op = |method, action, target: &str, parameters, body: Option<&str>, response: &str| Operation {
        method,
        action,
        target: target.to_owned(),
        gvk,
        parameters,
        body: body.map(str::to_owned),
        response: response.to_owned(),
    };

    let collection = format!("{base}/{}", resource.plural);
    let item = format!("{collection}/{{name}}");
    let mut on_collection = Vec::new();
    let mut on_item = Vec::new();
    for verb in &resource.verbs {
        match verb.as_str() {
            "list" => on_collection.push(op("get", "list", &named, LIST, None, &list)),
            "create" => on_collection.push(op("post", "post", &named, WRITE, Some(&kind), &kind)),
            "deletecollection" => {
                let target = format!("Collection{named}");
                on_collection.push(op(
                    "delete",
                    "deletecollection",
                    &target,
                    DELETE,
                    Some(DELETE_OPTIONS),
                    STATUS,
                ));
            }
            "get" => on_item.push(op("get", "get", &named, READ, None, &kind)),
            "update" => on_item.push(op("put", "put", &named, WRITE, Some(&kind), &kind)),
            "patch" => on_item.push(op("patch", "patch", &named, APPLY, Some(PATCH), &kind)),
            "delete" => on_item.push(op("delete", "delete", &named, DELETE, Some(DELETE_OPTIONS), STATUS)),
            _ => {}
        }
    }
    let mut paths = Vec::new();
    let mut add = |path: String, operations: Vec<Operation<'_>>| {
        if !operations.is_empty() {
            let item = path_item(&path, operations, gvk, dialect, definitions);
            paths.push((path, item));
        }
    };
    add(collection, on_collection);
    add(item.clone(), on_item);
    if resource.namespaced && resource.supports("list") {
        let target = format!("{}ForAllNamespaces", gvk.kind);
        add(format!("{root}/{}", resource.plural), vec![op("get", "list", &target, LIST, None, &list)]);
    }
    for sub in &resource.subresources {
        add(format!("{item}/{}", sub.name), below(&named, sub));
    }
    paths
}

/// The operations of a subresource.
fn below<'a>(named: &str, sub: &'a Subresource) -> Vec<Operation<'a>> {
    let kind = name_of(&sub.gvk);
    // Logs, exec and the like have no objects as bodies.
    let known = crate::schema::builtin::named(&kind).is_some() && sub.name != "log";
    let body = known.then(|| kind.clone());
    let response = if known { kind } else { String::new() };
    let operation = |verb: &String| {
        let (method, action, parameters, body) = match (verb.as_str(), known) {
            ("get", true) => ("get", "get", READ, None),
            ("get", false) => ("get", "connect", READ, None),
            ("create", true) => ("post", "post", WRITE, body.clone()),
            ("create", false) => ("post", "connect", READ, None),
            ("update", true) => ("put", "put", WRITE, body.clone()),
            ("update", false) => ("put", "connect", READ, None),
            ("patch", true) => ("patch", "patch", APPLY, Some(PATCH.to_owned())),
            ("patch", false) => ("patch", "connect", READ, None),
            ("delete", _) => ("delete", "connect", READ, None),
            _ => return None,
        };
        let target = format!("{named}{}", capitalized(&sub.name));
        Some(Operation {
            method,
            action,
            target,
            gvk: &sub.gvk,
            parameters,
            body,
            response: response.clone(),
        })
    };
    sub.verbs.iter().filter_map(operation).collect()
}

fn path_item(
    path: &str,
    operations: Vec<Operation<'_>>,
    parent: &GroupVersionKind,
    dialect: Dialect,
    definitions: &mut Definitions<'_>,
) -> Value {
    let mut item = Map::new();
    let mut parameters = Vec::new();
    for (placeholder, description) in [
        ("name", "name of the resource"),
        ("namespace", "object name and auth scope, such as for teams and projects"),
    ] {
        if path.contains(&format!("{{{placeholder}}}")) {
            parameters.push(parameter(placeholder, "path", "string", description, dialect));
        }
    }
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    for operation in operations {
        item.insert(operation.method.to_owned(), describe(&operation, parent, dialect, definitions));
    }
    item.into()
}

fn parameter(name: &str, place: &str, kind: &str, description: &str, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": description, "uniqueItems": true});
    match dialect {
        Dialect::V2 => parameter["type"] = kind.into(),
        Dialect::V3 => {
            parameter["schema"] = json!({"type": kind, "uniqueItems": true});
            if let Some(parameter) = parameter.as_object_mut() {
                parameter.remove("uniqueItems");
            }
        }
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn describe(
    operation: &Operation<'_>,
    parent: &GroupVersionKind,
    dialect: Dialect,
    definitions: &mut Definitions<'_>,
) -> Value {
    let group = parent.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    let verb = match operation.action {
        "get" => "read",
        "post" => "create",
        "put" => "replace",
        "deletecollection" => "delete",
        other => other,
    };
    let mut parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|(name, kind, description)| parameter(name, "query", kind, description, dialect))
        .collect();
    let mut json = json!({
        "description": format!("{verb} the specified {}", operation.gvk.kind),
        "operationId": format!("{verb}{}{}{}", capitalized(group), capitalized(&parent.version), operation.target),
        "tags": [format!("{group}_{}", parent.version)],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind":
            {"group": operation.gvk.group, "version": operation.gvk.version, "kind": operation.gvk.kind},
    });
    let response = match operation.response.as_str() {
        "" => None,
        name => Some(definitions.reference(name)),
    };
    let body = operation
        .body
        .as_deref()
        .map(|name| (definitions.reference(name), name == PATCH, name == DELETE_OPTIONS));
    match dialect {
        Dialect::V2 => {
            if let Some((reference, is_patch, optional)) = body {
                parameters
                    .push(json!({"name": "body", "in": "body", "required": !optional, "schema": reference}));
                json["consumes"] = if is_patch { PATCH_TYPES.into() } else { json!(["*/*"]) };
            }
            json["produces"] = json!(["application/json", "application/yaml"]);
            json["schemes"] = json!(["https"]);
            json["responses"] = json!({"200": {"description": "OK"}, "401": {"description": "Unauthorized"}});
            if let Some(reference) = response {
                json["responses"]["200"]["schema"] = reference;
            }
        }
        Dialect::V3 => {
            if let Some((reference, is_patch, optional)) = body {
                let types = if is_patch { PATCH_TYPES } else { &["*/*"] };
                json["requestBody"] = json!({"content": content(types, &reference)});
                if !optional {
                    json["requestBody"]["required"] = true.into();
                }
            }
            json["responses"] = json!({"200": {"description": "OK"}, "401": {"description": "Unauthorized"}});
            if let Some(reference) = response {
                json["responses"]["200"]["content"] =
                    content(&["application/json", "application/yaml"], &reference);
            }
        }
    }
    json["parameters"] = parameters.into();
    json
}

fn content(types: &[&str], schema: &Value) -> Value {
    types.iter().map(|media_type| ((*media_type).to_owned(), json!({"schema": schema}))).collect()
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
