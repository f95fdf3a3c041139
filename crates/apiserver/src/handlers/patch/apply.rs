//! Server-side apply: what a configuration says becomes the applier's.

use api::patch::apply::{Updater, server_side_apply, undeclared, untyped};
use api::status::Status;
use http::StatusCode;
use serde_json::Value;

use super::{ACCEPTED, KIND, same_object};
use crate::audit;
use crate::handlers::call::Call;
use crate::handlers::decode;
use crate::handlers::write::answer;
use crate::options::{FieldValidation, WriteOptions, invalid};
use crate::server::respond::Answer;
use crate::strategy;
use crate::write::meta;
use crate::write::update::Change;

pub(super) async fn apply(call: &Call, body: &[u8], options: &WriteOptions) -> Result<Answer, Status> {
    let resource = &call.served.resource;
    let Some(manager) = options.field_manager.as_deref() else {
        return Err(invalid(KIND, "fieldManager", |path, errors| {
            errors.required(path, "is required for apply patch")
        }));
    };
    let (mut applied, duplicates) = read(body)?;
    if applied["metadata"]["managedFields"].is_array() {
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
    let schema = resource.schema().ok_or_else(|| Status::unsupported_media_type(&ACCEPTED[..2]))?;
    let undeclared = undeclared(&applied, schema);
    if !undeclared.is_empty() {
        return Err(untyped(&applied, &undeclared).into());
    }
    let unnamed = applied
        .get("metadata")
        .is_some_and(|metadata| metadata.is_null() || metadata.get("name").is_some_and(Value::is_null));
    if unnamed {
        return Err(decode::nameless(&call.info.name));
    }
    // The server's own: what it says does not matter.
    meta::of(&mut applied).remove("creationTimestamp");
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
    let mut checked = applied.clone();
    decode::check(
        call,
        &mut checked,
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
        let mut new = server_side_apply(live, &applied, schema, &updater, options.force.unwrap_or(false))?;
        decode::shape(call, &mut new, schema);
        if let Some(live) = live {
            same_object(call, live, &new)?;
        }
        Ok(new)
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

/// The configuration, and what is said of keys that it has more than once.
fn read(body: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let bad = |why: String| Status::bad_request(format!("error decoding YAML: {why}"));
    let decoded = api::codec::decode("application/yaml", body).map_err(|error| bad(error.to_string()))?;
    let duplicates = decoded.duplicate_field_messages().collect();
    match decoded.value {
        Value::Null => Ok((Value::Object(Default::default()), duplicates)),
        value @ Value::Object(_) => Ok((value, duplicates)),
        other => {
            Err(bad(format!("error unmarshaling JSON: while decoding JSON: {}", super::read::no_map(&other))))
        }
    }
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
