//! Disruption budgets: who would rather not be sent away.

use std::collections::HashMap;
use std::sync::Arc;

use client::Delta;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::labels::selects;
use crate::pod::PodInfo;

#[derive(Default)]
pub struct Budgets(HashMap<(String, String), Arc<PodDisruptionBudget>>);

impl Budgets {
    pub fn changed(&mut self, delta: &Delta<PodDisruptionBudget>) {
        let Some(budget) = delta.object() else { return };
        let meta = &budget.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        match delta {
            Delta::Deleted(_) => drop(self.0.remove(&key)),
            _ => drop(self.0.insert(key, budget.clone())),
        }
    }

    /// Pods whose going would break a budget, counting those before them, and the others. Both keep their order.
    pub fn split(&self, pods: &[Arc<PodInfo>]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        let allowed = |budget: &PodDisruptionBudget| {
            budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
        };
        let mut left: Vec<_> = self.0.values().map(|budget| (budget, allowed(budget))).collect();
        let (mut protected, mut free) = (Vec::new(), Vec::new());
        for pod in pods {
            let mut breaks = false;
            let labels = pod.pod.metadata.labels.as_ref();
            for (budget, left) in &mut left {
                let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let applies = budget.metadata.namespace.as_deref() == Some(pod.namespace())
                    && labels.is_some_and(|labels| !labels.is_empty())
                    && selects(selector, labels);
                // Who is known to be disrupted has been counted by the budget itself.
                let counted = || {
                    let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
                    disrupted.is_some_and(|disrupted| disrupted.contains_key(pod.name()))
                };
                if applies && !counted() {
                    *left -= 1;
                    breaks |= *left < 0;
                }
            }
            if breaks { protected.push(pod.clone()) } else { free.push(pod.clone()) }
        }
        (protected, free)
    }
}
