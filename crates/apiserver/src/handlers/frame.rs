//! The pieces of a watch: events, bookmarks and errors as its client asked for them.
//!
//! Frames of whole objects are encoded once per event and shared by all who watch; tables and partial metadata are made
//! per watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::codec::protobuf;
use api::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};

use super::call::Call;
use super::render;
use crate::cache::event::{Change, json_frame};
use crate::cache::object::Object;
use crate::cache::watcher::Told;
use crate::negotiate::{Encoding, Form};

/// Makes the frames of one watch.
pub struct Frames {
    pub call: Call,
    /// A table's columns go with its first rows.
    columns_sent: AtomicBool,
}

impl Frames {
    pub fn new(call: Call) -> Self {
        Self { call, columns_sent: AtomicBool::new(false) }
    }

    pub fn content_type(&self) -> &'static str {
        match self.call.accept.format {
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Encoding::Json | Encoding::Yaml => "application/json",
        }
    }

    /// Whether they look the same in every watch of the same selection.
    pub fn are_common(&self) -> bool {
        self.call.served.custom.is_none() && render::bytes_suffice(&self.call)
    }

    pub fn told(&self, told: &Told) -> Result<Bytes, Status> {
        match told {
            Told::Shared(event) if render::bytes_suffice(&self.call) => match self.call.accept.format {
                Encoding::Protobuf => event.protobuf_frame(|| self.object(event.change, &event.object)),
                Encoding::Json | Encoding::Yaml => Ok(event.frame()),
            },
            told => self.object(told.change(), told.object()),
        }
    }

    pub fn object(&self, change: Change, object: &Arc<Object>) -> Result<Bytes, Status> {
        if self.call.accept.form != Form::Table {
            let object = render::item_bytes(&self.call, object)?;
            return match self.call.accept.format {
                Encoding::Protobuf => {
                    protobuf::watch_frame(change.as_str(), &object).map_err(Status::internal)
                }
                Encoding::Json | Encoding::Yaml => Ok(json_frame(change.as_str(), &object)),
            };
        }
        let value = render::served_value(&self.call, object);
        let metadata = value["metadata"].clone();
        let headers = !self.columns_sent.swap(true, Ordering::Relaxed);
        let table = render::table(&self.call, &[value], &metadata, headers)?;
        let table = serde_json::to_vec(&table).map_err(Status::internal)?;
        Ok(json_frame(change.as_str(), &table))
    }

    /// How far this watch has come, as an object with nothing but a version.
    pub fn bookmark(&self, revision: u64, initial_end: bool) -> Result<Bytes, Status> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.call.accept.form {
            Form::Partial => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": self.call.accept.meta_version, "metadata": metadata})
            }
            Form::Table => json!({
                "kind": "Table", "apiVersion": self.call.accept.meta_version, "columnDefinitions": [], "rows": [],
                "metadata": {"resourceVersion": revision.to_string()},
            }),
            Form::Whole => json!({
                "kind": self.call.served.resource.gvk.kind,
                "apiVersion": self.call.served.api_version,
                "metadata": metadata,
            }),
        };
        self.around("BOOKMARK", &object)
    }

    /// The last frame of a watch that ends for a reason.
    pub fn error(&self, status: &Status) -> Result<Bytes, Status> {
        self.around("ERROR", &status.to_value())
    }

    /// A frame around an object that is not in the cache.
    fn around(&self, kind: &str, object: &Value) -> Result<Bytes, Status> {
        match self.call.accept.format {
            Encoding::Protobuf => {
                let object = protobuf::encode(object).map_err(Status::internal)?;
                protobuf::watch_frame(kind, &object).map_err(Status::internal)
            }
            Encoding::Json | Encoding::Yaml => {
                Ok(json_frame(kind, &serde_json::to_vec(object).map_err(Status::internal)?))
            }
        }
    }
}
