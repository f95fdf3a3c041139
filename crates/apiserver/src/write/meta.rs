//! `metadata` that is the server's: names, identity, times, what a client may not change.

use api::status::Status;
use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Map, Value};

use super::Writer;
use crate::cache::store_key;

/// Set by the server alone; kept as they are by updates.
const KEPT: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
];

/// No vowels and no look-alikes, as upstream's: generated names are not words.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED: usize = 63;

/// `metadata`, made if it is not there.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(metadata) => metadata,
        // Just made one.
        _ => unreachable!("metadata is an object"),
    }
}

pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The number of a resourceVersion; 0 for none.
pub fn version(text: &str) -> Result<u64, String> {
    if text.is_empty() { Ok(0) } else { crate::options::go_uint(text) }
}

/// Now, as objects carry it.
pub fn now() -> String {
    format_time(Timestamp::now())
}

pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `base` with a random end, short enough for a name.
pub fn generate_name(base: &str) -> String {
    let keep = base.char_indices().map(|(index, character)| index + character.len_utf8());
    let end = keep.take_while(|end| *end <= MAX_GENERATED - SUFFIX_LENGTH).last().unwrap_or(0);
    let mut name = base.get(..end).unwrap_or_default().to_owned();
    let mut random = rand::rng();
    for _ in 0..SUFFIX_LENGTH {
        let index = random.random_range(0..SUFFIX_ALPHABET.len());
        name.extend(SUFFIX_ALPHABET.get(index).map(|byte| *byte as char));
    }
    name
}

impl Writer<'_> {
    /// Puts the namespace of the request into the object; 400 when it says another.
    pub fn check_namespace(&self, object: &mut Value) -> Result<(), Status> {
        let given = text(object, "namespace");
        if given == self.namespace {
            return Ok(());
        }
        if !self.served.resource.namespaced {
            of(object).remove("namespace");
            return Ok(());
        }
        if given.is_empty() {
            of(object).insert("namespace".to_owned(), self.namespace.into());
            return Ok(());
        }
        Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ))
    }

    /// Puts the name of the request into the object; 400 when it says another.
    pub fn check_name(&self, object: &mut Value) -> Result<(), Status> {
        let given = text(object, "name");
        if given.is_empty() {
            of(object).insert("name".to_owned(), self.name.into());
        } else if !self.name.is_empty() && given != self.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({})",
                self.name
            )));
        }
        Ok(())
    }

    /// 409 for a client that means an object of another uid, be there one of that name (`current`) or none at all.
    pub(super) fn another(&self, given: &str, current: &str) -> Status {
        let storage = &self.served.storage;
        let key = store_key(&storage.group, &storage.plural, &self.key(self.name));
        Status::conflict(
            self.group_resource(),
            self.name,
            format!(
                "StorageError: invalid object, Code: 4, Key: /registry{key}, ResourceVersion: 0, AdditionalErrorMsg: \
                 Precondition failed: UID in precondition: {given}, UID in object meta: {current}"
            ),
        )
    }

    /// What an update may not change stays; 409 when the client means another object or another state.
    pub(super) fn carry_over(&self, new: &mut Value, old: &Value) -> Result<(), Status> {
        let given = text(new, "uid");
        let current = text(old, "uid");
        if !given.is_empty() && given != current {
            return Err(self.another(given, current));
        }
        let metadata = of(new);
        for field in KEPT {
            match old["metadata"].get(field) {
                Some(value) => metadata.insert((*field).to_owned(), value.clone()),
                None => metadata.remove(*field),
            };
        }
        metadata.insert("resourceVersion".to_owned(), old["metadata"]["resourceVersion"].clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit() {
        for base in ["", "web-", &"x".repeat(100), &"é".repeat(50)] {
            let name = generate_name(base);
            assert!(name.len() <= MAX_GENERATED, "{name}");
            assert!(base.starts_with(&name[..name.len() - SUFFIX_LENGTH]), "{name}");
        }
    }
}
