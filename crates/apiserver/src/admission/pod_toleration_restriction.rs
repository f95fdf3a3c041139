//! PodTolerationRestriction: pods of a namespace tolerate what it says, and nothing that it does not list.

use api::pods::qos_class;
use api::status::Status;
use serde_json::{Value, json};

use super::objects::{NAMESPACES, Objects, annotation, at, items};
use super::{AdmissionRequest, Operation};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY: &str = "node.kubernetes.io/memory-pressure";

/// For namespaces that say nothing.
#[derive(Default)]
pub struct Tolerations {
    default: Vec<Value>,
    allowed: Vec<Value>,
}

impl Tolerations {
    pub fn read(config: &Value) -> Self {
        let list = |field: &str| items(&config[field]).cloned().collect();
        Self { default: list("default"), allowed: list("whitelist") }
    }

    pub fn mutate(&self, request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
        if !request.creates("", "pods") {
            return Ok(());
        }
        let mut wanted = self.of(request, objects, DEFAULTS, &self.default)?;
        if qos_class(&request.object) != "BestEffort" {
            wanted.push(json!({"key": MEMORY, "operator": "Exists", "effect": "NoSchedule"}));
        }
        let mut all: Vec<Value> = items(&request.object["spec"]["tolerations"]).cloned().collect();
        all.extend(wanted);
        // What another one covers says nothing more; of equal ones the first stays.
        let covered = |index: usize, own: &Value| {
            all.iter().enumerate().any(|(other, covering)| {
                other != index && covers(covering, own) && (!covers(own, covering) || other < index)
            })
        };
        let kept: Vec<Value> =
            all.iter().enumerate().filter(|(i, own)| !covered(*i, own)).map(|(_, own)| own.clone()).collect();
        if !kept.is_empty() {
            *at(&mut request.object, &["spec", "tolerations"]) = Value::Array(kept);
        }
        self.validate(request, objects)
    }

    pub fn validate(&self, request: &AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is("", "pods") {
            return Ok(());
        }
        let allowed = self.of(request, objects, ALLOWED, &self.allowed)?;
        let listed = |own: &Value| allowed.iter().any(|listed| covers(listed, own));
        if allowed.is_empty() || items(&request.object["spec"]["tolerations"]).all(listed) {
            return Ok(());
        }
        let why = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace \
                   whitelist";
        Err(request.forbidden(why))
    }

    /// What the namespace of the pod says, or else the configuration.
    fn of(
        &self,
        request: &AdmissionRequest<'_>,
        objects: &dyn Objects,
        key: &str,
        default: &[Value],
    ) -> Result<Vec<Value>, Status> {
        let namespace = objects.get(NAMESPACES, "", request.namespace);
        let text = namespace.as_deref().map_or("", |namespace| annotation(namespace, key));
        if text.is_empty() {
            return Ok(default.to_vec());
        }
        serde_json::from_str(text).map_err(|error| {
            request.forbidden(format!("annotation {key} of its namespace is no list of tolerations: {error}"))
        })
    }
}

/// Whether whatever `own` tolerates, `wide` does.
fn covers(wide: &Value, own: &Value) -> bool {
    let same_or_any = |field: &str| text(wide, field).is_empty() || text(wide, field) == text(own, field);
    if !same_or_any("key") || !same_or_any("effect") {
        return false;
    }
    if text(wide, "effect") == "NoExecute"
        && let Some(longest) = wide["tolerationSeconds"].as_i64()
        && own["tolerationSeconds"].as_i64().is_none_or(|seconds| seconds > longest)
    {
        return false;
    }
    match text(wide, "operator") {
        "Exists" => true,
        operator => {
            let equal = |operator: &str| matches!(operator, "" | "Equal");
            let (wide_is, own_is) = (equal(operator), equal(text(own, "operator")));
            (wide_is && own_is || operator == text(own, "operator"))
                && text(wide, "value") == text(own, "value")
        }
    }
}

fn text<'a>(toleration: &'a Value, field: &str) -> &'a str {
    toleration[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn pod(tolerations: Value) -> Case {
        let metadata = json!({"name": "p", "namespace": "n"});
        Case::create("", "pods", json!({"metadata": metadata, "spec": {"tolerations": tolerations}}))
    }

    fn namespace(annotations: Value) -> Fixture {
        Fixture::new().add(NAMESPACES, json!({"metadata": {"name": "n", "annotations": annotations}}))
    }

    #[test]
    fn a_namespace_gives_tolerations() {
        let defaults = json!([{"key": "a", "operator": "Exists"}]).to_string();
        let objects = namespace(json!({DEFAULTS: defaults}));
        let plugin = Tolerations::default();
        let given = |case: Case| {
            let changed = case.run(|request| plugin.mutate(request, &objects)).unwrap();
            changed["spec"]["tolerations"].clone()
        };
        assert_eq!(given(pod(json!([]))), json!([{"key": "a", "operator": "Exists"}]));
        // What they cover goes.
        let own =
            json!([{"key": "a", "operator": "Equal", "value": "x"}, {"key": "b", "operator": "Exists"}]);
        let merged = json!([{"key": "b", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]);
        assert_eq!(given(pod(own)), merged);
        let mut burstable = pod(json!([]));
        burstable.object["spec"]["containers"] =
            json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
        assert_eq!(given(burstable)[1]["key"], MEMORY);
        let configured = Tolerations::read(&json!({"default": [{"key": "c", "operator": "Exists"}]}));
        let changed =
            pod(json!([])).run(|request| configured.mutate(request, &namespace(json!({})))).unwrap();
        assert_eq!(changed["spec"]["tolerations"][0]["key"], "c");
    }

    #[test]
    fn others_are_refused() {
        let allowed = json!([
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
            {"key": "b", "value": "x"},
        ]);
        let objects = namespace(json!({ALLOWED: allowed.to_string()}));
        let plugin = Tolerations::default();
        let refused =
            |tolerations: Value| !pod(tolerations).refusal(|r| plugin.validate(r, &objects)).is_empty();
        assert!(!refused(json!([])));
        let execute = |seconds: Value| json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        assert!(!refused(execute(json!(60))));
        assert!(refused(execute(json!(61))));
        assert!(refused(execute(Value::Null)));
        assert!(!refused(json!([{"key": "b", "operator": "Equal", "value": "x", "effect": "NoSchedule"}])));
        assert!(refused(json!([{"key": "b", "operator": "Exists"}])));
        assert!(refused(json!([{"operator": "Exists"}])));
        let broken = namespace(json!({ALLOWED: "{"}));
        let why = pod(json!([])).refusal(|request| plugin.validate(request, &broken));
        assert!(why.contains("of its namespace is no list of tolerations"), "{why}");
    }
}
