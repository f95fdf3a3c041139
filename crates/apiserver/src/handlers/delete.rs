//! Delete, of one object and of many.

use std::sync::Arc;

use api::schema::builtin;
use api::status::Status;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::StatusCode;

use super::call::Call;
use super::{decode, list, render};
use crate::audit;
use crate::cache::object::Object;
use crate::options::{DeleteOptions, WriteOptions};
use crate::server::respond::{self, Answer};
use crate::write::delete::Deleted;
use crate::write::{Writer, meta};

/// Deletes of a collection that are under way at a time: enough to share commits.
const CONCURRENT: usize = 64;

const OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

fn options(call: &Call, body: &[u8]) -> Result<DeleteOptions, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return DeleteOptions::parse(&call.query, None);
    }
    let mut given = decode::decoded(call.content_type(), body, "DeleteOptions")?.value;
    let schema = builtin::named(OPTIONS);
    if let Some(wrong) = schema.and_then(|schema| schema.check(&mut given).errors.into_iter().next()) {
        return Err(Status::bad_request(wrong.to_string()));
    }
    audit::requested(&given);
    DeleteOptions::parse(&call.query, Some(&given))
}

fn writer<'a>(call: &'a Call, options: &DeleteOptions, namespace: &'a str, name: &'a str) -> Writer<'a> {
    let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
    Writer { namespace, name, options: options.to_value(), ..call.writer(&write, "DeleteOptions") }
}

pub async fn one(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let options = options(call, body)?;
    let namespace = if call.served.resource.namespaced { &call.info.namespace } else { "" };
    let deleted = writer(call, &options, namespace, &call.info.name).delete(&options).await?;
    let (gone, value) = match &deleted {
        Deleted::Marked(object) => {
            let object = render::shown(call, object).await?;
            return render::object(call, StatusCode::OK, &object);
        }
        Deleted::Gone(object) => (true, render::served_value(call, &*render::shown(call, object).await?)),
        Deleted::DryRun(value) => (value["metadata"]["deletionTimestamp"].is_null(), value.clone()),
    };
    if !gone || call.served.strategy.returns_deleted {
        return render::value(call, StatusCode::OK, value);
    }
    let status = Status::deleted(call.group_resource(), &call.info.name, meta::text(&value, "uid"));
    respond::value(StatusCode::OK, &status.to_value(), call.accept.format, call.pretty)
}

pub async fn collection(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let options = options(call, body)?;
    let objects: Vec<Arc<Object>> = list::objects(call).await?;
    let deleted: Vec<Arc<Object>> = stream::iter(objects)
        .map(|object| delete_listed(call, &options, object).boxed())
        .buffered(CONCURRENT)
        .try_filter_map(|deleted| async move { Ok(deleted) })
        .try_collect()
        .await?;
    list::of(call, deleted).await
}

/// Nothing when somebody else has deleted it in the meantime.
async fn delete_listed(
    call: &Call,
    options: &DeleteOptions,
    object: Arc<Object>,
) -> Result<Option<Arc<Object>>, Status> {
    match writer(call, options, object.namespace(), object.name()).delete(options).await {
        Ok(Deleted::Gone(object) | Deleted::Marked(object)) => Ok(Some(object)),
        Ok(Deleted::DryRun(_)) => Ok(Some(object)),
        Err(status) if status.is("NotFound") => Ok(None),
        Err(status) => Err(status),
    }
}
