//! The webhooks of all configurations, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::status::GroupResource;
use expressions::Type;
use expressions::admission::environment;
use serde_json::Value;

use crate::admission::cel::Conditions;
use crate::admission::matching::Criteria;
use crate::admission::objects::items;
use crate::authz::follow::Derived;
use crate::outbound::Destination;

/// One webhook.
pub struct Hook {
    pub name: String,
    pub configuration: String,
    /// Its place in the configuration.
    pub index: usize,
    pub criteria: Result<Criteria, String>,
    pub conditions: Conditions,
    pub destination: Result<Destination, String>,
    /// A failed call fails the request.
    pub fails: bool,
    pub timeout: Duration,
    /// May be called for a dry run.
    pub dry_runs: bool,
    pub reinvoked: bool,
    /// `v1` or `v1beta1`.
    pub version: &'static str,
}

const DEFAULT_TIMEOUT: u64 = 10;
const MAX_TIMEOUT: u64 = 30;

impl Hook {
    fn read(configuration: &str, index: usize, hook: &Value) -> Self {
        let text = |field: &str| hook[field].as_str().unwrap_or_default();
        let versions: Vec<&str> = items(&hook["admissionReviewVersions"]).filter_map(Value::as_str).collect();
        let understood = versions.iter().find_map(|version| match *version {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        });
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_TIMEOUT);
        Self {
            name: text("name").to_owned(),
            configuration: configuration.to_owned(),
            index,
            criteria: Criteria::read(hook),
            conditions: Conditions::read(&hook["matchConditions"], &environment(&Type::Dyn, None)),
            destination: Destination::of_client_config(&hook["clientConfig"])
                .map_err(|error| error.to_string()),
            fails: text("failurePolicy") != "Ignore",
            timeout: Duration::from_secs(seconds.clamp(1, MAX_TIMEOUT)),
            dry_runs: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            version: understood.unwrap_or("v1"),
        }
    }

    /// Unique among all webhooks of its sort.
    pub fn id(&self) -> (&str, usize) {
        (&self.configuration, self.index)
    }
}

/// The webhooks of one sort, by the names of their configurations.
#[derive(Default)]
pub struct Hooks {
    configurations: BTreeMap<String, Vec<Arc<Hook>>>,
    /// All of them, in the order in which they are called.
    all: Arc<[Arc<Hook>]>,
}

impl Hooks {
    pub fn all(&self) -> Arc<[Arc<Hook>]> {
        self.all.clone()
    }

    fn arrange(&mut self) {
        self.all = self.configurations.values().flatten().cloned().collect();
    }
}

impl Derived for Hooks {
    fn apply(&mut self, _: GroupResource<'static>, _: &str, name: &str, object: Option<&Value>) {
        match object {
            Some(object) => {
                let hooks = items(&object["webhooks"]).enumerate();
                let hooks = hooks.map(|(index, hook)| Arc::new(Hook::read(name, index, hook))).collect();
                self.configurations.insert(name.to_owned(), hooks);
            }
            None => {
                self.configurations.remove(name);
            }
        }
        self.arrange();
    }

    fn forget(&mut self, _: GroupResource<'static>) {
        self.configurations.clear();
        self.arrange();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::VALIDATING;
    use super::*;

    #[test]
    fn are_called_in_the_order_of_names() {
        let mut hooks = Hooks::default();
        let configuration = |names: &[&str]| {
            let hooks: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"webhooks": hooks})
        };
        hooks.apply(VALIDATING, "", "b", Some(&configuration(&["b1", "b0"])));
        hooks.apply(VALIDATING, "", "a", Some(&configuration(&["a"])));
        let names = |hooks: &Hooks| hooks.all().iter().map(|hook| hook.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&hooks), ["a", "b1", "b0"]);
        hooks.apply(VALIDATING, "", "b", None);
        assert_eq!(names(&hooks), ["a"]);
        hooks.forget(VALIDATING);
        assert!(names(&hooks).is_empty());
    }

    #[test]
    fn what_is_missing_has_its_default() {
        let hook = Hook::read("c", 0, &json!({"name": "x.y.z", "timeoutSeconds": 99, "sideEffects": "Some"}));
        assert_eq!((hook.timeout.as_secs(), hook.fails, hook.dry_runs), (30, true, false));
        assert!(hook.destination.is_err());
    }
}
