//! Server-side apply, and the managed fields that record who set what.
//!
//! Everybody who writes an object owns the fields that he set: by applying, exactly those of the applied configuration;
//! by any other write, those that the write changed. Applying a configuration sets its fields, takes away those that the
//! same manager applied before and nobody else owns, and refuses to change what others own unless forced to.
//!
//! - [`set`]: sets of field paths and their stored form, `FieldsV1`
//! - [`typed`]: which parts of a value are owned one by one, by its schema
//! - [`compare`], [`merge`], [`prune`]: the three walks over objects
//! - [`declared`]: what is applied must have a place in the schema
//! - [`managed`]: the list in `metadata.managedFields`
//! - [`last_applied`]: `kubectl apply` without `--server-side` and with it, on the same object

mod compare;
mod declared;
mod last_applied;
mod managed;
mod merge;
mod prune;
mod set;
mod typed;

pub use declared::undeclared;

use crate::schema::Schema;
use crate::status::{Status, StatusCause};
use managed::Entry;
use serde_json::{Map, Value};
use set::Set;
use typed::Paths;

/// Who owned fields of an object that had been written before anybody applied it, and without a record.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes an object, and through which endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Updater<'a> {
    /// The `fieldManager` parameter or, without one and not by apply, the start of the user agent.
    pub manager: &'a str,
    /// The `apiVersion` of the object in the request.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Now, in RFC 3339 to the second.
    pub time: &'a str,
    /// Top-level fields that this endpoint does not set: `status` where that is a subresource, and `spec` there.
    pub ignored: &'a [&'a str],
}

