//! `componentstatuses`: how the scheduler, the controllers and the store are, asked when somebody asks. Long deprecated,
//! and still what some look at first.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use futures::future;
use http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::{list, render};
use crate::cache::object::{Encoded, Object};
use crate::options::ListOptions;
use crate::outbound::client::Client;
use crate::server::respond::Answer;

pub const PLURAL: &str = "componentstatuses";

/// Who has a page of health on this machine, in upstream's order of names.
const COMPONENTS: [(&str, &str); 2] = [
    ("controller-manager", "https://127.0.0.1:10257/healthz"),
    ("scheduler", "https://127.0.0.1:10259/healthz"),
];
const STORE: &str = "etcd-0";
const TIMEOUT: Duration = Duration::from_secs(5);

pub async fn one(call: &Call) -> Result<Answer, Status> {
    let name = call.info.name.as_str();
    let found = match COMPONENTS.into_iter().find(|(known, _)| *known == name) {
        Some((name, url)) => object(name, &component(url).await)?,
        None if name == STORE => object(STORE, &store(call).await)?,
        None => return Err(call.not_found()),
    };
    render::object(call, StatusCode::OK, &found)
}

pub async fn all(call: &Call) -> Result<Answer, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = list::selection(call, &options)?;
    let asked = future::join_all(COMPONENTS.map(|(_, url)| component(url)));
    let (asked, store) = future::join(asked, store(call)).await;
    let names = COMPONENTS.map(|(name, _)| name);
    let mut objects: Vec<Arc<Object>> =
        names.into_iter().zip(&asked).map(|(name, health)| object(name, health)).collect::<Result<_, _>>()?;
    objects.insert(1, object(STORE, &store)?);
    objects.retain(|object| selection.matches(object));
    list::of(call, objects).await
}

/// What a component says of its health; an error when it says nothing.
type Health = Result<String, String>;

/// Its certificate is of its own making, and nothing but its health is asked.
async fn component(url: &str) -> Health {
    let client = Client::trusting_anyone(url).map_err(|error| error.to_string())?;
    let said = client.get(url, TIMEOUT).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

async fn store(call: &Call) -> Health {
    call.state.settle().await.map(|()| "ok".to_owned()).map_err(|status| status.message)
}

fn object(name: &str, health: &Health) -> Result<Arc<Object>, Status> {
    let condition = match health {
        Ok(said) => json!({"type": "Healthy", "status": "True", "message": said}),
        Err(why) => json!({"type": "Healthy", "status": "Unknown", "message": why}),
    };
    let status = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition],
    });
    let encoded = Encoded::of(&status, &[]).map_err(Status::internal)?;
    Ok(Arc::new(Object::new(name.into(), 0, &encoded)))
}
