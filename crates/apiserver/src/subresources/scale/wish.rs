//! What a client sends to `scale`: a Scale, a patch of the current one, or a configuration of one.

use api::field::{FieldErrors, Path};
use api::gvk::GroupVersionKind;
use api::patch::apply::{Updater, server_side_apply};
use api::patch::{json_patch, merge_patch, strategic_merge};
use api::schema::SchemaRef;
use api::status::Status;
use serde_json::{Value, json};

use super::view::View;
use crate::handlers::call::Call;
use crate::handlers::decode;
use crate::options::WriteOptions;
use crate::write::meta;

pub struct Wish {
    sort: Sort,
    body: Value,
    schema: Option<SchemaRef>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Scale,
    Json,
    Merge,
    Strategic,
    Apply,
}

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl Wish {
    pub fn read(call: &Call, body: &[u8], options: &WriteOptions) -> Result<Self, Status> {
        let subresource = call.served.resource.subresource("scale").ok_or_else(Status::unknown_resource)?;
        let schema = subresource.schema();
        let typed = |content_type: &str| {
            let gvk = &subresource.gvk;
            let schema = schema.as_deref();
            decode::typed_as(call, content_type, body, gvk, schema, options.field_validation)
        };
        let patch = || {
            serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
        };
        let (sort, body) = if call.info.verb == "patch" {
            match call.content_type().split(';').next().unwrap_or_default().trim() {
                "application/json-patch+json" => (Sort::Json, patch()?),
                "application/merge-patch+json" => (Sort::Merge, patch()?),
                "application/strategic-merge-patch+json" => (Sort::Strategic, patch()?),
                "application/apply-patch+yaml" => (Sort::Apply, typed("application/yaml")?),
                _ => return Err(Status::unsupported_media_type(PATCHES)),
            }
        } else {
            (Sort::Scale, typed(call.content_type())?)
        };
        let wish = Self { sort, body, schema };
        if sort == Sort::Apply && options.field_manager.is_none() {
            return Err(refused("PatchOptions.meta.k8s.io", "", |errors| {
                errors.required(&Path::new("fieldManager"), "is required for apply patch");
            }));
        }
        Ok(wish)
    }

    pub fn is_apply(&self) -> bool {
        self.sort == Sort::Apply
    }

    /// The workload as it is to be.
    pub fn applied_to(
        &self,
        call: &Call,
        view: &View,
        live: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let current = view.scale(live);
        let wanted = match (self.sort, self.schema.as_deref()) {
            (Sort::Scale | Sort::Apply, _) => self.body.clone(),
            (Sort::Json, _) => json_patch(&current, &self.body)?,
            (Sort::Strategic, Some(schema)) => strategic_merge(&current, &self.body, schema)?,
            (Sort::Merge | Sort::Strategic, _) => merge_patch(&current, &self.body)?,
        };
        check(call, live, &wanted)?;
        let replicas = &wanted["spec"]["replicas"];
        if self.sort != Sort::Apply {
            let replicas = json!(replicas.as_i64().unwrap_or(0));
            return Ok(view.with_replicas(live.clone(), &replicas));
        }
        // Applied to the workload itself, as a configuration of this one field.
        let mut configuration = identity(live, &call.served.resource.gvk);
        if !replicas.is_null() {
            configuration = view.with_replicas(configuration, replicas);
        }
        let schema = call.served.resource.schema().ok_or_else(Status::unknown_resource)?;
        let updater = Updater {
            manager: options.field_manager.as_deref().unwrap_or_default(),
            api_version: &call.served.api_version,
            subresource: "scale",
            time: &meta::now(),
            ignored: &["status"],
        };
        let force = options.force.unwrap_or(false);
        server_side_apply(Some(live), &configuration, schema, &updater, force).map_err(Status::from)
    }
}

fn identity(live: &Value, gvk: &GroupVersionKind) -> Value {
    json!({
        "apiVersion": gvk.api_version(),
        "kind": gvk.kind,
        "metadata": {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]},
    })
}

/// That it is about this object, in this state, and makes sense.
fn check(call: &Call, live: &Value, scale: &Value) -> Result<(), Status> {
    let (name, given) = (call.info.name.as_str(), meta::text(scale, "name"));
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let (uid, current) = (meta::text(scale, "uid"), meta::text(live, "uid"));
    if !uid.is_empty() && uid != current {
        return Err(Status::conflict(
            call.group_resource(),
            name,
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current}"),
        ));
    }
    let version = meta::text(scale, "resourceVersion");
    if !version.is_empty() && version != meta::text(live, "resourceVersion") {
        return Err(Status::modified(call.group_resource(), name));
    }
    match scale["spec"]["replicas"].as_i64() {
        Some(replicas) if replicas < 0 => Err(refused("Scale.autoscaling", name, |errors| {
            let spec = Path::new("spec");
            errors.invalid(&spec.child("replicas"), replicas, "must be greater than or equal to 0");
        })),
        _ => Ok(()),
    }
}

fn refused(kind: &str, name: &str, why: impl FnOnce(&mut FieldErrors)) -> Status {
    let mut errors = FieldErrors::new();
    why(&mut errors);
    let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
    Status::invalid(group, kind, name, &errors)
}
