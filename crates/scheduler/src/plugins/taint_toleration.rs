//! Keeps pods off nodes whose taints they do not tolerate, and prefers nodes without taints that ask for it.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Check, Events, Plugin, Refusal, normalize_to_max};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;

pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref());
        Some(Box::new(Tolerant(tolerations)))
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_TAINTS)
    }

    fn weight(&self) -> i64 {
        3
    }
}

struct Tolerant<'a>(Option<&'a [Toleration]>);

impl Check for Tolerant<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let mut hard = taints(node).iter().filter(|taint| taint.effect != "PreferNoSchedule");
        match hard.find(|taint| !tolerates(self.0, taint)) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Err(Refusal::for_good(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
            }
        }
    }

    fn scores(&self) -> bool {
        true
    }

    fn score(&self, node: &NodeState) -> i64 {
        let soft = taints(node).iter().filter(|taint| taint.effect == "PreferNoSchedule");
        let disliked = soft.filter(|taint| !tolerates(self.0, taint)).count();
        i64::try_from(disliked).unwrap_or(0)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_max(scores, true);
    }
}

fn taints(node: &NodeState) -> &[Taint] {
    let spec = node.node.as_ref().and_then(|node| node.spec.as_ref());
    spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

pub fn tolerates(tolerations: Option<&[Toleration]>, taint: &Taint) -> bool {
    tolerations.unwrap_or_default().iter().any(|toleration| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let effect = text(&toleration.effect);
        let key = text(&toleration.key);
        let operator = text(&toleration.operator);
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && operator == "Exists"))
            && match operator.as_str() {
                "" | "Equal" => text(&toleration.value) == text(&taint.value),
                "Exists" => true,
                "Gt" => compare(toleration, taint, |taint, bound| taint > bound),
                "Lt" => compare(toleration, taint, |taint, bound| taint < bound),
                _ => false,
            }
    })
}

fn compare(toleration: &Toleration, taint: &Taint, fits: fn(i64, i64) -> bool) -> bool {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    let (taint, bound): (Option<i64>, Option<i64>) = (number(&taint.value), number(&toleration.value));
    taint.zip(bound).is_some_and(|(taint, bound)| fits(taint, bound))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn taints_need_a_fitting_toleration() {
        let taint: Taint =
            serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoSchedule"})).unwrap();
        let check = |toleration: serde_json::Value, expected: bool| {
            let tolerations: Vec<Toleration> = vec![serde_json::from_value(toleration).unwrap()];
            assert_eq!(tolerates(Some(&tolerations), &taint), expected, "{tolerations:?}");
        };
        check(json!({"key": "k", "value": "v", "effect": "NoSchedule"}), true);
        check(json!({"key": "k", "value": "v"}), true);
        check(json!({"key": "k", "value": "x"}), false);
        check(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true);
        check(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false);
        check(json!({"operator": "Exists"}), true);
        check(json!({}), false);
        assert!(!tolerates(None, &taint));
    }
}
