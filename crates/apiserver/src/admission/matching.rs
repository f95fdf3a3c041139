//! Which requests a webhook or policy is about: rules, selectors, and what `matchPolicy` makes of other versions.

use api::gvk::{GroupVersionKind, GroupVersionResource};
use api::registry::Registry;
use api::selector::LabelSelector;
use api::status::Status;
use serde_json::Value;

use super::objects::{NAMESPACES, Objects, items};
use super::{AdmissionRequest, Operation};
use crate::catalog;

/// One entry of `rules`, `resourceRules` or `excludeResourceRules`.
#[derive(Debug)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
}

/// What is matched against.
#[derive(Debug)]
pub struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    equivalent: bool,
}

/// As what a request matches: the resource itself, or another version of it that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    pub resource: GroupVersionResource,
    pub kind: GroupVersionKind,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let texts = |field: &str| -> Vec<String> {
            items(&rule[field]).filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            scope: match rule["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::All,
            },
        }
    }

    fn matches(&self, request: &AdmissionRequest<'_>, resource: &GroupVersionResource) -> bool {
        let any = |list: &[String], value: &str| list.iter().any(|entry| entry == "*" || entry == value);
        let namespaced = !request.namespace.is_empty() && !request.is_namespace();
        let in_scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => !namespaced,
            Scope::Namespaced => namespaced,
        };
        in_scope
            && any(&self.operations, request.operation.as_str())
            && any(&self.groups, &resource.group)
            && any(&self.versions, &resource.version)
            && self.resources.iter().any(|entry| covers(entry, &resource.resource, request.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*` (no subresources), `*/*`.
fn covers(entry: &str, resource: &str, subresource: &str) -> bool {
    let (of, sub) = entry.split_once('/').unwrap_or((entry, ""));
    let every = entry == "*/*";
    (of == "*" || of == resource) && (every || sub == subresource || (sub == "*" && !subresource.is_empty()))
}

impl Criteria {
    /// Of a webhook, which has everything in one place, or of `matchConstraints` and `matchResources`.
    pub fn read(from: &Value) -> Result<Self, String> {
        let rules = |field: &str| items(&from[field]).map(Rule::read).collect::<Vec<_>>();
        let selector = |field: &str| match from.get(field) {
            None | Some(Value::Null) => Ok(LabelSelector::everything()),
            given => LabelSelector::from_object(given).map_err(|error| format!("{field}: {error}")),
        };
        let mut all = rules("rules");
        all.extend(rules("resourceRules"));
        Ok(Self {
            rules: all,
            excluded: rules("excludeResourceRules"),
            namespaces: selector("namespaceSelector")?,
            objects: selector("objectSelector")?,
            equivalent: from["matchPolicy"].as_str() != Some("Exact"),
        })
    }

    /// Whether there are rules at all: a binding without any restricts nothing by them.
    fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// As what the request matches, if it does. Without rules everything matches where `open` says so.
    pub fn matched(
        &self,
        request: &AdmissionRequest<'_>,
        registry: &Registry,
        objects: &dyn Objects,
        open: bool,
    ) -> Result<Option<Matched>, Status> {
        let own = || Matched { resource: request.resource.clone(), kind: request.kind.clone() };
        if self.by_rules(&self.excluded, request, registry).is_some() {
            return Ok(None);
        }
        let matched = match self.has_rules() || !open {
            true => self.by_rules(&self.rules, request, registry),
            false => Some(own()),
        };
        let Some(matched) = matched else { return Ok(None) };
        if !self.objects.is_everything() && !self.selects_object(request) {
            return Ok(None);
        }
        if !self.namespaces.is_everything() && !self.selects_namespace(request, objects)? {
            return Ok(None);
        }
        Ok(Some(matched))
    }

    fn by_rules(
        &self,
        rules: &[Rule],
        request: &AdmissionRequest<'_>,
        registry: &Registry,
    ) -> Option<Matched> {
        if rules.iter().any(|rule| rule.matches(request, request.resource)) {
            return Some(Matched { resource: request.resource.clone(), kind: request.kind.clone() });
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        equivalents(request, registry)
            .into_iter()
            .find(|(resource, _)| rules.iter().any(|rule| rule.matches(request, resource)))
            .map(|(resource, kind)| Matched { resource, kind })
    }

    /// The new object or the old one has the labels.
    fn selects_object(&self, request: &AdmissionRequest<'_>) -> bool {
        [&request.object, request.old_object].into_iter().any(|object| {
            object["metadata"].is_object() && self.objects.matches(&object["metadata"]["labels"])
        })
    }

    fn selects_namespace(
        &self,
        request: &AdmissionRequest<'_>,
        objects: &dyn Objects,
    ) -> Result<bool, Status> {
        if request.is_namespace() && matches!(request.operation, Operation::Create | Operation::Update) {
            // What the cache has is not what is about to be.
            return Ok(self.namespaces.matches(&request.object["metadata"]["labels"]));
        }
        let name = if request.is_namespace() { request.name } else { request.namespace };
        if name.is_empty() {
            return Ok(true);
        }
        match objects.get(NAMESPACES, "", name) {
            Some(namespace) => Ok(self.namespaces.matches(&namespace["metadata"]["labels"])),
            None => Err(Status::not_found(NAMESPACES, name)),
        }
    }
}

/// The same objects under other versions or groups.
fn equivalents(
    request: &AdmissionRequest<'_>,
    registry: &Registry,
) -> Vec<(GroupVersionResource, GroupVersionKind)> {
    let asked = request.resource;
    let stored = |group: &str| {
        catalog::storage(registry, group, &asked.resource).map(|storage| (storage.group, storage.plural))
    };
    let kept_as = stored(&asked.group);
    let kind = |own: &GroupVersionKind| match request.subresource {
        "" | "status" => own.clone(),
        _ => request.kind.clone(),
    };
    registry
        .iter()
        .filter(|other| other.plural == asked.resource && other.gvr() != *asked)
        .filter(|other| stored(&other.gvk.group) == kept_as)
        .map(|other| (other.gvr(), kind(&other.gvk)))
        .collect()
}

const ADMISSION: &str = "admissionregistration.k8s.io";

impl AdmissionRequest<'_> {
    /// Whether it is about a Namespace itself.
    pub fn is_namespace(&self) -> bool {
        self.resource.group.is_empty() && self.resource.resource == "namespaces"
    }

    /// Webhook configurations, policies and their bindings: who could refuse changes of them could lock everyone out.
    pub fn configures_admission(&self) -> bool {
        const KINDS: [&str; 6] = [
            "validatingwebhookconfigurations",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ];
        self.resource.group == ADMISSION && KINDS.contains(&self.resource.resource.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::objects::tests::Fixture;
    use crate::admission::testing::Case;

    #[test]
    fn resources_and_subresources() {
        let check = |entry: &str, resource: &str, subresource: &str, expected: bool| {
            assert_eq!(covers(entry, resource, subresource), expected, "{entry} {resource}/{subresource}");
        };
        check("pods", "pods", "", true);
        check("pods", "pods", "log", false);
        check("pods/log", "pods", "log", true);
        check("pods/*", "pods", "log", true);
        check("pods/*", "pods", "", false);
        check("*", "pods", "", true);
        check("*", "pods", "log", false);
        check("*/*", "pods", "", true);
        check("*/*", "pods", "log", true);
        check("*/scale", "deployments", "scale", true);
        check("*/scale", "deployments", "status", false);
    }

    #[track_caller]
    fn check(criteria: Value, case: &Case, expected: Option<&str>) {
        let objects = Fixture::new()
            .add(NAMESPACES, json!({"metadata": {"name": "prod", "labels": {"env": "prod"}}}))
            .add(NAMESPACES, json!({"metadata": {"name": "test", "labels": {"env": "test"}}}));
        let read = Criteria::read(&criteria).unwrap();
        let registry = Registry::builtin();
        let mut found = None;
        case.run(|request| {
            found = read.matched(request, &registry, &objects, false)?;
            Ok(())
        })
        .unwrap();
        let found = found.map(|matched| matched.resource.to_string());
        assert_eq!(found.as_deref(), expected, "{criteria}");
    }

    #[test]
    fn rules_and_selectors() {
        let pod = json!({"metadata": {"name": "p", "namespace": "prod", "labels": {"app": "x"}}});
        let case = Case::create("", "pods", pod);
        let with = |more: Value| {
            let mut criteria = json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""],
                "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}]});
            for (key, value) in more.as_object().unwrap() {
                criteria[key] = value.clone();
            }
            criteria
        };
        let own = GroupVersionResource::new("", "v1", "pods").to_string();
        let own = Some(own.as_str());
        check(with(json!({})), &case, own);
        check(with(json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}})), &case, own);
        check(with(json!({"namespaceSelector": {"matchLabels": {"env": "test"}}})), &case, None);
        check(with(json!({"objectSelector": {"matchLabels": {"app": "x"}}})), &case, own);
        check(with(json!({"objectSelector": {"matchLabels": {"app": "y"}}})), &case, None);
        let rule = |field: &str, value: Value| {
            let mut criteria = with(json!({}));
            criteria["rules"][0][field] = value;
            criteria
        };
        check(rule("operations", json!(["*"])), &case, own);
        check(rule("operations", json!(["UPDATE"])), &case, None);
        check(rule("apiGroups", json!(["apps"])), &case, None);
        check(rule("apiVersions", json!(["v2"])), &case, None);
        check(rule("scope", json!("Cluster")), &case, None);
        check(rule("scope", json!("Namespaced")), &case, own);
        check(rule("resourceNames", json!(["other"])), &case, None);
        let excluding = json!({"excludeResourceRules": with(json!({}))["rules"]});
        check(with(excluding), &case, None);
    }

    #[test]
    fn other_versions_match_unless_exact() {
        let object = json!({"metadata": {"name": "h", "namespace": "prod"}});
        let mut case = Case::create("autoscaling", "horizontalpodautoscalers", object);
        case.resource = GroupVersionResource::new("autoscaling", "v1", "horizontalpodautoscalers");
        let rules = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
            "resources": ["horizontalpodautoscalers"]}]);
        let v2 = GroupVersionResource::new("autoscaling", "v2", "horizontalpodautoscalers").to_string();
        check(json!({"rules": rules, "matchPolicy": "Equivalent"}), &case, Some(&v2));
        check(json!({"rules": rules, "matchPolicy": "Exact"}), &case, None);
    }
}
