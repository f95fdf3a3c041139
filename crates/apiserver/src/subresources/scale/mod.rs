//! `scale`: the number of replicas of a workload, in the same shape for every kind.
//!
//! A client reads and writes a Scale; what is stored is the object that it is a view of. Who owns the number is recorded
//! there as well ([`wish::Wish::applied_to`]), so that appliers of the workload and of its scale see each other.

pub mod view;
mod wish;

use api::status::Status;
use http::StatusCode;
use serde_json::Value;

use crate::handlers::call::Call;
use crate::handlers::render;
use crate::options::WriteOptions;
use crate::server::respond::{self, Answer};
use crate::write::update::Change;
use view::View;
use wish::Wish;

pub async fn serve(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let view = View::of(&call.served);
    if call.info.verb == "get" {
        let object = call.served.cache.get(&call.key()).ok_or_else(|| call.not_found())?;
        let object = render::shown(call, &object).await?;
        return answer(call, &view, &render::served_value(call, &object));
    }
    let kind = if call.info.verb == "patch" { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::parse(&call.query, kind)?;
    let wish = Wish::read(call, body, &options)?;
    let make = |live: &Value| wish.applied_to(call, &view, live, &options);
    let change = Change { make: &make, managed: wish.is_apply(), whole: false };
    let outcome = call.writer(&options, kind).update(&change).await?;
    answer(call, &view, &outcome.into_value(&call.served, &call.state.outbound).await?)
}

fn answer(call: &Call, view: &View, object: &Value) -> Result<Answer, Status> {
    respond::value(StatusCode::OK, &view.scale(object), call.accept.format, call.pretty)
}
