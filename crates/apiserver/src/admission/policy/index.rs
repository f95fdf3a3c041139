//! The policies of one sort with their bindings.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::status::GroupResource;
use serde_json::Value;

use super::binding::Binding;
use super::spec::Policy;
use crate::authz::follow::Derived;

/// A policy that is bound.
pub type Bound = (Arc<Policy>, Vec<Arc<Binding>>);

#[derive(Default)]
pub struct Policies {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    /// By the names of policies and bindings: the order in which they apply.
    bound: Arc<[Bound]>,
}

impl Policies {
    pub fn bound(&self) -> Arc<[Bound]> {
        self.bound.clone()
    }

    fn arrange(&mut self) {
        let mut of: BTreeMap<&str, Vec<Arc<Binding>>> = BTreeMap::new();
        for binding in self.bindings.values() {
            of.entry(&binding.policy).or_default().push(binding.clone());
        }
        let bound = self.policies.iter().filter_map(|(name, policy)| {
            let bindings = of.remove(name.as_str())?;
            Some((policy.clone(), bindings))
        });
        self.bound = bound.collect();
    }
}

/// Bindings are told apart from policies by the name of the resource.
fn is_binding(resource: GroupResource<'_>) -> bool {
    resource.resource.ends_with("bindings")
}

impl Derived for Policies {
    fn apply(&mut self, resource: GroupResource<'static>, _: &str, name: &str, object: Option<&Value>) {
        match (is_binding(resource), object) {
            (true, Some(object)) => {
                self.bindings.insert(name.to_owned(), Arc::new(Binding::read(name, object)));
            }
            (true, None) => {
                self.bindings.remove(name);
            }
            (false, Some(object)) => {
                self.policies.insert(name.to_owned(), Arc::new(Policy::read(name, object)));
            }
            (false, None) => {
                self.policies.remove(name);
            }
        }
        self.arrange();
    }

    fn forget(&mut self, resource: GroupResource<'static>) {
        match is_binding(resource) {
            true => self.bindings.clear(),
            false => self.policies.clear(),
        }
        self.arrange();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::VALIDATING;
    use super::*;

    #[test]
    fn policies_apply_where_they_are_bound() {
        let [policies, bindings] = VALIDATING;
        let mut index = Policies::default();
        let binding = |policy: &str| json!({"spec": {"policyName": policy, "validationActions": ["Deny"]}});
        let told = |index: &Policies| {
            let bound = index.bound();
            let told = bound.iter().map(|(policy, bindings)| {
                let names: Vec<&str> = bindings.iter().map(|binding| binding.name.as_str()).collect();
                format!("{}: {}", policy.name, names.join(" "))
            });
            told.collect::<Vec<_>>()
        };
        index.apply(bindings, "", "b2", Some(&binding("p")));
        assert!(told(&index).is_empty());
        index.apply(policies, "", "p", Some(&json!({"spec": {}})));
        index.apply(policies, "", "unbound", Some(&json!({"spec": {}})));
        index.apply(bindings, "", "b1", Some(&binding("p")));
        assert_eq!(told(&index), ["p: b1 b2"]);
        index.apply(bindings, "", "b2", None);
        assert_eq!(told(&index), ["p: b1"]);
        index.forget(policies);
        assert!(told(&index).is_empty());
    }
}
