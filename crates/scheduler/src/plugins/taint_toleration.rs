//! Keeps pods off nodes whose taints they do not tolerate, and prefers nodes without taints that ask for it.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Local, Refusal};
use crate::cluster::NodeState;
use crate::pod::PodInfo;

pub struct Tolerant {
    tolerations: Vec<Toleration>,
}

impl Tolerant {
    pub fn new(pod: &PodInfo) -> Self {
        Self { tolerations: pod.spec().and_then(|spec| spec.tolerations.clone()).unwrap_or_default() }
    }

    /// Taints that would rather not have the pod. The more, the worse.
    pub fn disliked(&self, node: &NodeState) -> i64 {
        let soft = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
        let disliked = soft.filter(|taint| !tolerates(&self.tolerations, taint)).count();
        i64::try_from(disliked).unwrap_or(i64::MAX)
    }
}

impl Local for Tolerant {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let mut hard = node.taints().iter().filter(|taint| taint.effect != "PreferNoSchedule");
        if hard.all(|taint| tolerates(&self.tolerations, taint)) {
            return Ok(());
        }
        Err(Refusal::for_good("node(s) had untolerated taint(s)"))
    }
}

pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && operator == "Exists"))
            && match operator {
                "" | "Equal" => {
                    toleration.value.as_deref().unwrap_or_default()
                        == taint.value.as_deref().unwrap_or_default()
                }
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
            assert_eq!(tolerates(&tolerations, &taint), expected, "{tolerations:?}");
        };
        check(json!({"key": "k", "value": "v", "effect": "NoSchedule"}), true);
        check(json!({"key": "k", "value": "v"}), true);
        check(json!({"key": "k", "value": "x"}), false);
        check(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true);
        check(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false);
        check(json!({"operator": "Exists"}), true);
        check(json!({}), false);
        assert!(!tolerates(&[], &taint));
    }
}
