//! What plugins are told: `pluginConfig`.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::file::duration;
use crate::bind::Timeouts;
use crate::plugins::pod_topology_spread::Defaults;
use crate::plugins::{MAX_SCORE, PluginId};
use crate::resources::{CPU, MEMORY};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

/// A resource, and what it counts beside others.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceWeight {
    pub name: String,
    pub weight: i64,
}

/// Of `NodeResourcesFit`.
#[derive(Clone, Debug)]
pub struct FitArgs {
    pub ignored: BTreeSet<String>,
    /// Prefixes such as `example.com`.
    pub ignored_groups: BTreeSet<String>,
    pub strategy: Strategy,
    pub resources: Vec<ResourceWeight>,
}

impl FitArgs {
    pub fn ignores(&self, name: &str) -> bool {
        let group = name.split_once('/').map_or("", |(group, _)| group);
        self.ignored.contains(name) || self.ignored_groups.contains(group)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio(Shape),
}

/// A line through points: utilization in percent, and the score there.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape(Vec<(i64, i64)>);

impl Shape {
    pub fn at(&self, utilization: i64) -> i64 {
        let Some(next) = self.0.iter().position(|(at, _)| utilization <= *at) else {
            return self.0.last().map_or(0, |(_, score)| *score);
        };
        let Some(&(x1, y1)) = self.0.get(next) else { return 0 };
        let Some(&(x0, y0)) = next.checked_sub(1).and_then(|before| self.0.get(before)) else { return y1 };
        y0 + (y1 - y0) * (utilization - x0) / (x1 - x0)
    }
}

/// Of `InterPodAffinity`.
pub struct AffinityArgs {
    pub hard_pod_affinity_weight: i64,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

pub struct Args {
    pub fit: FitArgs,
    pub balanced: Vec<ResourceWeight>,
    pub affinity: AffinityArgs,
    pub node_affinity: Option<NodeAffinity>,
    pub spread: Defaults,
    pub timeouts: Timeouts,
    pub preemption: PreemptionArgs,
}

/// Of `DefaultPreemption`: among how many nodes the one with the least harm is looked for.
#[derive(Clone, Debug)]
pub struct PreemptionArgs {
    percentage: usize,
    absolute: usize,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { percentage: 10, absolute: 100 }
    }
}

impl PreemptionArgs {
    pub fn enough(&self, nodes: usize) -> usize {
        (nodes.saturating_mul(self.percentage) / 100).max(self.absolute).max(1)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PreemptionFile {
    min_candidate_nodes_percentage: Option<usize>,
    min_candidate_nodes_absolute: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FitFile {
    ignored_resources: BTreeSet<String>,
    ignored_resource_groups: BTreeSet<String>,
    scoring_strategy: Option<StrategyFile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StrategyFile {
    #[serde(rename = "type")]
    type_: String,
    resources: Vec<ResourceFile>,
    requested_to_capacity_ratio: Option<RatioFile>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RatioFile {
    shape: Vec<PointFile>,
}

#[derive(Deserialize)]
struct PointFile {
    utilization: i64,
    score: i64,
}

#[derive(Deserialize)]
struct ResourceFile {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BalancedFile {
    resources: Vec<ResourceFile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AffinityFile {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinityFile {
    added_affinity: Option<NodeAffinity>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpreadFile {
    default_constraints: Vec<TopologySpreadConstraint>,
    defaulting_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BindingFile {
    bind_timeout_seconds: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct DevicesFile {
    // Devices are found within a bounded number of tries: there is no limit of time to keep.
    #[serde(rename = "filterTimeout")]
    _filter_timeout: Value,
    #[serde(deserialize_with = "duration")]
    binding_timeout: Option<Duration>,
    #[serde(rename = "apiVersion")]
    _api_version: Value,
    #[serde(rename = "kind")]
    _kind: Value,
}

pub fn read(configs: Vec<PluginConfig>) -> Result<Args, String> {
    let mut seen = BTreeSet::new();
    let mut args = Args {
        fit: fit(FitFile::default())?,
        balanced: resources(Vec::new())?,
        affinity: AffinityArgs {
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        },
        node_affinity: None,
        spread: Defaults::default(),
        timeouts: Timeouts::default(),
        preemption: PreemptionArgs::default(),
    };
    for PluginConfig { name, args: value } in configs {
        if !seen.insert(name.clone()) {
            return Err(format!("pluginConfig: {name:?} is there twice"));
        }
        match PluginId::named(&name) {
            Some(PluginId::NodeResourcesFit) => args.fit = fit(file(&name, value)?)?,
            Some(PluginId::NodeResourcesBalancedAllocation) => {
                let file: BalancedFile = file(&name, value)?;
                args.balanced = resources(file.resources)?;
            }
            Some(PluginId::InterPodAffinity) => {
                let file: AffinityFile = file(&name, value)?;
                let weight = file.hard_pod_affinity_weight.unwrap_or(1);
                if !(0..=100).contains(&weight) {
                    return Err(format!("hardPodAffinityWeight is {weight}: not in the range 0 to 100"));
                }
                args.affinity = AffinityArgs {
                    hard_pod_affinity_weight: weight,
                    ignore_preferred_terms_of_existing_pods: file.ignore_preferred_terms_of_existing_pods,
                };
            }
            Some(PluginId::NodeAffinity) => {
                let file: NodeAffinityFile = file(&name, value)?;
                args.node_affinity = file.added_affinity;
            }
            Some(PluginId::PodTopologySpread) => args.spread = spread(file(&name, value)?)?,
            Some(PluginId::VolumeBinding) => {
                let file: BindingFile = file(&name, value)?;
                let seconds = file.bind_timeout_seconds.unwrap_or(600);
                args.timeouts.volumes = Duration::from_secs(
                    u64::try_from(seconds)
                        .map_err(|_| format!("bindTimeoutSeconds is {seconds}: less than 0"))?,
                );
            }
            Some(PluginId::DefaultPreemption) => {
                let file: PreemptionFile = file(&name, value)?;
                let default = PreemptionArgs::default();
                let percentage = file.min_candidate_nodes_percentage.unwrap_or(default.percentage);
                let absolute = file.min_candidate_nodes_absolute.unwrap_or(default.absolute);
                if percentage > 100 || (percentage == 0 && absolute == 0) {
                    return Err("DefaultPreemption: minCandidateNodesPercentage goes to 100, and not both it and minCandidateNodesAbsolute are 0".to_owned());
                }
                args.preemption = PreemptionArgs { percentage, absolute };
            }
            Some(PluginId::DynamicResources) => {
                let file: DevicesFile = file(&name, value)?;
                if let Some(timeout) = file.binding_timeout {
                    args.timeouts.devices = timeout;
                }
            }
            Some(_) => return Err(format!("pluginConfig: {name} takes no arguments")),
            None => return Err(format!("pluginConfig: {name:?} is no plugin of this scheduler")),
        }
    }
    Ok(args)
}

fn file<T: DeserializeOwned + Default>(name: &str, value: Value) -> Result<T, String> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value).map_err(|error| format!("pluginConfig: the arguments of {name}: {error}"))
}

fn resources(files: Vec<ResourceFile>) -> Result<Vec<ResourceWeight>, String> {
    if files.is_empty() {
        return Ok([CPU, MEMORY].map(|name| ResourceWeight { name: name.to_owned(), weight: 1 }).into());
    }
    let resource = |file: ResourceFile| {
        let weight = if file.weight == 0 { 1 } else { file.weight };
        if !(1..=100).contains(&weight) {
            return Err(format!(
                "the weight of resource {} is {weight}: not in the range 1 to 100",
                file.name
            ));
        }
        Ok(ResourceWeight { name: file.name, weight })
    };
    files.into_iter().map(resource).collect()
}

fn fit(file: FitFile) -> Result<FitArgs, String> {
    let scoring = file.scoring_strategy.unwrap_or_default();
    let strategy = match scoring.type_.as_str() {
        "" | "LeastAllocated" => Strategy::LeastAllocated,
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => Strategy::RequestedToCapacityRatio(shape(
            scoring.requested_to_capacity_ratio.unwrap_or_default(),
        )?),
        other => {
            return Err(format!(
                "scoringStrategy.type is {other:?}, not LeastAllocated, MostAllocated or RequestedToCapacityRatio"
            ));
        }
    };
    Ok(FitArgs {
        ignored: file.ignored_resources,
        ignored_groups: file.ignored_resource_groups,
        strategy,
        resources: resources(scoring.resources)?,
    })
}

/// Scores in the file go to 10.
const MAX_FILE_SCORE: i64 = 10;

fn shape(file: RatioFile) -> Result<Shape, String> {
    let points: Vec<_> = file.shape.iter().map(|point| (point.utilization, point.score)).collect();
    if points.is_empty() {
        return Err("requestedToCapacityRatio.shape: at least one point must be specified".to_owned());
    }
    let rising = points.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
    let in_range =
        points.iter().all(|(at, score)| (0..=100).contains(at) && (0..=MAX_FILE_SCORE).contains(score));
    if !rising || !in_range {
        return Err("requestedToCapacityRatio.shape: utilization must rise from 0 to at most 100, scores go from 0 to 10".to_owned());
    }
    Ok(Shape(points.into_iter().map(|(at, score)| (at, score * MAX_SCORE / MAX_FILE_SCORE)).collect()))
}

fn spread(file: SpreadFile) -> Result<Defaults, String> {
    match file.defaulting_type.as_str() {
        "" | "System" if file.default_constraints.is_empty() => Ok(Defaults::default()),
        "" | "System" => Err("PodTopologySpread: defaultConstraints need the defaultingType List".to_owned()),
        "List" => {
            let selects =
                file.default_constraints.iter().any(|constraint| constraint.label_selector.is_some());
            if selects {
                return Err("PodTopologySpread: defaultConstraints have no labelSelector: it is worked out from the pod's Services and controllers".to_owned());
            }
            Ok(Defaults { constraints: file.default_constraints, built_in: false })
        }
        other => Err(format!("PodTopologySpread: defaultingType is {other:?}, not System or List")),
    }
}
