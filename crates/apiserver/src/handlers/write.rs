//! Create and update.

use api::status::Status;
use http::StatusCode;
use serde_json::Value;

use super::call::Call;
use super::{decode, render};
use crate::options::WriteOptions;
use crate::request::RequestInfo;
use crate::server::respond::Answer;
use crate::write::update::Change;
use crate::write::{Outcome, Writer, meta};

impl Call {
    /// A writer of the object (or of the subresource) that this request names.
    pub fn writer(&self, options: &WriteOptions, kind: &str) -> Writer<'_> {
        Writer {
            state: &self.state,
            served: &self.served,
            user: &self.user,
            namespace: if self.served.resource.namespaced { &self.info.namespace } else { "" },
            name: &self.info.name,
            subresource: &self.info.subresource,
            dry_run: options.dry_run,
            options: options.to_value(kind),
            manager: self.field_manager(options.field_manager.as_deref()),
            warnings: &self.warnings,
        }
    }
}

impl Call {
    /// Who may change objects may not for that reason make new ones: an update or apply that creates is a create too.
    pub async fn require_create(&self) -> Result<(), Status> {
        let create = RequestInfo { verb: "create".to_owned(), ..self.info.clone() };
        self.state.authorizer.require(&self.user, &create).await
    }
}

pub async fn create(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    const KIND: &str = "CreateOptions";
    let options = WriteOptions::parse(&call.query, KIND)?;
    let object = decode::object(call, body, options.field_validation)?;
    let outcome = call.writer(&options, KIND).create(object, false).await?;
    answer(call, StatusCode::CREATED, outcome).await
}

pub async fn update(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    const KIND: &str = "UpdateOptions";
    let options = WriteOptions::parse(&call.query, KIND)?;
    let mut object = decode::object(call, body, options.field_validation)?;
    if meta::text(&object, "name").is_empty() {
        return Err(decode::nameless(&call.info.name));
    }
    let writer = call.writer(&options, KIND);
    // Before anything is said of the one that the path names.
    writer.check_name(&mut object)?;
    let missing = call.served.cache.get(&call.key()).is_none();
    if missing && call.served.strategy.create_on_update && call.info.subresource.is_empty() {
        call.require_create().await?;
        match writer.create(without_version(object.clone()), false).await {
            Err(status) if status.is("AlreadyExists") => {}
            outcome => return answer(call, StatusCode::CREATED, outcome?).await,
        }
    }
    let make = |_: &Value| Ok(object.clone());
    let outcome = writer.update(&Change { make: &make, managed: false, whole: true }).await?;
    answer(call, StatusCode::OK, outcome).await
}

fn without_version(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// What has become of the object.
pub async fn answer(call: &Call, code: StatusCode, outcome: Outcome) -> Result<Answer, Status> {
    match outcome {
        Outcome::Stored(object) | Outcome::Removed(object) => {
            let object = render::shown(call, &object).await?;
            render::object(call, code, &object)
        }
        Outcome::DryRun(value) => render::value(call, code, value),
    }
}
