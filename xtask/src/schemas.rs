//! Joins the published JSON schemas, field numbers and markers into the tables that `crates/api` embeds.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use api::schema::builtin::{Definition, Description};
use api::schema::{Field, List, Map, Object, Opaque, Schema, SchemaRef, Shape};
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::proto::{self, Message, Messages};
use crate::{markers, otherwise, zeroes};

/// Writes `crates/api/data/*.json.gz`.
pub fn write() -> Result<()> {
    let published = published()?;
    let messages = proto::read()?;
    let mut table = Table::default();
    for name in published.keys() {
        table.index.insert(name.clone(), u16::try_from(table.index.len())?);
    }
    table.inline_from = table.index.len();
    let mut definitions = Vec::new();
    let mut descriptions = Vec::new();
    for (name, schema) in &published {
        let (schema, description) =
            table.definition(name, schema, &messages).with_context(|| name.clone())?;
        definitions.push(Definition { name: name.clone(), schema });
        descriptions.push(description);
    }
    // Types without a published name follow. `~` sorts behind every name.
    for (number, schema) in table.inline.into_iter().enumerate() {
        definitions.push(Definition { name: format!("~{:04}", table.inline_from + number), schema });
    }
    markers::own_claim_ref_by_field(&mut definitions)?;
    save("definitions.json.gz", &serde_json::to_vec(&definitions)?)?;
    save("descriptions.json.gz", &serde_json::to_vec(&descriptions)?)
}

fn save(file: &str, json: &[u8]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/data").join(file);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, json)?;
    let compressed = encoder.finish()?;
    println!("{}: {} bytes of JSON, {} compressed", path.display(), json.len(), compressed.len());
    std::fs::write(&path, compressed).with_context(|| format!("write {}", path.display()))
}

/// JSON schemas by published name, with lists of every kind, which k8s-openapi has as one generic type.
fn published() -> Result<BTreeMap<String, Value>> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    crate::roots::add(&mut generator);
    let mut all: BTreeMap<String, Value> = generator.take_definitions(false).into_iter().collect();
    // Go calls a union of two types by the name of its only user.
    let partial = format!("{META}PartialObjectMetadata");
    all.insert(format!("{partial}List"), list_of(&partial, "PartialObjectMetadata"));
    all.insert(partial, partial_object_metadata());
    for resource in api::registry::Registry::builtin().iter() {
        let Some(name) = api::schema::builtin::name_of(&resource.gvk) else {
            bail!("no name for {}", resource.gvk)
        };
        if !all.contains_key(&name) {
            bail!("{name} is not published");
        }
        if resource.supports("list") {
            all.insert(format!("{name}List"), list_of(&name, &resource.gvk.kind));
        }
    }
    Ok(all)
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Any object with nothing but its metadata, which is no part of the published schemas.
fn partial_object_metadata() -> Value {
    serde_json::json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": format!("#/$defs/{META}ObjectMeta")},
        },
    })
}

