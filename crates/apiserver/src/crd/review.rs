//! Conversion by webhook: a ConversionReview there and back.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::outbound::{Destination, Outbound};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Has the webhook convert the objects; as many come back, in the same order, and they are the same objects.
pub async fn convert(
    outbound: &Outbound,
    webhook: &Destination,
    versions: &[String],
    objects: Vec<Value>,
    to: &str,
) -> Result<Vec<Value>, String> {
    let version = versions.iter().find(|version| matches!(version.as_str(), "v1" | "v1beta1"));
    let version = version.map_or("v1", String::as_str);
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects},
    });
    let body = serde_json::to_vec(&review).map_err(|error| error.to_string())?;
    let answer =
        outbound.post(webhook, "?timeout=30s", body, TIMEOUT).await.map_err(|error| error.to_string())?;
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|error| format!("invalid response: {error}"))?;
    checked(answer, &objects, to, &uid)
}

fn checked(mut answer: Value, asked: &[Value], to: &str, uid: &str) -> Result<Vec<Value>, String> {
    let response = answer["response"].take();
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        let message = result["message"].as_str().unwrap_or("no reason was given");
        return Err(message.to_owned());
    }
    let converted = response["convertedObjects"].as_array().map_or(&[][..], Vec::as_slice);
    if converted.len() != asked.len() {
        return Err(format!("webhook returned {} objects, expected {}", converted.len(), asked.len()));
    }
    asked
        .iter()
        .zip(converted)
        .enumerate()
        .map(|(index, (asked, converted))| same(asked, converted, index, to))
        .collect()
}

/// Of the metadata, only labels and annotations may be converted.
fn same(asked: &Value, converted: &Value, index: usize, to: &str) -> Result<Value, String> {
    if converted["apiVersion"] != to {
        return Err(format!(
            "invalid converted object at index {index}: invalid groupVersion (expected {to}, received {})",
            converted["apiVersion"].as_str().unwrap_or_default()
        ));
    }
    if converted["kind"] != asked["kind"] {
        return Err(format!("invalid converted object at index {index}: invalid kind"));
    }
    for field in ["name", "namespace", "uid"] {
        if converted["metadata"][field] != asked["metadata"][field] {
            return Err(format!("invalid converted object at index {index}: {field} was changed"));
        }
    }
    let mut metadata = asked["metadata"].clone();
    for field in ["labels", "annotations"] {
        let Some(metadata) = metadata.as_object_mut() else { break };
        match &converted["metadata"][field] {
            Value::Object(entries) => {
                let texts: Map<String, Value> = entries
                    .iter()
                    .filter(|(_, value)| value.is_string())
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                metadata.insert(field.to_owned(), texts.into());
            }
            _ => drop(metadata.remove(field)),
        }
    }
    let mut object = converted.clone();
    object["metadata"] = metadata;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_to_what_was_asked() {
        let asked = [
            json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "x", "uid": "u"}, "spec": {"old": 1}}),
        ];
        let answer = |object: Value| json!({"response": {"uid": "1", "result": {"status": "Success"}, "convertedObjects": [object]}});
        let good = json!({
            "apiVersion": "a/v2", "kind": "K",
            "metadata": {"name": "x", "uid": "u", "labels": {"l": "1"}, "finalizers": ["f"]}, "spec": {"new": 1},
        });
        let converted = checked(answer(good.clone()), &asked, "a/v2", "1").unwrap();
        assert_eq!(converted[0]["metadata"], json!({"name": "x", "uid": "u", "labels": {"l": "1"}}));
        assert_eq!(converted[0]["spec"], json!({"new": 1}));
        let check = |change: fn(&mut Value), expected: &str| {
            let mut answer = answer(good.clone());
            change(&mut answer);
            let error = checked(answer, &asked, "a/v2", "1").unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(|answer| answer["response"]["uid"] = json!("2"), "expected response.uid");
        check(|answer| answer["response"]["result"] = json!({"status": "Failed", "message": "boom"}), "boom");
        check(
            |answer| answer["response"]["convertedObjects"] = json!([]),
            "webhook returned 0 objects, expected 1",
        );
        check(
            |answer| answer["response"]["convertedObjects"][0]["apiVersion"] = json!("a/v1"),
            "invalid groupVersion",
        );
        check(
            |answer| answer["response"]["convertedObjects"][0]["metadata"]["name"] = json!("y"),
            "name was changed",
        );
        check(|answer| *answer = json!({}), "no response provided");
    }
}
