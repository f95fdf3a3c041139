//! Objects in the version that was asked for, whatever version they are stored in.

use std::sync::Arc;

use api::status::Status;
use serde_json::Value;

use super::{Conversion, Custom, review};
use crate::cache::object::{Encoded, Object};
use crate::catalog::Served;
use crate::convert;
use crate::outbound::Outbound;

impl Served {
    /// The objects as this version shows them: what is stored as it is shown is not touched.
    pub async fn shown(
        &self,
        outbound: &Outbound,
        objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let Some(custom) = &self.custom else { return Ok(objects) };
        let prefix = prefix(&self.api_version);
        let is_shown = |object: &Arc<Object>| custom.definition.exact && object.bytes().starts_with(&prefix);
        if objects.iter().all(is_shown) {
            return Ok(objects);
        }
        let others: Vec<Value> =
            objects.iter().filter(|object| !is_shown(object)).map(|object| object.value()).collect();
        let mut converted = custom.convert(outbound, others, &self.api_version).await?.into_iter();
        let mut shown = Vec::with_capacity(objects.len());
        for object in objects {
            if is_shown(&object) {
                shown.push(object);
                continue;
            }
            let mut value = converted.next().unwrap_or_default();
            custom.version.complete_stored(&mut value);
            let mut encoded = Encoded::of(&value, &[]).map_err(Status::internal)?;
            encoded.meta = object.meta.clone();
            shown.push(Arc::new(Object::new(object.key.clone(), object.revision, &encoded)));
        }
        Ok(shown)
    }

    /// One object as this version shows it.
    pub async fn shown_one(&self, outbound: &Outbound, object: &Arc<Object>) -> Result<Arc<Object>, Status> {
        if self.custom.is_none() {
            return Ok(object.clone());
        }
        let shown = self.shown(outbound, vec![object.clone()]).await?;
        Ok(shown.into_iter().next().unwrap_or_else(|| object.clone()))
    }

    /// The value of a stored object in this version.
    pub async fn value(&self, outbound: &Outbound, object: &Arc<Object>) -> Result<Value, Status> {
        let mut value = self.shown_one(outbound, object).await?.value();
        if self.custom.is_none() {
            convert::convert(&mut value, &self.resource.gvk);
        }
        Ok(value)
    }

    /// An object of this version as it is stored.
    pub async fn stored(&self, outbound: &Outbound, object: &Value) -> Result<Value, Status> {
        let mut value = object.clone();
        match &self.custom {
            None => convert::convert(&mut value, &self.storage.gvk),
            Some(custom) => {
                let to = self.storage.gvk.api_version();
                value =
                    custom.convert(outbound, vec![value], &to).await?.into_iter().next().unwrap_or_default();
                let stored = custom.definition.version(&self.storage.gvk.version);
                if let (Conversion::Webhook { .. }, Some(stored)) = (&custom.definition.conversion, stored) {
                    stored.complete_stored(&mut value);
                }
            }
        }
        Ok(value)
    }

    /// Whether the object is stored as it would be if it were written now.
    pub fn is_stored_as_now(&self, object: &Object) -> bool {
        self.custom.is_none() || object.bytes().starts_with(&prefix(&self.storage.gvk.api_version()))
    }
}

/// How the bytes of an object in a version begin: fields are sorted.
pub fn prefix(api_version: &str) -> Vec<u8> {
    format!("{{\"apiVersion\":\"{api_version}\",").into_bytes()
}

impl Custom {
    /// The objects in another version.
    pub async fn convert(
        &self,
        outbound: &Outbound,
        mut objects: Vec<Value>,
        to: &str,
    ) -> Result<Vec<Value>, Status> {
        let differs = |object: &Value| object["apiVersion"] != to;
        match &self.definition.conversion {
            Conversion::None => {
                for object in objects.iter_mut().filter(|object| differs(object)) {
                    object["apiVersion"] = to.into();
                }
                Ok(objects)
            }
            _ if !objects.iter().any(differs) => Ok(objects),
            Conversion::Webhook { to: webhook, review_versions } => {
                let (places, others): (Vec<usize>, Vec<Value>) = objects
                    .iter()
                    .enumerate()
                    .filter(|(_, object)| differs(object))
                    .map(|(at, o)| (at, o.clone()))
                    .unzip();
                let kind = &self.definition.accepted.kind;
                let converted = review::convert(outbound, webhook, review_versions, others, to).await;
                let converted = converted.map_err(|why| {
                    let from =
                        places.first().and_then(|at| objects.get(*at)).and_then(|o| o["apiVersion"].as_str());
                    Status::internal(format!(
                        "conversion webhook for {}, Kind={kind} failed: {why}",
                        from.unwrap_or_default()
                    ))
                })?;
                for (place, value) in places.into_iter().zip(converted) {
                    if let Some(object) = objects.get_mut(place) {
                        *object = value;
                    }
                }
                Ok(objects)
            }
            Conversion::Broken(why) => Err(Status::internal(format!(
                "the conversion webhook of {} cannot be called: {why}",
                self.definition.name
            ))),
        }
    }
}