fn list_of(name: &str, kind: &str) -> Value {
    serde_json::json!({
        "type": "object",
        "description": format!("{kind}List is a list of {kind} objects."),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"},
            "kind": {"type": "string", "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
            "metadata": {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
            "items": {"type": "array", "description": format!("List of {kind} objects."), "items": {"$ref": format!("#/$defs/{name}")}},
        },
    })
}

/// The table while it grows: published definitions first, then each inline type once.
#[derive(Default)]
struct Table {
    index: BTreeMap<String, u16>,
    inline: Vec<Schema>,
    inline_from: usize,
}

impl Table {
    fn definition(&mut self, name: &str, json: &Value, messages: &Messages) -> Result<(Schema, Description)> {
        let mut description = Description { text: text_of(json), fields: Vec::new() };
        let schema = match special(name) {
            Some(shape) => Schema::from(shape),
            None => self.schema(json)?,
        };
        let Shape::Object(mut object) = schema.shape else { return Ok((schema, description)) };
        let properties = json["properties"].as_object();
        let text_of_field = |field: &Field| {
            properties.and_then(|all| all.get(field.name.as_ref())).map(text_of).unwrap_or_default()
        };
        description.fields = object.fields.iter().map(text_of_field).collect();
        // A kind that is new in v1 has the numbers that it had in beta.
        let beta = name.to_lowercase().replace(".v1.", ".v1beta1.");
        match messages.get(&name.to_lowercase()).or_else(|| messages.get(&beta)) {
            Some(message) => {
                object.atomic = message.markers.get("structType") == Some("atomic");
                self.annotate(name, &mut object, message, &[], messages)?;
            }
            None => println!("no protobuf message: {name}"),
        }
        otherwise::number(name, &mut object);
        let silent =
            |field: &&Field| field.tags.is_empty() && !matches!(field.name.as_ref(), "apiVersion" | "kind");
        for field in object.fields.iter().filter(silent) {
            println!("no field number: {name}.{}", field.name);
        }
        markers::correct(name, &mut object);
        for field in &mut object.fields {
            let shape = self.resolve(&field.schema).shape;
            field.zero_is_absent =
                zeroes::is_absent(name, field, &shape) != otherwise::zero_is_otherwise(name, &field.name);
        }
        Ok((Schema { shape: Shape::Object(object), nullable: false }, description))
    }

    fn schema(&mut self, json: &Value) -> Result<Schema> {
        if let Some(one_of) = json.get("oneOf") {
            bail!("a union that is not known: {one_of}");
        }
        let shape = match (json["type"].as_str(), json["format"].as_str()) {
            (Some("boolean"), None) => Shape::Boolean,
            (Some("integer"), Some("int32")) => Shape::Int32,
            (Some("integer"), Some("int64")) => Shape::Int64,
            (Some("number"), Some("double")) => Shape::Number,
            (Some("string"), None) => Shape::String,
            (Some("string"), Some("byte")) => Shape::Bytes,
            (Some("array"), None) => Shape::List(List {
                items: self.reference(&json["items"])?,
                list_type: Default::default(),
                wrapped: false,
            }),
            (Some("object"), None) if json.get("additionalProperties").is_some() => {
                let mut values = self.reference(&json["additionalProperties"])?;
                if let Shape::List(list) = &self.resolve(&values).shape {
                    let list = List { wrapped: true, ..list.clone() };
                    values = self.intern(Schema::from(Shape::List(list)));
                }
                Shape::Map(Map { values, atomic: false })
            }
            (Some("object"), None) => {
                let required: Vec<&str> =
                    json["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let mut fields = Vec::new();
                for (name, schema) in json["properties"].as_object().into_iter().flatten() {
                    fields.push(Field {
                        name: name.clone().into(),
                        schema: self.reference(schema)?,
                        required: required.contains(&name.as_str()),
                        patch_merge: false,
                        patch_retain_keys: false,
                        patch_merge_key: None,
                        default: None,
                        zero_is_absent: false,
                        tags: Box::default(),
                    });
                }
                fields.sort_by(|one, other| one.name.cmp(&other.name));
                Shape::Object(Object { fields, ..Object::default() })
            }
            other => bail!("unexpected type {other:?} in {json}"),
        };
        Ok(shape.into())
    }

    fn reference(&mut self, json: &Value) -> Result<SchemaRef> {
        match json["$ref"].as_str() {
            Some(reference) => {
                let name = reference
                    .strip_prefix("#/$defs/")
                    .with_context(|| format!("odd reference {reference}"))?;
                let index = self.index.get(name).with_context(|| format!("{name} is not defined"))?;
                Ok(SchemaRef::Builtin(*index))
            }
            None => {
                let schema = self.schema(json)?;
                Ok(self.intern(schema))
            }
        }
    }

    fn intern(&mut self, schema: Schema) -> SchemaRef {
        let index = self.inline.iter().position(|known| *known == schema).unwrap_or_else(|| {
            self.inline.push(schema);
            self.inline.len() - 1
        });
        SchemaRef::Builtin(u16::try_from(self.inline_from + index).expect("fewer than 65536 types"))
    }

    /// An inline type, so that its facts can be seen or changed. Published types stand behind a placeholder.
    fn resolve(&self, reference: &SchemaRef) -> Schema {
        match reference {
            SchemaRef::Builtin(index) if usize::from(*index) >= self.inline_from => {
                self.inline[usize::from(*index) - self.inline_from].clone()
            }
            _ => Schema::from(Shape::Any(Opaque::Json)),
        }
    }

    /// Gives the fields of an object what the message says of them. `path` leads to an embedded message.
    fn annotate(
        &mut self,
        name: &str,
        object: &mut Object,
        message: &Message,
        path: &[u32],
        messages: &Messages,
    ) -> Result<()> {
        let package = name.rsplit_once('.').map_or("", |(package, _)| package).to_lowercase();
        for proto in message.fields.iter().filter(|proto| !markers::is_withdrawn(name, &proto.name)) {
            let tags: Vec<u32> = path.iter().copied().chain([proto.tag]).collect();
            let plain = proto.name.replace('_', "").to_lowercase();
            match object.fields.iter_mut().find(|field| {
                field.name.trim_start_matches('$').replace(['-', '_'], "").to_lowercase() == plain
            }) {
                Some(field) => {
                    field.tags = tags.into();
                    let mut schema = self.resolve(&field.schema);
                    if markers::apply(&proto.markers, field, &mut schema) {
                        field.schema = self.intern(schema);
                    }
                }
                None => {
                    let embedded = proto
                        .message
                        .as_ref()
                        .and_then(|kind| messages.get(&format!("{package}.{}", kind.to_lowercase())));
                    match embedded {
                        Some(message) => self.annotate(name, object, message, &tags, messages)?,
                        None => println!("not published: {name}.{}", proto.name),
                    }
                }
            }
        }
        Ok(())
    }
}

fn text_of(json: &Value) -> String {
    json["description"].as_str().unwrap_or_default().to_owned()
}

/// Types whose JSON is not what their structure says.
fn special(name: &str) -> Option<Shape> {
    const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
    if let Some(kind) = name.strip_prefix(META) {
        return match kind {
            "Time" => Some(Shape::Time),
            "MicroTime" => Some(Shape::MicroTime),
            "FieldsV1" => Some(Shape::Any(Opaque::Raw)),
            "Patch" => Some(Shape::Any(Opaque::Json)),
            _ => None,
        };
    }
    if let Some(kind) = name.strip_prefix(EXTENSIONS) {
        return match kind {
            "JSON" => Some(Shape::Any(Opaque::Raw)),
            "JSONSchemaPropsOrArray" => Some(Shape::Any(Opaque::SchemaOrArray)),
            "JSONSchemaPropsOrBool" => Some(Shape::Any(Opaque::SchemaOrBool)),
            "JSONSchemaPropsOrStringArray" => Some(Shape::Any(Opaque::SchemaOrStrings)),
            _ => None,
        };
    }
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Some(Shape::Quantity),
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Some(Shape::IntOrString),
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => Some(Shape::Any(Opaque::Raw)),
        _ => None,
    }
}
