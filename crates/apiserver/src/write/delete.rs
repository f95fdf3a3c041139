//! Deletion: at once, or in steps where an object has a grace period, finalizers or dependents to wait for.

use std::sync::Arc;

use api::status::Status;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::Expect;

use super::{ATTEMPTS, Phase, Refused, Writer, meta};
use crate::admission::Operation;
use crate::cache::object::Object;
use crate::options::{DeleteOptions, Propagation};

/// What a delete has led to.
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Object>),
    /// It is marked and will go when nothing keeps it any more.
    Marked(Arc<Object>),
    /// One or the other would have happened.
    DryRun(Value),
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

impl Writer<'_> {
    pub async fn delete(&self, options: &DeleteOptions) -> Result<Deleted, Status> {
        let key = self.key(self.name);
        let mut sure = false;
        for _ in 0..ATTEMPTS {
            let Some(live) = self.served.cache.get(&key) else {
                if self.holds(None, &key, &mut sure).await? {
                    return Err(self.not_found());
                }
                continue;
            };
            let deleted = match self.delete_from(&live, options).await {
                Ok(Deleted::Gone(object)) => return Ok(Deleted::Gone(object)),
                Ok(Deleted::Marked(object)) if object.revision != live.revision => {
                    return Ok(Deleted::Marked(object));
                }
                Ok(deleted) => Ok(deleted),
                Err(Refused::Raced) => {
                    sure = true;
                    continue;
                }
                Err(Refused::Failed(status)) => Err(status),
            };
            if self.holds(Some(&live), &key, &mut sure).await? {
                return deleted;
            }
        }
        Err(self.modified())
    }

    async fn delete_from(&self, live: &Arc<Object>, options: &DeleteOptions) -> Result<Deleted, Refused> {
        let old = self.served.value(&self.state.outbound, live).await.map_err(Refused::Failed)?;
        self.check_preconditions(&old, options).map_err(Refused::Failed)?;
        self.admit(Phase::Mutate, Operation::Delete, Value::Null, &old).await.map_err(Refused::Failed)?;
        self.admit(Phase::Validate, Operation::Delete, Value::Null, &old).await.map_err(Refused::Failed)?;

        let mut new = old.clone();
        propagate(&mut new, options.propagation.or_else(|| self.usual_propagation(&old)));
        let grace = (self.served.strategy.grace)(&new, options.grace_period_seconds);
        let kept = grace > 0 || finalizers(&new) > 0 || !(self.served.strategy.deletable)(&new);
        if !kept {
            if self.dry_run {
                return Ok(Deleted::DryRun(old));
            }
            return self.remove(live).await.map(Deleted::Gone);
        }
        mark(&mut new, grace);
        (self.served.strategy.deleting)(&mut new);
        if self.dry_run {
            return Ok(Deleted::DryRun(new));
        }
        if new == old {
            return Ok(Deleted::Marked(live.clone()));
        }
        let marked = self.put(&live.key, &new, Expect::Revision(live.revision)).await?;
        Ok(Deleted::Marked(marked))
    }

    /// What becomes of the dependents where nobody has said anything about them.
    fn usual_propagation(&self, object: &Value) -> Option<Propagation> {
        let decided = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|list| list.iter().any(|name| name == ORPHAN || name == FOREGROUND));
        self.served.strategy.propagation.filter(|_| !decided)
    }

    fn check_preconditions(&self, object: &Value, options: &DeleteOptions) -> Result<(), Status> {
        let failed = |what: &str, wanted: &str, current: &str, guess: &str| {
            let gvk = &self.served.resource.gvk;
            Status::conflict(
                (gvk.group.as_str(), gvk.kind.as_str()),
                self.name,
                format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({current}). \
                     The object might have been {guess}"
                ),
            )
        };
        let uid = meta::text(object, "uid");
        if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
            return Err(failed("UID", wanted, uid, "deleted and then recreated"));
        }
        let version = meta::text(object, "resourceVersion");
        if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
            return Err(failed("ResourceVersion", wanted, version, "modified"));
        }
        Ok(())
    }
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}

/// The garbage collector does what these finalizers ask for. Saying nothing leaves those that are there.
fn propagate(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let mut list: Vec<Value> = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    list.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    match propagation {
        Propagation::Orphan => list.push(json!(ORPHAN)),
        Propagation::Foreground => list.push(json!(FOREGROUND)),
        Propagation::Background => {}
    }
    if list.is_empty() {
        meta::of(object).remove("finalizers");
    } else {
        meta::of(object).insert("finalizers".to_owned(), list.into());
    }
}

/// Sets when the object is to go. A second delete can only bring that forward.
fn mark(object: &mut Value, grace: i64) {
    let metadata = meta::of(object);
    let given = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    let first = !metadata.contains_key("deletionTimestamp");
    if !first && given.is_none_or(|given| grace >= given) {
        return;
    }
    let marked_at = match (first, given) {
        (false, Some(given)) => metadata
            .get("deletionTimestamp")
            .and_then(|time| time.as_str()?.parse::<Timestamp>().ok())
            .map(|time| time - SignedDuration::from_secs(given)),
        _ => None,
    };
    let begin = marked_at.unwrap_or_else(Timestamp::now);
    let end = begin.checked_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    metadata.insert("deletionTimestamp".to_owned(), meta::format_time(end).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if first && let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|g| *g > 0) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_follow_the_policy() {
        #[track_caller]
        fn check(before: &[&str], policy: Option<Propagation>, after: &[&str]) {
            let mut object = json!({"metadata": {"finalizers": before}});
            propagate(&mut object, policy);
            let found = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            assert_eq!(found, after.iter().map(|name| json!(name)).collect::<Vec<_>>());
        }
        check(&[], None, &[]);
        check(&["x"], Some(Propagation::Foreground), &["x", "foregroundDeletion"]);
        check(&["orphan"], Some(Propagation::Foreground), &["foregroundDeletion"]);
        check(&["foregroundDeletion"], Some(Propagation::Background), &[]);
        check(&["orphan"], None, &["orphan"]);
    }

    #[test]
    fn a_second_delete_only_shortens() {
        let mut object = json!({"metadata": {"generation": 1}});
        mark(&mut object, 30);
        let first = object.clone();
        assert_eq!(first["metadata"]["generation"], 2);
        mark(&mut object, 60);
        assert_eq!(object, first);
        mark(&mut object, 5);
        let time = |object: &Value| {
            object["metadata"]["deletionTimestamp"].as_str().unwrap().parse::<Timestamp>().unwrap()
        };
        assert_eq!(time(&first).duration_since(time(&object)), SignedDuration::from_secs(25));
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 5);
        assert_eq!(object["metadata"]["generation"], 2);
    }
}
