//! Which plugins are asked at which point, and what their scores weigh: the profile's wishes merged with the
//! defaults, as upstream documents `multiPoint`.

use serde::Deserialize;

use super::args::{self, Args};
use super::{Profile, file::ProfileFile};
use crate::plugins::{PluginId, PluginSet};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Plugins {
    pub multi_point: Set,
    pub pre_enqueue: Set,
    pub queue_sort: Set,
    pub pre_filter: Set,
    pub filter: Set,
    pub post_filter: Set,
    pub pre_score: Set,
    pub score: Set,
    pub reserve: Set,
    pub permit: Set,
    pub pre_bind: Set,
    pub bind: Set,
    pub post_bind: Set,
    // Points of alpha features.
    #[serde(rename = "placementGenerate")]
    _placement_generate: Set,
    #[serde(rename = "placementScore")]
    _placement_score: Set,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Set {
    pub enabled: Vec<Plugin>,
    pub disabled: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    name: String,
    weight: Option<i64>,
}

impl Set {
    fn disables(&self, id: PluginId) -> bool {
        self.disabled.iter().any(|plugin| plugin.name == "*" || plugin.name == id.name())
    }

    fn enables(&self, id: PluginId) -> Option<&Plugin> {
        self.enabled.iter().find(|plugin| plugin.name == id.name())
    }
}

/// What a plugin is for.
const FILTERS: [PluginId; 14] = [
    PluginId::NodeUnschedulable,
    PluginId::NodeName,
    PluginId::TaintToleration,
    PluginId::NodeAffinity,
    PluginId::NodePorts,
    PluginId::NodeResourcesFit,
    PluginId::VolumeRestrictions,
    PluginId::NodeVolumeLimits,
    PluginId::VolumeBinding,
    PluginId::VolumeZone,
    PluginId::PodTopologySpread,
    PluginId::InterPodAffinity,
    PluginId::DynamicResources,
    PluginId::NodeDeclaredFeatures,
];

/// Plugins that score, with their default weights.
const SCORES: [(PluginId, i64); 8] = [
    (PluginId::TaintToleration, 3),
    (PluginId::NodeAffinity, 2),
    (PluginId::NodeResourcesFit, 1),
    (PluginId::PodTopologySpread, 2),
    (PluginId::InterPodAffinity, 2),
    (PluginId::DynamicResources, 2),
    (PluginId::NodeResourcesBalancedAllocation, 1),
    (PluginId::ImageLocality, 1),
];

pub fn profile(scheduler_name: String, file: ProfileFile) -> Result<Profile, String> {
    let ProfileFile { plugins, plugin_config, .. } = file;
    check_names(&plugins)?;
    let Args { fit, balanced, affinity, node_affinity, spread, timeouts, preemption } =
        args::read(plugin_config)?;
    // Enabled by its own point, or by all points at once, unless this one point disables it.
    let enabled = |point: &Set, id: PluginId| {
        point.enables(id).is_some()
            || (!point.disables(id)
                && (plugins.multi_point.enables(id).is_some() || !plugins.multi_point.disables(id)))
    };
    let filters: PluginSet = FILTERS.into_iter().filter(|id| enabled(&plugins.filter, *id)).collect();
    let one = |point: &Set, id: PluginId, name: &str| {
        if enabled(point, id) {
            return Ok(());
        }
        Err(format!("plugins.{name}: {} cannot be done without: there is no other here", id.name()))
    };
    one(&plugins.queue_sort, PluginId::PrioritySort, "queueSort")?;
    one(&plugins.bind, PluginId::DefaultBinder, "bind")?;
    let mut profile = Profile {
        scheduler_name,
        filters,
        weights: [0; 32],
        gates: enabled(&plugins.pre_enqueue, PluginId::SchedulingGates),
        preempts: enabled(&plugins.post_filter, PluginId::DefaultPreemption),
        fit,
        balanced,
        hard_pod_affinity_weight: affinity.hard_pod_affinity_weight,
        ignore_preferred_terms_of_existing_pods: affinity.ignore_preferred_terms_of_existing_pods,
        added_affinity: node_affinity,
        spread_defaults: spread,
        timeouts,
        preemption,
        percentage_of_nodes_to_score: None,
    };
    for (id, default) in SCORES {
        let own = plugins.score.enables(id).or_else(|| plugins.multi_point.enables(id));
        let weight = own.map_or(default, |plugin| plugin.weight.filter(|weight| *weight != 0).unwrap_or(1));
        if !(0..=100_000).contains(&weight) {
            return Err(format!("the weight {weight} of {} is out of range", id.name()));
        }
        profile.set_weight(id, if enabled(&plugins.score, id) { weight } else { 0 });
    }
    Ok(profile)
}

/// A plugin that is not here would be silently missing otherwise.
fn check_names(plugins: &Plugins) -> Result<(), String> {
    let points = [
        ("multiPoint", &plugins.multi_point),
        ("preEnqueue", &plugins.pre_enqueue),
        ("queueSort", &plugins.queue_sort),
        ("preFilter", &plugins.pre_filter),
        ("filter", &plugins.filter),
        ("postFilter", &plugins.post_filter),
        ("preScore", &plugins.pre_score),
        ("score", &plugins.score),
        ("reserve", &plugins.reserve),
        ("permit", &plugins.permit),
        ("preBind", &plugins.pre_bind),
        ("bind", &plugins.bind),
        ("postBind", &plugins.post_bind),
    ];
    for (point, set) in points {
        for plugin in &set.enabled {
            if PluginId::named(&plugin.name).is_none() {
                return Err(format!(
                    "plugins.{point}.enabled: {:?} is no plugin of this scheduler",
                    plugin.name
                ));
            }
        }
    }
    Ok(())
}
