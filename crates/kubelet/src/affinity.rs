//! What a new pod is given of CPUs, memory and devices, near each other: the topology manager's acting half.
//!
//! Asked once, when a pod is admitted. The managers' hints are joined container by container, or for the whole pod; then
//! each manager gives, and writes down what. A pod that cannot be served is rejected, and leaves nothing behind.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::config::KubeletConfiguration;
use crate::context::Context;
use crate::meters;
use crate::numa::machine::Machine;
use crate::numa::policy::{Kind, Policy, Scope};
use crate::numa::{Hint, Hints};
use crate::pod::admission::Rejection;
use crate::pod::ext::PodExt;

pub struct Affinity {
    machine: Arc<Machine>,
    policy: Policy,
    /// One pod at a time: what one gets the next one cannot have.
    giving: tokio::sync::Mutex<()>,
}

impl Affinity {
    pub fn new(config: &KubeletConfiguration, machine: Arc<Machine>) -> Result<Self, String> {
        let policy = Policy::new(config, &machine)?;
        Ok(Self { machine, policy, giving: tokio::sync::Mutex::default() })
    }
}

/// What containers have at a time, at most: all together, or an init container with the sidecars before it.
pub fn most(spec: &PodSpec, of: impl Fn(&Container) -> usize) -> usize {
    let (mut sidecars, mut most) = (0_usize, 0_usize);
    for init in spec.init_containers.iter().flatten() {
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(of(init));
        } else {
            most = most.max(sidecars.saturating_add(of(init)));
        }
    }
    let together = spec.containers.iter().map(of).fold(sidecars, usize::saturating_add);
    most.max(together)
}

/// The nodes' policy cannot be kept.
const UNALIGNED: &str = "TopologyAffinityError";

/// A manager could not give what there should be.
pub fn unexpected(why: &str) -> Rejection {
    Rejection {
        reason: "UnexpectedAdmissionError".into(),
        message: format!("Allocate failed due to {why}, which is unexpected"),
    }
}

/// Gives the pod what its containers want, or says why not.
pub async fn admit(ctx: &Context, pod: &Pod) -> Result<(), Rejection> {
    let spec = pod.pod_spec();
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let managed = ctx.cpus.is_static() || ctx.memory.is_static();
    if !managed && !containers.any(|container| ctx.devices.concerns(container)) {
        return Ok(());
    }
    let began = Instant::now();
    meters::count("kubelet_topology_manager_admission_requests_total", &[]);
    let _one_at_a_time = ctx.affinity.giving.lock().await;
    let result = give(ctx, pod).await;
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    meters::measure("kubelet_topology_manager_admission_duration_ms", &[], milliseconds);
    if result.as_ref().is_err_and(|refused| refused.reason == UNALIGNED) {
        meters::count("kubelet_topology_manager_admission_errors_total", &[]);
    }
    if result.is_err() {
        ctx.cpus.release(pod.uid());
        ctx.memory.release(pod.uid());
        ctx.devices.release(pod.uid());
    }
    result
}

async fn give(ctx: &Context, pod: &Pod) -> Result<(), Rejection> {
    let policy = &ctx.affinity.policy;
    let whole = match policy.scope {
        Scope::Pod if policy.kind != Kind::None => Some(ctx.affinity.join(&[
            ctx.cpus.pod_hints(pod),
            ctx.memory.pod_hints(pod),
            ctx.devices.pod_hints(pod),
        ])?),
        _ => None,
    };
    let spec = pod.pod_spec();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let hint = match (policy.kind, whole) {
            (Kind::None, _) => None,
            (_, Some(hint)) => Some(hint),
            (_, None) => Some(ctx.affinity.join(&[
                ctx.cpus.hints(pod, container),
                ctx.memory.hints(pod, container),
                ctx.devices.hints(pod, container),
            ])?),
        };
        ctx.cpus.allocate(pod, container, hint)?;
        ctx.memory.allocate(pod, container, hint)?;
        ctx.devices.admit(pod, container, hint).await.map_err(|error| unexpected(&error))?;
    }
    Ok(())
}

impl Affinity {
    fn join(&self, hints: &[Hints]) -> Result<Hint, Rejection> {
        match self.policy.merge(&self.machine, hints) {
            (hint, true) => Ok(hint),
            (_, false) => Err(Rejection {
                reason: UNALIGNED.into(),
                message: "Resources cannot be allocated with Topology locality".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_that_run_at_a_time() {
        let check = |inits: &[(usize, bool)], mains: &[usize], expected: usize| {
            let init = |(count, sidecar): &(usize, bool)| json!({"name": count.to_string(), "restartPolicy": sidecar.then_some("Always")});
            let main = |count: &usize| json!({"name": count.to_string()});
            let spec: PodSpec = serde_json::from_value(json!({
                "initContainers": inits.iter().map(init).collect::<Vec<_>>(),
                "containers": mains.iter().map(main).collect::<Vec<_>>()}))
            .unwrap();
            let got = most(&spec, |container| container.name.parse().unwrap());
            assert_eq!(got, expected, "{inits:?} {mains:?}");
        };
        check(&[], &[1, 2], 3);
        check(&[(5, false)], &[1, 2], 5);
        check(&[(1, true), (5, false)], &[1, 2], 6);
        check(&[(5, false), (1, true)], &[1, 2], 5);
        check(&[(5, false), (3, true)], &[1, 2], 6);
    }
}
