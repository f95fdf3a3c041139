//! Fills ClusterRoles that are made of others: `admin`, `edit`, `view`, and those of users.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let (due, seen) = (queue.clone(), world.clone());
    world.cluster_roles.on(move |change| {
        for role in change.old.iter().chain(&change.new) {
            if role.aggregation_rule.is_some() {
                due.add(Key::of(&***role));
            }
            // One may be a part of several, itself made of others.
            for whole in seen.cluster_roles.list() {
                if is_part(&whole, role) {
                    due.add_lazily(Key::of(&*whole));
                }
            }
        }
    });
    loops.add(Aggregation { world: world.clone() }, queue);
}

fn is_part(whole: &ClusterRole, part: &ClusterRole) -> bool {
    let selectors = whole.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref());
    let mut selectors = selectors.into_iter().flatten();
    meta::name(whole) != meta::name(part)
        && selectors.any(|selector| meta::selects(selector, part.metadata.labels.as_ref()))
}

struct Aggregation {
    world: Arc<World>,
}

impl Controller for Aggregation {
    const NAME: &'static str = "clusterrole-aggregation-controller";
    const QUEUE: &'static str = "ClusterRoleAggregator";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(role) = self.world.cluster_roles.by_key(key) else { return Ok(None) };
        if role.aggregation_rule.is_none() || meta::is_terminating(&*role) {
            return Ok(None);
        }
        let rules = aggregate(&role, self.world.cluster_roles.list());
        if role.rules.as_deref().unwrap_or_default() != rules {
            let updated = ClusterRole { rules: Some(rules), ..(*role).clone() };
            self.world.cluster_roles.replace(&updated).await?;
        }
        Ok(None)
    }
}

/// The rules of all parts, in the order of their names, each once.
fn aggregate(whole: &ClusterRole, mut all: Vec<Arc<ClusterRole>>) -> Vec<PolicyRule> {
    all.retain(|part| is_part(whole, part));
    all.sort_by(|a, b| meta::name(&**a).cmp(meta::name(&**b)));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in all.iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_the_parts_are_joined() {
        let role = |name: &str, verbs: &[&str]| -> Arc<ClusterRole> {
            let rules: Vec<_> = verbs.iter().map(|verb| json!({"verbs": [verb]})).collect();
            Arc::new(
                serde_json::from_value(
                    json!({"metadata": {"name": name, "labels": {"to": "view"}}, "rules": rules}),
                )
                .unwrap(),
            )
        };
        let whole: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "view", "labels": {"to": "view"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]}, "rules": [{"verbs": ["old"]}]}))
        .unwrap();
        let mut stranger = (*role("c", &["delete"])).clone();
        stranger.metadata.labels = None;
        let all = vec![
            role("b", &["list", "get"]),
            role("a", &["get"]),
            Arc::new(stranger),
            Arc::new(whole.clone()),
        ];
        let verbs: Vec<_> = aggregate(&whole, all).into_iter().flat_map(|rule| rule.verbs).collect();
        assert_eq!(verbs, ["get", "list"]);
    }
}
