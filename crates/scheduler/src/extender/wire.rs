//! What is said to extenders and what they say, in the form of `k8s.io/kube-scheduler/extender/v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub struct Args<'a> {
    pub pod: &'a Pod,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes<'a>>,
    #[serde(rename = "nodenames", skip_serializing_if = "Option::is_none")]
    pub node_names: Option<Vec<&'a str>>,
}

#[derive(Serialize)]
pub struct Nodes<'a> {
    pub items: Vec<&'a Node>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filtered {
    pub nodes: Option<FilteredNodes>,
    #[serde(rename = "nodenames")]
    pub node_names: Option<Vec<String>>,
    pub failed_nodes: Option<BTreeMap<String, String>>,
    pub failed_and_unresolvable_nodes: Option<BTreeMap<String, String>>,
    pub error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct FilteredNodes {
    pub items: Option<Vec<Node>>,
}

#[derive(Deserialize)]
pub struct HostPriority {
    pub host: String,
    pub score: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingArgs<'a> {
    pub pod_name: &'a str,
    pub pod_namespace: &'a str,
    #[serde(rename = "podUID")]
    pub pod_uid: &'a str,
    pub node: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct BindingResult {
    pub error: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreemptionArgs<'a> {
    pub pod: &'a Pod,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_name_to_victims: BTreeMap<&'a str, VictimPods<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_name_to_meta_victims: BTreeMap<&'a str, MetaVictims>,
}

#[derive(Serialize)]
pub struct VictimPods<'a> {
    pub pods: Vec<&'a Pod>,
    #[serde(rename = "numPDBViolations")]
    pub violations: usize,
}

#[derive(Deserialize, Serialize)]
pub struct MetaVictims {
    #[serde(default)]
    pub pods: Option<Vec<MetaPod>>,
    #[serde(rename = "numPDBViolations", default)]
    pub violations: usize,
}

#[derive(Deserialize, Serialize)]
pub struct MetaPod {
    pub uid: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreemptionResult {
    pub node_name_to_meta_victims: Option<BTreeMap<String, MetaVictims>>,
}
