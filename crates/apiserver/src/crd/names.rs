//! Who may have which names: of several definitions of a group that want the same, the first has it.

use super::Definition;
use super::wire::{Condition, Names};

/// What is decided about a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub accepted: Names,
    pub names: Condition,
    pub established: Condition,
}

impl Decision {
    pub fn is_established(&self) -> bool {
        self.established.status == "True"
    }
}

/// Decides about `definition` among the `others` of its group.
pub fn decide(definition: &Definition, others: &[&Names]) -> Decision {
    let (wanted, mut accepted) = (&definition.requested, definition.accepted.clone());
    let mut conflict: Option<(&str, String)> = None;
    let mut refuse = |reason: &'static str, name: &str| {
        // Of several the last is told.
        conflict = Some((reason, format!("{name:?} is already in use")));
    };
    let resource_taken = |name: &str| {
        others.iter().any(|other| {
            other.plural == name
                || other.singular == name
                || other.short_names.iter().any(|short| short == name)
        })
    };
    let kind_taken = |name: &str| others.iter().any(|other| other.kind == name || other.list_kind == name);
    match resource_taken(&wanted.plural) {
        true => refuse("PluralConflict", &wanted.plural),
        false => accepted.plural.clone_from(&wanted.plural),
    }
    match resource_taken(&wanted.singular) {
        true => refuse("SingularConflict", &wanted.singular),
        false => accepted.singular.clone_from(&wanted.singular),
    }
    match wanted.short_names.iter().find(|name| resource_taken(name)) {
        Some(name) => refuse("ShortNamesConflict", name),
        None => accepted.short_names.clone_from(&wanted.short_names),
    }
    match kind_taken(&wanted.kind) {
        true => refuse("KindConflict", &wanted.kind),
        false => accepted.kind.clone_from(&wanted.kind),
    }
    match kind_taken(&wanted.list_kind) {
        true => refuse("ListKindConflict", &wanted.list_kind),
        false => accepted.list_kind.clone_from(&wanted.list_kind),
    }
    accepted.categories.clone_from(&wanted.categories);
    let names = match &conflict {
        None => condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => condition("NamesAccepted", false, reason, message),
    };
    let established = match (conflict.is_none(), definition.is_established()) {
        // Once there, it stays, under the names that it has.
        (_, true) | (true, _) => {
            condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted")
        }
        (false, false) => condition("Established", false, "NotAccepted", "not all names are accepted"),
    };
    Decision { accepted, names, established }
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}