/// A field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As messages name it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// `.spec.template.spec.containers[name="x"].image`
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration itself cannot be applied.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit its schema.
    #[error("{0}")]
    Untyped(String),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
    }
    let mut out = format!("Apply failed with {} conflicts: ", conflicts.len());
    let mut last = None;
    for (i, conflict) in conflicts.iter().enumerate() {
        if last != Some(&conflict.manager) {
            let newline = if i > 0 { "\n" } else { "" };
            out.push_str(&format!("{newline}conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        out.push_str(&format!("\n- {}", conflict.path));
    }
    out
}

impl From<ApplyError> for Status {
    fn from(e: ApplyError) -> Self {
        let message = e.to_string();
        match e {
            ApplyError::Malformed(why) => Status::bad_request(why),
            // Upstream has no reason for it either; clients know it by its words.
            ApplyError::Untyped(why) => Status::failure(500, "", why),
            ApplyError::Conflicts(conflicts) => {
                let cause = |c: Conflict| StatusCause {
                    kind: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", c.manager),
                    field: c.path,
                };
                Status::apply_conflict(message, conflicts.into_iter().map(cause).collect())
            }
        }
    }
}

/// The live object (`None`: it is to be created) with a configuration applied, managed fields included. Where nothing
/// changes, the live object as it is. Defaults are for the caller to fill in, and what
/// nulls and other spellings in the configuration stand for.
pub fn server_side_apply(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    updater: &Updater<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let config = configuration(applied, schema, updater)?;
    let mut entries = live.map(recorded).unwrap_or_default();
    let empty = Value::Object(Map::new());
    let mut base = live.cloned().unwrap_or(empty);
    managed::take(&mut base);
    if live.is_some() && entries.is_empty() {
        entries.push(before_first_apply(&base, schema, updater));
    }

    let run = |entries, force| apply(&base, &config, schema, updater, entries, force);
    let kubectl = updater.manager == last_applied::KUBECTL;
    let outcome = match run(entries.clone(), force) {
        Err(mut conflicts) if kubectl => {
            // What the client-side apply of the same user set is his to change.
            let own = last_applied::owned(&base, schema);
            conflicts.iter_mut().for_each(|(_, set)| set.subtract(&own));
            conflicts.retain(|(_, set)| !set.is_empty());
            if conflicts.is_empty() { run(entries, true) } else { Err(conflicts) }
        }
        other => other,
    };
    let Applied { mut object, entries, changed } =
        outcome.map_err(|conflicts| ApplyError::Conflicts(list(conflicts)))?;
    if kubectl {
        last_applied::refresh(&mut object, &base, applied);
    }
    match live {
        Some(live) if !changed && object == base => Ok(live.clone()),
        _ => {
            managed::store(&mut object, entries);
            Ok(object)
        }
    }
}

/// Records in `new` which fields this create (`old` is `None`), update or patch set.
pub fn update_managed_fields(old: Option<&Value>, new: &mut Value, schema: &Schema, updater: &Updater<'_>) {
    let stored = old.map_or(&[][..], managed::list);
    let given = managed::take(new);
    let entries = match given {
        Some(given) if managed::is_reset(&given) && old.is_some() => return,
        Some(given) => managed::decode(given, stored),
        None => None,
    };
    // Clients that know nothing of managed fields must not lose them by accident.
    let mut entries = entries.or_else(|| managed::decode(stored.to_vec(), stored)).unwrap_or_default();
    if old.is_some() && entries.is_empty() {
        // Forgotten on purpose: nothing is recorded until the next apply.
        return;
    }

    let mut changes = match old {
        Some(old) => compare::compare(old, new, Some(schema)),
        None => compare::Changes {
            added: typed::paths(new, Some(schema), Paths::Created).unwrap_or_default(),
            ..compare::Changes::default()
        },
    };
    for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        strip(set, updater.ignored);
    }
    let Updater { manager, api_version, subresource, time, .. } = *updater;
    let mine = |e: &Entry| e.is(manager, false, api_version, subresource);
    let (written, removed) = changes.into_written_and_removed();
    for entry in &mut entries {
        entry.lose(&removed);
        if !mine(entry) {
            entry.lose(&written);
        }
    }
    if !written.is_empty() {
        if !entries.iter().any(mine) {
            entries.push(Entry::new(manager, false, api_version, subresource));
        }
        if let Some(entry) = entries.iter_mut().find(|e| mine(e)) {
            entry.set().merge(written);
            entry.time = Some(time.to_owned());
        }
    }
    managed::store(new, entries);
}

/// Where `new` differs from `old` in nothing but the times of its managed fields, it takes over those of `old`: who
/// applies the same once more changes nothing.
pub fn keep_times(old: &Value, new: &mut Value) {
    let (before, after) = (managed::list(old), managed::list(new));
    let known = |entry: &Value| before.iter().any(|known| managed::same_but_time(known, entry));
    if before.len() != after.len() || !after.iter().all(known) {
        return;
    }
    let before = before.to_vec();
    let after = managed::take(new);
    managed::put(new, Some(Value::Array(before)));
    if new != old {
        managed::put(new, after.map(Value::Array));
    }
}

/// The entries of a stored object.
fn recorded(live: &Value) -> Vec<Entry> {
    let stored = managed::list(live);
    managed::decode(stored.to_vec(), stored).unwrap_or_default()
}

fn before_first_apply(live: &Value, schema: &Schema, updater: &Updater<'_>) -> Entry {
    let mut entry = Entry::new(BEFORE_FIRST_APPLY, false, updater.api_version, "");
    let mut set = typed::paths(live, Some(schema), Paths::Created).unwrap_or_default();
    strip(&mut set, &[]);
    *entry.set() = set;
    entry.time = Some(updater.time.to_owned());
    entry
}

/// The configuration as it takes part: without what this endpoint or no client sets. A `null` stays: who says it owns
/// the field.
fn configuration(applied: &Value, schema: &Schema, updater: &Updater<'_>) -> Result<Value, ApplyError> {
    let Value::Object(applied) = applied else {
        return Err(ApplyError::Malformed("the applied configuration must be an object".into()));
    };
    let mut config = applied.clone();
    for name in updater.ignored {
        config.remove(*name);
    }
    if let Some(Value::Object(metadata)) = config.get_mut("metadata") {
        if let Some(Value::Array(entries)) = metadata.remove("managedFields")
            && !entries.is_empty()
        {
            return Err(ApplyError::Malformed("metadata.managedFields must be nil".into()));
        }
        for name in
            ["creationTimestamp", "generation", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"]
        {
            metadata.remove(name);
        }
    }
    let config = Value::Object(config);
    if let Some(problem) = typed::duplicate(&config, Some(schema), &mut Vec::new()) {
        return Err(untyped(&config, &[problem]));
    }
    Ok(config)
}

/// What is wrong with the types of a configuration.
pub fn untyped(config: &Value, problems: &[String]) -> ApplyError {
    let text = |member: &str| config.get(member).and_then(Value::as_str).unwrap_or_default();
    let version = text("apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    ApplyError::Untyped(format!(
        "failed to create typed patch object ({}; {slash}{version}, Kind={}): {}",
        shown_name(config),
        text("kind"),
        listed(problems),
    ))
}

/// One problem as it is, several each on a line.
pub fn listed(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

/// `namespace/name`
fn shown_name(object: &Value) -> String {
    let text = |key: &str| object.pointer(key).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

/// Fields that identify an object or belong to the server: nobody owns them.
fn strip(set: &mut Set, ignored: &[&str]) {
    for name in ["apiVersion", "kind"].iter().chain(ignored) {
        set.0.remove(&set::field(name));
    }
    if let Some(metadata) = set.0.get_mut("f:metadata") {
        metadata.member = false;
        for name in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            metadata.children.0.remove(&set::field(name));
        }
        if metadata.children.is_empty() {
            set.0.remove("f:metadata");
        }
    }
}

struct Applied {
    object: Value,
    entries: Vec<Entry>,
    changed: bool,
}

type Conflicts = Vec<(Entry, Set)>;

fn list(conflicts: Conflicts) -> Vec<Conflict> {
    let mut out = Vec::new();
    for (entry, set) in conflicts {
        let manager = entry.shown();
        set.for_each(&mut Vec::new(), &mut |path| {
            out.push(Conflict { manager: manager.clone(), path: set::display(path) });
        });
    }
    out.sort_by(|a, b| a.manager.cmp(&b.manager));
    out
}

fn apply(
    live: &Value,
    config: &Value,
    schema: &Schema,
    updater: &Updater<'_>,
    mut entries: Vec<Entry>,
    force: bool,
) -> Result<Applied, Conflicts> {
    let schema = Some(schema);
    let named = typed::paths(config, schema, Paths::Applied).unwrap_or_default();
    let mut set = named.clone();
    strip(&mut set, updater.ignored);
    let mine = |e: &Entry| e.is(updater.manager, true, updater.api_version, updater.subresource);

    let merged = merge::merge(live, config, schema);
    let last = entries.iter().position(mine).map(|i| entries.remove(i));
    let last_version = last.as_ref().map(|e| (e.time.clone(), e.api_version.clone()));
    let last_set = last.map(|mut e| std::mem::take(e.set())).unwrap_or_default();

    // Usually all that was applied last is applied again, and there is nothing to take away.
    let object = if last_set.difference(&set).is_empty() {
        merged
    } else {
        // What identifies the object is nobody's, but stays because it is named.
        let mut owned = named;
        entries.iter_mut().for_each(|e| owned.merge(e.set().clone()));
        prune::prune(merged, schema, &last_set, &owned)
    };
    let mut changes = compare::compare(live, &object, schema);
    for changed in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        strip(changed, updater.ignored);
    }

    let nothing_changes = changes.is_empty();
    let (written, removed) = changes.into_written_and_removed();
    if !force {
        let conflicts: Conflicts = entries
            .iter_mut()
            .filter_map(|e| {
                let set = e.set().intersection(&written);
                (!set.is_empty()).then(|| (e.clone(), set))
            })
            .collect();
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    for entry in &mut entries {
        entry.lose(&written);
        entry.lose(&removed);
    }

    let same_version = last_version.as_ref().is_some_and(|(_, version)| version == updater.api_version);
    let changed = !nothing_changes || set != last_set || !same_version;
    let mut entry = Entry::new(updater.manager, true, updater.api_version, updater.subresource);
    entry.time = match last_version {
        Some((time, _)) if !changed => time,
        _ => Some(updater.time.to_owned()),
    };
    *entry.set() = set;
    entries.push(entry);
    Ok(Applied { object, entries, changed })
}

#[cfg(test)]
mod tests;
