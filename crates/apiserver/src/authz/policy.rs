//! The RBAC objects that every cluster starts with, from `policy.txt`, and how they are kept up to date.
//!
//! At each start what is missing is added: objects, rules of roles, subjects of bindings. What an administrator
//! has added stays. Objects whose annotation `rbac.authorization.kubernetes.io/autoupdate` is not `true` are left
//! alone altogether.

use api::status::GroupResource;
use serde_json::{Value, json};

use super::rules::Rule;
use crate::admission::objects::{self, CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, Objects, ROLE_BINDINGS, ROLES};

const TEXT: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// One object that has to be written.
#[derive(Debug)]
pub struct Write {
    pub resource: GroupResource<'static>,
    pub object: Value,
    /// Whether an object of that name is there already.
    pub exists: bool,
}

/// What has to be written so that the stored objects grant at least the policy.
pub fn reconcile(stored: &dyn Objects) -> Vec<Write> {
    objects()
        .into_iter()
        .filter_map(|(resource, wanted)| {
            let (namespace, name) = (objects::namespace(&wanted), objects::name(&wanted));
            match stored.get(resource, namespace, name) {
                None => Some(Write { resource, object: wanted, exists: false }),
                Some(current) => {
                    updated(&current, &wanted).map(|object| Write { resource, object, exists: true })
                }
            }
        })
        .collect()
}

/// `current` with what it lacks, if it lacks anything and wants to be updated.
fn updated(current: &Value, wanted: &Value) -> Option<Value> {
    if objects::annotation(current, AUTOUPDATE) != "true" {
        return None;
    }
    let mut object = current.clone();
    // Aggregated roles have no rules of their own here: a controller fills them.
    if wanted["aggregationRule"].is_null() {
        let have = Rule::all(&current["rules"]);
        let missing: Vec<Value> = objects::items(&wanted["rules"])
            .filter(|rule| !Rule::read(rule).is_covered_by(&have))
            .cloned()
            .collect();
        extend(&mut object, "rules", missing);
    } else if current["aggregationRule"] != wanted["aggregationRule"] {
        *objects::at(&mut object, &["aggregationRule"]) = wanted["aggregationRule"].clone();
    }
    let missing: Vec<Value> = objects::items(&wanted["subjects"])
        .filter(|subject| !objects::items(&current["subjects"]).any(|have| have == *subject))
        .cloned()
        .collect();
    extend(&mut object, "subjects", missing);
    for (key, value) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
        *objects::at(&mut object, &["metadata", "labels", key]) = value.clone();
    }
    (object != *current).then_some(object)
}

fn extend(object: &mut Value, field: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    match objects::at(object, &[field]) {
        Value::Array(items) => items.extend(more),
        place => *place = Value::Array(more),
    }
}

/// The rules of `system:node`, which the Node authorizer grants.
pub fn node_rules() -> Vec<Rule> {
    objects()
        .iter()
        .find(|(_, object)| objects::name(object) == "system:node")
        .map(|(_, role)| Rule::all(&role["rules"]))
        .unwrap_or_default()
}

/// Every object of the policy.
pub fn objects() -> Vec<(GroupResource<'static>, Value)> {
    let mut policy = Policy::default();
    for line in TEXT.lines() {
        policy.line(line.trim());
    }
    policy.objects
}

#[derive(Default)]
struct Policy {
    namespace: &'static str,
    objects: Vec<(GroupResource<'static>, Value)>,
}

impl Policy {
    fn line(&mut self, line: &'static str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "namespace" => self.namespace = rest,
            "role" => self.role(rest.to_owned()),
            "controller" => {
                let role = format!("system:controller:{rest}");
                self.bind(&role, &role, false, &[format!("sa:kube-system/{rest}")]);
                self.role(role);
            }
            "label" => *self.last(&["metadata", "labels", rest]) = json!("true"),
            "aggregate" => {
                *self.last(&["aggregationRule"]) =
                    json!({"clusterRoleSelectors": [{"matchLabels": {rest: "true"}}]});
                *self.last(&["rules"]) = Value::Null;
            }
            "bind" => {
                let mut words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
                let name = words.remove(0);
                let renamed = words.first().is_some_and(|word| word == "=");
                if renamed {
                    words.remove(0);
                }
                let cluster = words.first().is_some_and(|word| word == "cluster");
                if cluster {
                    words.remove(0);
                }
                let role = if renamed { words.remove(0) } else { name.clone() };
                self.bind(&name, &role, cluster, &words);
            }
            "events" => self.rule(json!({
                "apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"],
            })),
            _ => self.rule(rule(line)),
        }
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = json!({
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {AUTOUPDATE: "true"},
        });
        if !self.namespace.is_empty() {
            metadata["namespace"] = json!(self.namespace);
        }
        metadata
    }

    fn role(&mut self, name: String) {
        let (resource, kind) = match self.namespace {
            "" => (CLUSTER_ROLES, "ClusterRole"),
            _ => (ROLES, "Role"),
        };
        let role = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": self.metadata(&name), "rules": [],
        });
        self.objects.push((resource, role));
    }

    fn bind(&mut self, name: &str, role: &str, cluster: bool, subjects: &[String]) {
        let (resource, kind, role_kind) = match self.namespace {
            "" => (CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", "ClusterRole"),
            _ if cluster => (ROLE_BINDINGS, "RoleBinding", "ClusterRole"),
            _ => (ROLE_BINDINGS, "RoleBinding", "Role"),
        };
        let subjects: Vec<Value> = subjects.iter().map(|subject| subject_of(subject)).collect();
        let mut binding = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": self.metadata(name),
            "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
        });
        if !subjects.is_empty() {
            binding["subjects"] = Value::Array(subjects);
        }
        self.objects.push((resource, binding));
    }

    /// A place in the role that was begun last.
    fn last(&mut self, path: &[&str]) -> &mut Value {
        let (_, role) = self.objects.last_mut().expect("policy.txt: a line before any role");
        objects::at(role, path)
    }

    fn rule(&mut self, rule: Value) {
        extend(self.last(&[]), "rules", vec![rule]);
    }
}

