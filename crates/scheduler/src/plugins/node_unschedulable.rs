//! Keeps pods off nodes that are marked unschedulable (`kubectl cordon`), unless they tolerate that.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Local, Refusal, tolerates};
use crate::cluster::NodeState;
use crate::pod::PodInfo;

const TAINT: &str = "node.kubernetes.io/unschedulable";

pub struct Unschedulable {
    tolerated: bool,
}

impl Unschedulable {
    pub fn new(pod: &PodInfo) -> Self {
        let taint =
            Taint { key: TAINT.to_owned(), effect: "NoSchedule".to_owned(), value: None, time_added: None };
        let tolerations: &[Toleration] =
            pod.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        Self { tolerated: tolerates(tolerations, &taint) }
    }
}

impl Local for Unschedulable {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        if node.is_unschedulable() && !self.tolerated {
            return Err(Refusal::for_good("node(s) were unschedulable"));
        }
        Ok(())
    }
}
