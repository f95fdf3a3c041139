//! Patches of all four types.

mod apply;
mod read;

use api::field::{FieldErrors, GoValue, Path};
use api::patch::{json_patch, merge_patch, strategic_merge};
use api::schema::strict_decoding_error;
use api::status::Status;
use http::StatusCode;
use serde_json::Value;

use super::call::Call;
use super::decode::{self, Identity};
use super::write::answer;
use crate::audit;
use crate::options::{FieldValidation, WriteOptions, invalid};
use crate::server::respond::Answer;
use crate::write::meta;
use crate::write::update::Change;
use read::Given;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        return apply::apply(call, body, &options).await;
    }
    if options.force.is_some() {
        return Err(invalid(KIND, "force", |path, errors| {
            errors.forbidden(path, "may not be specified for non-apply patch");
        }));
    }
    let given = Given::read(kind, body, options.field_validation)?;
    audit::requested(&given.patch);
    let make = |live: &Value| patched(call, kind, live, &given, options.field_validation);
    let outcome =
        call.writer(&options, KIND).update(&Change { make: &make, managed: false, whole: false }).await?;
    answer(call, StatusCode::OK, outcome).await
}

fn patched(
    call: &Call,
    kind: Type,
    live: &Value,
    given: &Given,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let resource = &call.served.resource;
    let patch = &given.patch;
    let merged = || {
        Ok::<_, Status>(match (kind, resource.schema()) {
            (Type::Json, _) => json_patch(live, patch)?,
            (Type::Merge, _) => merge_patch(live, patch)?,
            (_, Some(schema)) => strategic_merge(live, patch, schema)?,
            (_, None) => return Err(Status::unsupported_media_type(ACCEPTED_OF_CUSTOM)),
        })
    };
    // Told with what came out of it, or with the patch where that speaks of types.
    let refused = |why: String| match (kind, merged()) {
        (Type::Strategic, _) => unfit(GoValue(patch).to_string(), why),
        (_, Ok(whole)) => unfit(whole.to_string(), why),
        (_, Err(status)) => status,
    };
    let mut new = merged()?;
    if kind == Type::Strategic && new.is_object() {
        // It is merged into an object of that type, whatever it says.
        new["apiVersion"] = live["apiVersion"].clone();
        new["kind"] = live["kind"].clone();
    }
    match decode::identity(call, &mut new) {
        Ok(()) => {}
        Err(Identity::Unfit(why)) => return Err(refused(why)),
        Err(Identity::Refused(status)) => return Err(*status),
    }
    let unknown = decode::fit(call, &mut new, &resource.gvk, resource.schema()).map_err(&refused)?;
    let faults = decode::together(given.faults.clone(), &unknown);
    match validation {
        FieldValidation::Strict if !faults.is_empty() => return Err(refused(strict_decoding_error(&faults))),
        FieldValidation::Warn => decode::warn(call, &faults),
        _ => {}
    }
    if meta::text(&new, "name").is_empty() {
        return Err(decode::nameless(&call.info.name));
    }
    same_object(call, live, &new)?;
    Ok(new)
}

/// A patch whose outcome is no object of the kind.
fn unfit(shown: String, why: String) -> Status {
    let mut errors = FieldErrors::new();
    errors.invalid(&Path::new("patch"), shown, why);
    Status::invalid("", "", "", &errors)
}

/// A patch has no preconditions: that it is of another object is a mistake in a field.
fn same_object(call: &Call, live: &Value, new: &Value) -> Result<(), Status> {
    let uid = meta::text(new, "uid");
    if uid.is_empty() || uid == meta::text(live, "uid") {
        return Ok(());
    }
    let mut errors = FieldErrors::new();
    errors.invalid(&Path::new("metadata").child("uid"), uid, "field is immutable");
    let gvk = &call.served.resource.gvk;
    Err(Status::invalid(&gvk.group, &gvk.kind, &call.info.name, &errors))
}
