//! Patches of all four types.

use api::patch::apply::{Updater, server_side_apply, undeclared, untyped};
use api::patch::{json_patch, merge_patch, strategic_merge};
use api::status::Status;
use http::StatusCode;
use serde_json::Value;

use super::call::Call;
use super::decode;
use super::write::answer;
use crate::audit;
use crate::options::{FieldValidation, WriteOptions, invalid};
use crate::server::respond::Answer;
use crate::strategy;
use crate::write::meta;
use crate::write::update::Change;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Json,
    Merge,
    Strategic,
    Apply,
}

const ACCEPTED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Strategies of merging are declared by built-in types only.
const ACCEPTED_OF_CUSTOM: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

impl Type {
    fn of(content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media_type(ACCEPTED)),
        }
    }
}

const KIND: &str = "PatchOptions";

pub async fn patch(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let kind = Type::of(call.content_type())?;
    if kind == Type::Strategic && call.served.custom.is_some() {
        return Err(Status::unsupported_media_type(ACCEPTED_OF_CUSTOM));
    }
    let options = WriteOptions::parse(&call.query, KIND)?;
    if kind == Type::Apply {
        return apply(call, body, &options).await;
    }
    if options.force.is_some() {
        return Err(invalid(KIND, "force", |path, errors| {
            errors.forbidden(path, "may not be specified for non-apply patch");
        }));
    }
    let patch: Value = serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    audit::requested(&patch);
    let make = |live: &Value| patched(call, kind, live, &patch, options.field_validation);
    let outcome =
        call.writer(&options, KIND).update(&Change { make: &make, managed: false, whole: false }).await?;
    answer(call, StatusCode::OK, outcome).await
}

fn patched(
    call: &Call,
    kind: Type,
    live: &Value,
    patch: &Value,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let resource = &call.served.resource;
    let mut new = match (kind, resource.schema()) {
        (Type::Json, _) => json_patch(live, patch)?,
        (Type::Merge, _) => merge_patch(live, patch)?,
        (_, Some(schema)) => strategic_merge(live, patch, schema)?,
        (_, None) => {
            return Err(Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
            ]));
        }
    };
    for field in ["apiVersion", "kind"] {
        if new[field] != live[field] {
            return Err(Status::bad_request(format!(
                "the {field} of the object cannot be changed from {} to {}",
                live[field], new[field]
            )));
        }
    }
    decode::check(call, &mut new, &resource.gvk, resource.schema(), validation, Vec::new())?;
    Ok(new)
}

async fn apply(call: &Call, body: &[u8], options: &WriteOptions) -> Result<Answer, Status> {
    let resource = &call.served.resource;
    let Some(manager) = options.field_manager.as_deref() else {
        return Err(invalid(KIND, "fieldManager", |path, errors| {
            errors.required(path, "is required for apply patch")
        }));
    };
    let decoded = decode::decoded("application/yaml", body, &resource.gvk.kind)?;
    let duplicates: Vec<String> = decoded.duplicate_field_messages().collect();
    let mut applied = decoded.value;
    if applied["metadata"]["managedFields"].as_array().is_some_and(|fields| !fields.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let said = |field: &str| applied[field].as_str().unwrap_or_default().to_owned();
    let (said_version, said_kind) = (said("apiVersion"), said("kind"));
    if said_kind != resource.gvk.kind || said_version != call.served.api_version {
        let slash = if said_version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!(
            "invalid object type: {slash}{said_version}, Kind={said_kind}"
        )));
    }
    let named = meta::text(&applied, "name").to_owned();
    if !named.is_empty() && named != call.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    meta::of(&mut applied).insert("name".to_owned(), call.info.name.clone().into());
    if resource.namespaced {
        let given = meta::text(&applied, "namespace").to_owned();
        if !given.is_empty() && given != call.info.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        meta::of(&mut applied).insert("namespace".to_owned(), call.info.namespace.clone().into());
    }
    let schema = resource.schema().ok_or_else(|| Status::unsupported_media_type(&ACCEPTED[..2]))?;
    let undeclared = undeclared(&applied, schema);
    if !undeclared.is_empty() {
        return Err(untyped(&applied, &undeclared).into());
    }
    decode::check(
        call,
        &mut applied,
        &resource.gvk,
        resource.schema(),
        options.field_validation,
        Vec::new(),
    )?;
    twice(call, options.field_validation, &duplicates)?;
    audit::requested(&applied);
    let make = |live: Option<&Value>| {
        let time = meta::now();
        let updater = Updater {
            manager,
            api_version: &call.served.api_version,
            subresource: &call.info.subresource,
            time: &time,
            ignored: strategy::ignored(&call.served, &call.info.subresource),
        };
        server_side_apply(live, &applied, schema, &updater, options.force.unwrap_or(false))
            .map_err(Status::from)
    };
    let writer = call.writer(options, KIND);
    if call.served.cache.get(&call.key()).is_none() && call.info.subresource.is_empty() {
        let uid = meta::text(&applied, "uid");
        if !uid.is_empty() {
            return Err(Status::conflict(
                call.group_resource(),
                &call.info.name,
                format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                ),
            ));
        }
        call.require_create().await?;
        match writer.create(make(None)?, true).await {
            Err(status) if status.is("AlreadyExists") => {}
            outcome => return answer(call, StatusCode::CREATED, outcome?).await,
        }
    }
    let change = |live: &Value| make(Some(live));
    let outcome = writer.update(&Change { make: &change, managed: true, whole: false }).await?;
    answer(call, StatusCode::OK, outcome).await
}

/// Keys that a configuration has more than once, as severely as the client asks for.
fn twice(call: &Call, validation: FieldValidation, duplicates: &[String]) -> Result<(), Status> {
    match validation {
        FieldValidation::Strict if !duplicates.is_empty() => Err(Status::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: {}",
            duplicates.join(", ")
        ))),
        FieldValidation::Warn => {
            decode::warn(call, duplicates);
            Ok(())
        }
        _ => Ok(()),
    }
}
