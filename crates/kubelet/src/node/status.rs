//! The conditions of a node.

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What the node's conditions are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Why the runtime cannot run pods; nothing when it can.
    pub runtime: Option<String>,
    pub memory_pressure: bool,
    pub disk_pressure: bool,
    pub pid_pressure: bool,
}

/// What the runtime says of itself, as the reason for not being ready.
pub fn runtime_trouble(status: Result<cri::StatusResponse, crate::cri::CriError>) -> Option<String> {
    let status = match status {
        Ok(status) => status.status.unwrap_or_default(),
        Err(error) => return Some(format!("container runtime is down: {error}")),
    };
    let find = |name: &str| status.conditions.iter().find(|condition| condition.r#type == name);
    for (name, what) in [("RuntimeReady", "container runtime"), ("NetworkReady", "container runtime network")]
    {
        match find(name) {
            Some(condition) if condition.status => {}
            Some(condition) => {
                return Some(format!(
                    "{what} not ready: {name}=false reason:{} message:{}",
                    condition.reason, condition.message
                ));
            }
            None => return Some(format!("{what} status unknown: it does not report {name}")),
        }
    }
    None
}

/// The node's conditions; times of those that have not changed are the old ones'.
pub fn conditions(health: &Health, old: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let pressure =
        |type_: &'static str, on: bool, has: &'static str, has_not: &'static str, yes: &str, no: &str| {
            let (reason, message) = if on { (has, yes) } else { (has_not, no) };
            (type_, on, reason.to_owned(), message.to_owned())
        };
    let ready = match &health.runtime {
        None => ("Ready", true, "KubeletReady".to_owned(), "kubelet is posting ready status".to_owned()),
        Some(trouble) => ("Ready", false, "KubeletNotReady".to_owned(), trouble.clone()),
    };
    let all = [
        pressure(
            "MemoryPressure",
            health.memory_pressure,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        ),
        pressure(
            "DiskPressure",
            health.disk_pressure,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has disk pressure",
            "kubelet has no disk pressure",
        ),
        pressure(
            "PIDPressure",
            health.pid_pressure,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        ),
        ready,
    ];
    all.into_iter()
        .map(|(type_, on, reason, message)| {
            let status = if on { "True" } else { "False" };
            let same = old.iter().find(|old| old.type_ == type_ && old.status == status);
            NodeCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: same
                    .and_then(|same| same.last_transition_time.clone())
                    .or(Some(Time(now))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_times_are_kept() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = conditions(&Health::default(), &[], at(1));
        let second = conditions(&Health::default(), &first, at(2));
        assert!(second.iter().all(|condition| condition.last_transition_time == Some(Time(at(1)))));
        let broken = Health { runtime: Some("no".into()), ..Default::default() };
        let third = conditions(&broken, &second, at(3));
        let ready = third.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.last_transition_time.clone()), ("False", Some(Time(at(3)))));
    }

    #[test]
    fn the_network_has_to_be_ready() {
        let condition =
            |name: &str, status| cri::RuntimeCondition { r#type: name.into(), status, ..Default::default() };
        let check = |conditions: Vec<cri::RuntimeCondition>, ready: bool| {
            let status =
                cri::StatusResponse { status: Some(cri::RuntimeStatus { conditions }), ..Default::default() };
            assert_eq!(runtime_trouble(Ok(status)).is_none(), ready);
        };
        check(vec![condition("RuntimeReady", true), condition("NetworkReady", true)], true);
        check(vec![condition("RuntimeReady", true), condition("NetworkReady", false)], false);
        check(vec![condition("RuntimeReady", true)], false);
    }
}
