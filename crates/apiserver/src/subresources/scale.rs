//! `scale`: the number of replicas of a workload, in the same shape for every kind.

use api::gvk::GroupVersionKind;
use api::patch::{json_patch, merge_patch, strategic_merge};
use api::selector::LabelSelector;
use api::status::Status;
use http::StatusCode;
use serde_json::{Value, json};

use crate::handlers::call::Call;
use crate::handlers::{decode, render};
use crate::options::{FieldValidation, WriteOptions};
use crate::server::respond::{self, Answer};
use crate::write::meta;
use crate::write::update::Change;

pub async fn serve(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    if call.info.verb == "get" {
        let object = call.served.cache.get(&call.key()).ok_or_else(|| call.not_found())?;
        return answer(call, &render::served_value(call, &object));
    }
    let subresource = call.served.resource.subresource("scale").ok_or_else(Status::unknown_resource)?;
    let schema = subresource.schema();
    let kind = if call.info.verb == "patch" { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::parse(&call.query, kind)?;
    let wish = Wish::read(call, body, &subresource.gvk, schema.as_deref(), options.field_validation)?;
    let make = |live: &Value| {
        let wanted = wish.of(&scale_of(live), schema.as_deref())?;
        scaled(call, live, &wanted)
    };
    let outcome = call.writer(&options, kind).update(&Change { make: &make, managed: false }).await?;
    answer(call, &outcome.into_value(&call.served))
}

fn answer(call: &Call, object: &Value) -> Result<Answer, Status> {
    respond::value(StatusCode::OK, &scale_of(object), call.accept.format, call.query.pretty())
}

/// What the client sends: a Scale, or a change of the current one.
enum Wish {
    Scale(Value),
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Wish {
    fn read(
        call: &Call,
        body: &[u8],
        gvk: &GroupVersionKind,
        schema: Option<&api::schema::Schema>,
        validation: FieldValidation,
    ) -> Result<Self, Status> {
        if call.info.verb != "patch" {
            return decode::typed(call, body, gvk, schema, validation).map(Self::Scale);
        }
        let patch = |body| {
            serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
        };
        match call.content_type().split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => patch(body).map(Self::Json),
            "application/merge-patch+json" => patch(body).map(Self::Merge),
            "application/strategic-merge-patch+json" => patch(body).map(Self::Strategic),
            "application/apply-patch+yaml" => {
                Ok(Self::Merge(decode::decoded("application/yaml", body)?.value))
            }
            _ => Err(Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            ])),
        }
    }

    fn of(&self, live: &Value, schema: Option<&api::schema::Schema>) -> Result<Value, Status> {
        Ok(match (self, schema) {
            (Self::Scale(scale), _) => scale.clone(),
            (Self::Json(patch), _) => json_patch(live, patch)?,
            (Self::Strategic(patch), Some(schema)) => strategic_merge(live, patch, schema)?,
            (Self::Merge(patch) | Self::Strategic(patch), _) => merge_patch(live, patch)?,
        })
    }
}

fn scaled(call: &Call, live: &Value, scale: &Value) -> Result<Value, Status> {
    let version = meta::text(scale, "resourceVersion");
    if !version.is_empty() && version != meta::text(live, "resourceVersion") {
        return Err(Status::modified(call.group_resource(), &call.info.name));
    }
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        return Err(Status::failure(
            422,
            "Invalid",
            format!(
                "Scale.autoscaling {:?} is invalid: spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0",
                call.info.name
            ),
        ));
    }
    let mut object = live.clone();
    object["spec"]["replicas"] = json!(replicas);
    Ok(object)
}

/// The Scale of an object.
fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut identity = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !metadata[field].is_null() {
            identity[field] = metadata[field].clone();
        }
    }
    let selector = match object["kind"].as_str() {
        Some("ReplicationController") => object["spec"]["selector"].as_object().map(LabelSelector::from_map),
        _ => LabelSelector::from_object(object["spec"].get("selector")).ok(),
    };
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": identity,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.map(|selector| selector.to_string()).unwrap_or_default(),
        },
    })
}
