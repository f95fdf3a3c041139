//! `metadata.managedFields`: who owns which fields, decoded, changed and encoded again.

use super::set::Set;
use serde_json::{Map, Value};

/// Managers by Update that an object remembers one by one; older ones are lumped together.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// One entry: a manager, how it wrote, and what it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    /// By server-side apply, rather than by any other write.
    pub applied: bool,
    pub api_version: String,
    pub subresource: String,
    pub time: Option<String>,
    /// The `fieldsV1` as stored, as long as it need not change; then the set is empty.
    stored: Option<Value>,
    set: Set,
}

impl Entry {
    /// The same manager writing in the same way. An applier is one whatever version it applies.
    pub fn is(&self, manager: &str, applied: bool, api_version: &str, subresource: &str) -> bool {
        self.manager == manager
            && self.applied == applied
            && self.subresource == subresource
            && (applied || self.api_version == api_version)
    }

    /// An entry of somebody who owns nothing yet.
    pub fn new(manager: &str, applied: bool, api_version: &str, subresource: &str) -> Entry {
        Entry {
            manager: manager.to_owned(),
            applied,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
            time: None,
            stored: None,
            set: Set::new(),
        }
    }

    /// The fields, decoded.
    pub fn set(&mut self) -> &mut Set {
        if let Some(stored) = self.stored.take() {
            self.set = Set::from_fields_v1(&stored).unwrap_or_default();
        }
        &mut self.set
    }

    /// Takes paths away; decodes only if there are any.
    pub fn lose(&mut self, paths: &Set) {
        if self.stored.as_ref().is_none_or(|stored| paths.touches(stored)) {
            self.set().subtract(paths);
        }
    }

    fn is_empty(&self) -> bool {
        match &self.stored {
            Some(stored) => stored.as_object().is_none_or(Map::is_empty),
            None => self.set.is_empty(),
        }
    }

    /// As conflict messages call it.
    pub fn shown(&self) -> String {
        let mut out = crate::field::quote(&self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {}", crate::field::quote(&self.subresource)));
        }
        if !self.applied {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    fn decode(mut value: Value) -> Option<Entry> {
        let mut text = |key: &str| match value.get_mut(key).map(Value::take) {
            Some(Value::String(s)) => Some(s),
            _ => None,
        };
        let applied = match text("operation")?.as_str() {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        if text("fieldsType")? != "FieldsV1" {
            return None;
        }
        let mut entry = Entry::new("", applied, "", "");
        entry.manager = text("manager").unwrap_or_default();
        entry.api_version = text("apiVersion").unwrap_or_default();
        entry.subresource = text("subresource").unwrap_or_default();
        entry.time = text("time");
        entry.stored = value.get_mut("fieldsV1").map(Value::take).filter(Value::is_object);
        Some(entry)
    }

    fn encode(self) -> Value {
        let mut out = Map::new();
        out.insert("manager".into(), self.manager.into());
        out.insert("operation".into(), if self.applied { "Apply" } else { "Update" }.into());
        out.insert("apiVersion".into(), self.api_version.into());
        if let Some(time) = self.time {
            out.insert("time".into(), time.into());
        }
        out.insert("fieldsType".into(), "FieldsV1".into());
        let fields = self.stored.unwrap_or_else(|| self.set.into_fields_v1());
        out.insert("fieldsV1".into(), fields);
        if !self.subresource.is_empty() {
            out.insert("subresource".into(), self.subresource.into());
        }
        Value::Object(out)
    }
}

/// The list as it stands in an object.
pub fn list(object: &Value) -> &[Value] {
    object.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of a list; `None` where one is malformed. Fields that are not in the `trusted` list, which is what the
/// store holds, are brought into canonical form or refused.
pub fn decode(entries: Vec<Value>, trusted: &[Value]) -> Option<Vec<Entry>> {
    let mut out = Vec::with_capacity(entries.len());
    for value in entries {
        let known = trusted.contains(&value);
        let mut entry = Entry::decode(value)?;
        if !known && let Some(stored) = entry.stored.take() {
            entry.set = Set::from_fields_v1(&stored)?;
        }
        out.push(entry);
    }
    Some(out)
}

/// Whether a client asks to forget all managers, with `[]` or `[{}]`.
pub fn is_reset(entries: &[Value]) -> bool {
    match entries {
        [] => true,
        [one] => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Writes the entries into the object: those that still own something, in upstream's order.
pub fn store(object: &mut Value, entries: Vec<Entry>) {
    let mut entries: Vec<Entry> = entries.into_iter().filter(|e| !e.is_empty()).collect();
    cap(&mut entries);
    entries.sort_by(|a, b| {
        let key = |e: &Entry| (!e.applied, e.time.clone().unwrap_or_default());
        key(a).cmp(&key(b)).then_with(|| {
            (&a.manager, &a.api_version, &a.subresource).cmp(&(&b.manager, &b.api_version, &b.subresource))
        })
    });
    put(
        object,
        (!entries.is_empty()).then(|| Value::Array(entries.into_iter().map(Entry::encode).collect())),
    );
}

/// Whether two encoded entries differ in their times at most.
pub fn same_but_time(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return false };
    let rest = |entry: &Map<String, Value>| entry.keys().filter(|key| *key != "time").count();
    rest(a) == rest(b) && a.iter().all(|(key, value)| key == "time" || b.get(key) == Some(value))
}

pub fn put(object: &mut Value, entries: Option<Value>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    match entries {
        Some(entries) => metadata.insert("managedFields".into(), entries),
        None => metadata.remove("managedFields"),
    };
}

/// Takes the list out of an object; `None` when there was none.
pub fn take(object: &mut Value) -> Option<Vec<Value>> {
    match object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")? {
        Value::Array(entries) => Some(entries),
        _ => None,
    }
}

/// Lumps the oldest updaters together once there are too many.
fn cap(entries: &mut Vec<Entry>) {
    let updaters = entries.iter().filter(|e| !e.applied).count();
    if updaters <= MAX_UPDATE_MANAGERS {
        return;
    }
    let (mut old, mut kept): (Vec<Entry>, Vec<Entry>) = entries.drain(..).partition(|e| !e.applied);
    old.sort_by(|a, b| a.time.cmp(&b.time));
    let mut surplus = updaters - MAX_UPDATE_MANAGERS + 1;
    let mut lumps: Vec<Entry> = Vec::new();
    for mut entry in old {
        if surplus == 0 {
            kept.push(entry);
            continue;
        }
        surplus -= 1;
        let set = std::mem::take(entry.set());
        match lumps.iter_mut().find(|l| l.api_version == entry.api_version) {
            Some(lump) => {
                lump.set().merge(set);
                lump.time = entry.time;
            }
            None => {
                let mut lump = Entry::new(ANCIENT, false, &entry.api_version, "");
                lump.time = entry.time;
                *lump.set() = set;
                lumps.push(lump);
            }
        }
    }
    kept.extend(lumps);
    *entries = kept;
}
