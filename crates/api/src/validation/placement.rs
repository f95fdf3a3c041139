//! A pod that is not yet to be scheduled may be told more about where to go, never less: who has let it in with what it
//! asked for must not find it elsewhere.

use super::read::{given, is_empty, items, members, same};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

/// The required node selector terms of an affinity.
const TERMS: &str = "nodeSelectorTerms";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

pub fn narrowed(new: &Value, old: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let kept = members(&old["nodeSelector"]).all(|(key, value)| new["nodeSelector"].get(key) == Some(value));
    if !kept {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&path.child("nodeSelector"), new["nodeSelector"].clone(), why);
    }
    let before = &old["affinity"]["nodeAffinity"];
    let now = &new["affinity"]["nodeAffinity"];
    if is_empty(&before[REQUIRED][TERMS]) {
        return;
    }
    let affinity = path.child("affinity");
    let affinity = affinity.child("nodeAffinity");
    let required = affinity.child(REQUIRED);
    let terms = required.child(TERMS);
    if !given(&now[REQUIRED]) || items(&now[REQUIRED][TERMS]).len() != items(&before[REQUIRED][TERMS]).len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&terms, now[REQUIRED][TERMS].clone(), why);
        return;
    }
    for (i, (term, was)) in
        items(&now[REQUIRED][TERMS]).iter().zip(items(&before[REQUIRED][TERMS])).enumerate()
    {
        // The terms are alternatives: one that asked for nothing matched nothing, and more in it would let in more.
        let was_empty = is_empty(&was["matchExpressions"]) && is_empty(&was["matchFields"]);
        let begins = |list: &str| items(&term[list]).starts_with(items(&was[list]));
        if !(begins("matchExpressions") && begins("matchFields")) || (was_empty && !same(term, was)) {
            errors.invalid(
                &terms.index(i),
                term.clone(),
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}
