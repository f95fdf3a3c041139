//! OpenAPI v3 of what says itself in v2 alone, as older extension servers do.
//!
//! The dialects differ in where schemas stand, in how a parameter tells its type, and in bodies: in v2 they are a
//! parameter and belong to all media types of the operation, in v3 each media type has its own.

use serde_json::{Map, Value, json};

use super::{TITLE, VERSION};

const V2: &str = "#/definitions/";
const V3: &str = "#/components/schemas/";
/// Where an operation does not say what it takes or answers.
const ANY: &str = "*/*";
/// What of a parameter is its schema.
const OF_SCHEMA: [&str; 14] = [
    "type",
    "format",
    "items",
    "default",
    "enum",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "uniqueItems",
];

/// The v3 document of one group version, from a v2 document that has its paths and definitions (perhaps among others).
pub fn v3_of_v2(document: &Value, group: &str, version: &str) -> Value {
    let root = super::root(group, version);
    let below = format!("{root}/");
    let mut paths = Map::new();
    let found = document["paths"].as_object().into_iter().flatten();
    for (path, item) in found.filter(|(path, _)| **path == root || path.starts_with(&below)) {
        paths.insert(path.clone(), path_item(item, document));
    }
    let definitions = document["definitions"].as_object().into_iter().flatten();
    let schemas: Map<String, Value> = definitions.map(|(name, of)| (name.clone(), schema(of))).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn path_item(item: &Value, document: &Value) -> Value {
    let mut converted = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "parameters" => Value::Array(list(value).filter(|p| !in_body(p)).map(parameter).collect()),
            "get" | "put" | "post" | "delete" | "options" | "head" | "patch" => operation(value, document),
            _ => value.clone(),
        };
        converted.insert(key.clone(), value);
    }
    Value::Object(converted)
}

fn operation(operation: &Value, document: &Value) -> Value {
    let media = |member: &str| -> Vec<&str> {
        let own = operation.get(member).or_else(|| document.get(member)).unwrap_or(&Value::Null);
        let named: Vec<&str> = list(own).filter_map(Value::as_str).collect();
        if named.is_empty() { vec![ANY] } else { named }
    };
    let content = |of: &Value, media: &[&str]| {
        let of = json!({"schema": schema(of)});
        Value::Object(media.iter().map(|name| ((*name).to_owned(), of.clone())).collect())
    };
    let mut converted = Map::new();
    for (key, value) in operation.as_object().into_iter().flatten() {
        match key.as_str() {
            "consumes" | "produces" | "schemes" => {}
            "parameters" => {
                let others: Vec<Value> = list(value).filter(|p| !in_body(p)).map(parameter).collect();
                if !others.is_empty() {
                    converted.insert(key.clone(), Value::Array(others));
                }
                if let Some(body) = list(value).find(|parameter| parameter["in"] == "body") {
                    let mut request = json!({"content": content(&body["schema"], &media("consumes"))});
                    for member in ["description", "required"] {
                        if let Some(told) = body.get(member) {
                            request[member] = told.clone();
                        }
                    }
                    converted.insert("requestBody".to_owned(), request);
                }
            }
            "responses" => {
                let produced = media("produces");
                let responses = value.as_object().into_iter().flatten().map(|(code, response)| {
                    let mut told =
                        json!({"description": response["description"].as_str().unwrap_or_default()});
                    if let Some(of) = response.get("schema") {
                        told["content"] = content(of, &produced);
                    }
                    (code.clone(), told)
                });
                converted.insert(key.clone(), Value::Object(responses.collect()));
            }
            _ => {
                converted.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(converted)
}

fn in_body(parameter: &Value) -> bool {
    matches!(parameter["in"].as_str(), Some("body" | "formData"))
}

fn parameter(parameter: &Value) -> Value {
    let mut converted = Map::new();
    let mut of = Map::new();
    for (key, value) in parameter.as_object().into_iter().flatten() {
        match OF_SCHEMA.contains(&key.as_str()) {
            true => of.insert(key.clone(), value.clone()),
            false if key == "collectionFormat" => None,
            false => converted.insert(key.clone(), value.clone()),
        };
    }
    converted.insert("schema".to_owned(), Value::Object(of));
    Value::Object(converted)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The same schema, whose references lead to where v3 keeps them.
fn schema(of: &Value) -> Value {
    match of {
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| {
                let name = value.as_str().filter(|_| key == "$ref").and_then(|text| text.strip_prefix(V2));
                let value = name.map_or_else(|| schema(value), |name| format!("{V3}{name}").into());
                (key.clone(), value)
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(schema).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_parameters_and_references() {
        let thing = json!({"$ref": "#/definitions/Thing"});
        let document = json!({
            "consumes": ["application/json"],
            "paths": {
                "/apis/g/v1/things": {
                    "parameters": [{"name": "pretty", "in": "query", "type": "string", "uniqueItems": true}],
                    "post": {
                        "operationId": "make", "produces": ["application/json", "application/yaml"],
                        "parameters": [{"name": "body", "in": "body", "required": true, "schema": thing}],
                        "responses": {"201": {"description": "Made", "schema": thing}, "401": {"description": "No"}},
                    },
                },
                "/apis/g/v1beta1/things": {},
            },
            "definitions": {"Thing": {"type": "object", "properties": {"next": thing}}},
        });
        let thing = json!({"schema": {"$ref": "#/components/schemas/Thing"}});
        let expected = json!({
            "openapi": "3.0.0",
            "info": {"title": TITLE, "version": VERSION},
            "paths": {"/apis/g/v1/things": {
                "parameters": [{"name": "pretty", "in": "query", "schema": {"type": "string", "uniqueItems": true}}],
                "post": {
                    "operationId": "make",
                    "requestBody": {"required": true, "content": {"application/json": thing}},
                    "responses": {
                        "201": {"description": "Made", "content": {"application/json": thing, "application/yaml": thing}},
                        "401": {"description": "No"},
                    },
                },
            }},
            "components": {"schemas": {"Thing": {"type": "object", "properties": {"next": thing["schema"]}}}},
        });
        assert_eq!(v3_of_v2(&document, "g", "v1"), expected);
    }

    #[test]
    fn nonsense_is_converted_to_nothing() {
        for document in
            [json!(null), json!({"paths": [], "definitions": 3}), json!({"paths": {"/apis/g/v1": 7}})]
        {
            assert_eq!(v3_of_v2(&document, "g", "v1")["openapi"], "3.0.0");
        }
    }
}
