//! A workload seen as a Scale.

use api::registry::Resource;
use api::selector::LabelSelector;
use serde_json::{Value, json};

use crate::catalog::Served;

/// Where the numbers of a workload are.
pub struct View {
    replicas: Vec<String>,
    current: Vec<String>,
    selector: Selector,
}

enum Selector {
    /// Labels of pods, all of which they must have (ReplicationController).
    Labels,
    /// A LabelSelector.
    Object,
    /// Custom resources say it as text, at this place.
    Text(Vec<String>),
    None,
}

impl View {
    pub fn of(served: &Served) -> Self {
        match served.custom.as_ref().and_then(|custom| custom.version.scale.as_ref()) {
            None => Self::of_builtin(&served.resource),
            Some(scale) => Self {
                replicas: scale.replicas.clone(),
                current: scale.current.clone(),
                selector: scale.selector.clone().map_or(Selector::None, Selector::Text),
            },
        }
    }

    fn of_builtin(resource: &Resource) -> Self {
        let path = |text: &str| text.split('.').map(str::to_owned).collect();
        let selector = match (resource.gvk.group.as_str(), resource.gvk.kind.as_str()) {
            ("", "ReplicationController") => Selector::Labels,
            _ => Selector::Object,
        };
        Self { replicas: path("spec.replicas"), current: path("status.replicas"), selector }
    }

    /// The Scale of an object.
    pub fn scale(&self, object: &Value) -> Value {
        let metadata = &object["metadata"];
        let mut identity = json!({});
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if !metadata[field].is_null() {
                identity[field] = metadata[field].clone();
            }
        }
        let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
        json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": identity,
            "spec": {"replicas": number(&self.replicas)},
            "status": {"replicas": number(&self.current), "selector": self.selector_of(object)},
        })
    }

    fn selector_of(&self, object: &Value) -> String {
        let selector = &object["spec"]["selector"];
        let selector = match &self.selector {
            Selector::None => return String::new(),
            Selector::Text(path) => {
                return at(object, path).and_then(Value::as_str).unwrap_or_default().to_owned();
            }
            Selector::Labels => selector.as_object().map(LabelSelector::from_map),
            Selector::Object => LabelSelector::from_object(Some(selector)).ok(),
        };
        selector.map(|selector| selector.to_string()).unwrap_or_default()
    }

    /// The object with another number of replicas.
    pub fn with_replicas(&self, mut object: Value, replicas: &Value) -> Value {
        let mut place = &mut object;
        for name in &self.replicas {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[name.as_str()];
        }
        *place = replicas.clone();
        object
    }
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::registry::Registry;

    #[test]
    fn workloads_are_seen_and_set() {
        let registry = Registry::builtin();
        let deployments = View::of_builtin(&registry.resource("apps", "v1", "deployments").unwrap());
        let object = json!({
            "metadata": {"name": "d", "labels": {"x": "y"}, "resourceVersion": "3"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}},
            "status": {"replicas": 1},
        });
        assert_eq!(
            deployments.scale(&object),
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "d", "resourceVersion": "3"},
                "spec": {"replicas": 2}, "status": {"replicas": 1, "selector": "a=b"},
            })
        );
        assert_eq!(deployments.with_replicas(object, &json!(5))["spec"]["replicas"], 5);
        assert_eq!(deployments.with_replicas(json!({}), &json!(5)), json!({"spec": {"replicas": 5}}));
        let controllers = View::of_builtin(&registry.resource("", "v1", "replicationcontrollers").unwrap());
        let scale = controllers.scale(&json!({"spec": {"selector": {"a": "b", "c": "d"}}}));
        assert_eq!(scale["status"]["selector"], "a=b,c=d");
    }
}
