//! What users' own mutations (webhooks and policies) have in common: the object they leave is brought into shape, and
//! those that ask for it see what others have made of it.

use std::collections::HashSet;

use api::status::Status;
use serde_json::Value;

use super::AdmissionRequest;
use crate::state::State;

/// Configuration or policy, and the place within it.
pub type Id = (String, usize);

/// One pass through all mutations of a request. There are two at most.
#[derive(Debug, Default)]
pub struct Round {
    /// The second pass.
    pub again: bool,
    /// Something has changed the object, so that a second pass is due.
    pub changed: bool,
    /// Who is to see the object again.
    pub due: HashSet<Id>,
    /// Who has been invoked and wants to know of changes.
    interested: Vec<Id>,
    /// The object after the last mutation of the first pass.
    last: Option<Value>,
}

impl Round {
    /// A mutation has been asked.
    pub fn invoked(&mut self, id: Id, interested: bool, changed: bool) {
        if changed {
            self.changed = true;
            self.due.extend(self.interested.drain(..));
        }
        if interested {
            self.interested.push(id);
        }
    }

    /// The first pass has ended with this object.
    pub fn end(&mut self, object: &Value) {
        self.last = Some(object.clone());
    }

    /// The second pass; `object` is what plugins have made of what the first pass left.
    pub fn second(mut self, object: &Value) -> Self {
        if self.last.as_ref() != Some(object) {
            self.due.extend(self.interested.drain(..));
        }
        Self { again: true, due: self.due, ..Self::default() }
    }
}

/// What no mutation may change: it is put back.
const KEPT: [&str; 8] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
    "namespace",
    "managedFields",
    "generation",
];

/// The object as a mutation has left it, checked against its schema, with its identity, and defaults filled in.
pub fn settled(mut object: Value, request: &AdmissionRequest<'_>, state: &State) -> Result<Value, Status> {
    let wrong = |why: String| Status::internal(format!("a mutation has left an object that is none: {why}"));
    if !object.is_object() || !object["metadata"].is_object() {
        return Err(wrong("it has no metadata".to_owned()));
    }
    let before = &request.object;
    for field in ["apiVersion", "kind"] {
        if object[field] != before[field] {
            return Err(wrong(format!("its {field} may not be changed")));
        }
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in KEPT {
            match before["metadata"].get(field) {
                Some(value) => metadata.insert(field.to_owned(), value.clone()),
                None => metadata.remove(field),
            };
        }
    }
    let catalog = state.catalog();
    let asked = request.resource;
    let served = catalog.get(&asked.group, &asked.version, &asked.resource);
    // What is written through a subresource may be of another kind, without a schema here.
    let Some(own) = served.filter(|served| served.resource.gvk == *request.kind) else { return Ok(object) };
    let report = match &own.custom {
        Some(custom) => custom.version.read(&mut object),
        None => own.resource.schema().map(|schema| schema.check(&mut object)).unwrap_or_default(),
    };
    if let Some(error) = report.errors.first() {
        return Err(wrong(error.to_string()));
    }
    own.complete(&mut object);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_asks_for_it_sees_changes_of_others() {
        let id = |index: usize| ("c".to_owned(), index);
        let check = |steps: &[(usize, bool, bool)], plugins_change: bool, expected: &[usize]| {
            let mut round = Round::default();
            for (index, interested, changed) in steps {
                round.invoked(id(*index), *interested, *changed);
            }
            round.end(&json!(1));
            let second = round.second(&json!(if plugins_change { 2 } else { 1 }));
            let expected: HashSet<Id> = expected.iter().map(|index| id(*index)).collect();
            assert_eq!(second.due, expected, "{steps:?}");
        };
        check(&[(0, true, false), (1, false, true)], false, &[0]);
        check(&[(0, true, true), (1, false, false)], false, &[]);
        check(&[(0, false, false), (1, false, true)], false, &[]);
        check(&[(0, true, true), (1, true, true)], false, &[0]);
        check(&[(0, true, true), (1, true, true)], true, &[0, 1]);
    }
}
