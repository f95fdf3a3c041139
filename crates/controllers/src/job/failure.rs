//! What the failure of a pod means for its Job, by the Job's pod failure policy. Free of IO.

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::kit::{meta, pods};

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Counted towards the back-off limit.
    Count,
    Ignore,
    FailIndex,
    FailJob(String),
}

pub fn judge(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    for (number, rule) in policy.into_iter().flat_map(|policy| &policy.rules).enumerate() {
        let Some(why) = matching(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => {
                let pod = format!("{}/{}", meta::namespace(pod), meta::name(pod));
                let action = "FailJob";
                Verdict::FailJob(
                    why.replace("{pod}", &pod) + &format!(" matching {action} rule at index {number}"),
                )
            }
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let named =
            |status: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == status.name);
        for status in statuses(pod).filter(named) {
            let code = status
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref())
                .map(|ended| ended.exit_code);
            // Success never fails anything.
            let Some(code) = code.filter(|code| *code != 0) else { continue };
            let listed = codes.values.contains(&code);
            if listed == (codes.operator == "In") {
                return Some(format!(
                    "Container {} for pod {{pod}} failed with exit code {code}",
                    status.name
                ));
            }
        }
        return None;
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    for pattern in patterns {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        if pods::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == wanted) {
            return Some(format!("Pod {{pod}} has condition {}", pattern.type_));
        }
    }
    None
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    let main = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    init.chain(main)
}

/// How often the containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i32 {
    statuses(pod).map(|status| status.restart_count).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rules_are_tried_in_order() {
        let rules = json!([
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}},
        ]);
        let job: Job =
            serde_json::from_value(json!({"spec": {"template": {}, "podFailurePolicy": {"rules": rules}}}))
                .unwrap();
        let pod = |name: &str, code: i32, conditions: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "p"}, "status": {"phase": "Failed", "conditions": conditions,
                "containerStatuses": [{"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]}}))
            .unwrap()
        };
        let check = |pod: Pod, expected: Verdict| assert_eq!(judge(&job, &pod), expected);
        check(pod("main", 42, json!([{"type": "DisruptionTarget", "status": "True"}])), Verdict::Ignore);
        check(
            pod("main", 42, json!([])),
            Verdict::FailJob(
                "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1"
                    .into(),
            ),
        );
        check(pod("other", 42, json!([])), Verdict::FailIndex);
        check(pod("main", 1, json!([])), Verdict::Count);
        check(pod("main", 0, json!([])), Verdict::Count);
    }
}
