//! Pods that are there already when a namespace gets a stricter standard: it is not applied to them, but told.

use std::collections::BTreeMap;

use super::subject::Pod;
use super::{Level, PodSecurity};
use crate::admission::objects::{self, Objects, PODS};
use crate::admission::{AdmissionRequest, Operation};

/// As many pods are looked at: who labels a namespace waits for it.
const MAX_PODS: usize = 3000;

pub fn warn(plugin: &PodSecurity, request: &mut AdmissionRequest<'_>, objects: &dyn Objects) {
    if request.operation != Operation::Update {
        return;
    }
    let (new, old) = (plugin.enforced(&request.object), plugin.enforced(request.old_object));
    let same = new.level == old.level && new.version == old.version;
    if new.level == Level::Privileged || same || new.level < old.level {
        return;
    }
    let pods = objects.list(PODS, request.name);
    // Those that violate the same are told together.
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS) {
        let violations = new.level.violations(&Pod::new(pod));
        if !violations.is_empty() {
            // What, without the details of each pod.
            let kinds = violations.iter().map(|told| told.split(" (").next().unwrap_or_default());
            let kinds: Vec<&str> = kinds.collect();
            found.entry(kinds.join(", ")).or_default().push(objects::name(pod).to_owned());
        }
    }
    if found.is_empty() {
        return;
    }
    request.warnings.push(format!(
        "existing pods in namespace {:?} violate the new PodSecurity enforce level {:?}",
        request.name,
        new.name()
    ));
    for (kinds, mut names) in found {
        names.sort_unstable();
        let first = names.first().cloned().unwrap_or_default();
        let others = match names.len() - 1 {
            0 => String::new(),
            1 => " (and 1 other pod)".to_owned(),
            count => format!(" (and {count} other pods)"),
        };
        request.warnings.push(format!("{first}{others}: {kinds}"));
    }
    if pods.len() > MAX_PODS {
        let told = format!("only the first {MAX_PODS} of {} existing pods were checked", pods.len());
        request.warnings.push(told);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::objects::tests::Fixture;
    use crate::admission::testing::Case;

    #[test]
    fn pods_that_violate_a_new_level_are_told() {
        let pod =
            |name: &str, spec: Value| json!({"metadata": {"namespace": "x", "name": name}, "spec": spec});
        let host = json!({"hostNetwork": true, "containers": []});
        let objects = Fixture::new()
            .add(PODS, pod("b", host.clone()))
            .add(PODS, pod("a", host))
            .add(PODS, pod("fine", json!({"containers": []})));
        let namespace = |level: Option<&str>| {
            let labels = level.map(|level| json!({"pod-security.kubernetes.io/enforce": level}));
            json!({"metadata": {"name": "x", "labels": labels}})
        };
        let check = |old: Option<&str>, new: Option<&str>, expected: &[&str]| {
            let case = Case::update("", "namespaces", namespace(old), namespace(new));
            let told = case.run_with_warnings(|request| {
                warn(&PodSecurity::default(), request, &objects);
                Ok(())
            });
            assert_eq!(told.map(|(_, warnings)| warnings).unwrap_or_default(), expected, "{old:?} {new:?}");
        };
        check(
            None,
            Some("baseline"),
            &[
                "existing pods in namespace \"x\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 1 other pod): host namespaces",
            ],
        );
        check(Some("baseline"), Some("baseline"), &[]);
        check(Some("restricted"), Some("baseline"), &[]);
        check(Some("baseline"), None, &[]);
    }
}