fn subject_of(word: &str) -> Value {
    match word.split_once(':') {
        Some(("user", name)) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        Some(("group", name)) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        Some(("sa", account)) => {
            let (namespace, name) = account.split_once('/').unwrap_or(("", account));
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
        _ => panic!("policy.txt: {word} is no subject"),
    }
}

fn rule(line: &str) -> Value {
    let parts: Vec<Vec<&str>> = line.split('|').map(|part| part.split_whitespace().collect()).collect();
    let verbs = |words: &[&str]| -> Vec<String> {
        let mut verbs: Vec<String> = words
            .iter()
            .flat_map(|word| match *word {
                "read" => ["get", "list", "watch"].as_slice(),
                "write" => ["create", "delete", "deletecollection", "patch", "update"].as_slice(),
                _ => std::slice::from_ref(word),
            })
            .map(|verb| (*verb).to_owned())
            .collect();
        verbs.sort_unstable();
        verbs
    };
    let sorted = |words: &[&str]| -> Vec<String> {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.sort_unstable();
        words
    };
    let groups = |words: &[&str]| -> Vec<String> {
        let name = |word: &&str| if *word == "core" { "" } else { word }.to_owned();
        words.iter().map(name).collect()
    };
    match &parts[..] {
        [words, kind, urls] if kind[..] == ["urls"] => {
            json!({"nonResourceURLs": sorted(urls), "verbs": verbs(words)})
        }
        [words, group, resources] => {
            json!({"apiGroups": groups(group), "resources": sorted(resources), "verbs": verbs(words)})
        }
        [words, group, resources, names] => json!({
            "apiGroups": groups(group), "resourceNames": sorted(names), "resources": sorted(resources),
            "verbs": verbs(words),
        }),
        _ => panic!("policy.txt: {line} is no rule"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::admission::objects::tests::Fixture;

    fn find(resource: GroupResource<'static>, name: &str) -> Value {
        objects()
            .into_iter()
            .find(|(of, object)| *of == resource && objects::name(object) == name)
            .unwrap_or_else(|| panic!("no {resource} {name}"))
            .1
    }

    #[test]
    fn the_text_is_well_formed() {
        let all = objects();
        let keys: BTreeSet<String> = all
            .iter()
            .map(|(resource, object)| {
                format!("{resource}/{}/{}", objects::namespace(object), objects::name(object))
            })
            .collect();
        assert_eq!(keys.len(), all.len(), "an object is there twice");
        for (resource, object) in &all {
            let name = objects::name(object);
            if *resource == CLUSTER_ROLES || *resource == ROLES {
                let filled = object["rules"].as_array().is_some_and(|rules| !rules.is_empty());
                assert_ne!(filled, object["aggregationRule"].is_object(), "{name}");
            } else {
                let role = object["roleRef"]["name"].as_str().expect("a role");
                let plural = match object["roleRef"]["kind"].as_str() {
                    Some("ClusterRole") => "clusterroles.rbac.authorization.k8s.io/",
                    _ => "roles.rbac.authorization.k8s.io/",
                };
                let found =
                    keys.iter().any(|key| key.starts_with(plural) && key.ends_with(&format!("/{role}")));
                assert!(found, "{name} binds {role}, which is not there");
            }
        }
    }

    #[test]
    fn objects_look_as_upstreams() {
        assert_eq!(
            find(CLUSTER_ROLES, "cluster-admin"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "cluster-admin", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                             "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
                "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                          {"nonResourceURLs": ["*"], "verbs": ["*"]}],
            })
        );
        let binding = find(ROLE_BINDINGS, "system::leader-locking-kube-scheduler");
        assert_eq!(binding["metadata"]["namespace"], "kube-system");
        assert_eq!(binding["roleRef"]["kind"], "Role");
        assert_eq!(
            binding["subjects"][1],
            json!({"kind": "ServiceAccount", "name": "kube-scheduler", "namespace": "kube-system"})
        );
        let edit = find(CLUSTER_ROLES, "edit");
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
        assert!(edit["rules"].is_null());
    }

    #[test]
    fn reconciling_adds_what_is_missing_and_nothing_else() {
        let complete = objects()
            .into_iter()
            .fold(Fixture::new(), |fixture, (resource, object)| fixture.add(resource, object));
        assert!(reconcile(&complete).is_empty());
        assert_eq!(reconcile(&Fixture::new()).len(), objects().len());

        let mut role = find(CLUSTER_ROLES, "system:kube-dns");
        let extra = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        role["rules"] = json!([extra]);
        let writes = reconcile(&complete.add(CLUSTER_ROLES, role.clone()));
        assert_eq!(writes.len(), 1);
        assert!(writes[0].exists);
        assert_eq!(writes[0].object["rules"].as_array().map(Vec::len), Some(2));
        assert_eq!(writes[0].object["rules"][0], extra);

        role["metadata"]["annotations"] = json!({});
        assert!(updated(&role, &find(CLUSTER_ROLES, "system:kube-dns")).is_none());
    }
}
