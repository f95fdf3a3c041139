//! The file's form, its defaults and its checks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Config, Profile, args, plugins};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Configuration {
    #[serde(rename = "kind")]
    _kind: Value,
    #[serde(rename = "apiVersion")]
    _api_version: Value,
    profiles: Vec<ProfileFile>,
    extenders: Vec<ExtenderFile>,
    percentage_of_nodes_to_score: Option<i64>,
    pod_initial_backoff_seconds: Option<i64>,
    pod_max_backoff_seconds: Option<i64>,
    leader_election: LeaderElection,
    client_connection: ClientConnection,
    parallelism: Option<i64>,
    // Decisions are made by one thread from what is known already: there is nothing to profile or to delay.
    #[serde(rename = "enableProfiling")]
    _enable_profiling: Value,
    #[serde(rename = "enableContentionProfiling")]
    _enable_contention_profiling: Value,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProfileFile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    pub plugins: plugins::Plugins,
    pub plugin_config: Vec<args::PluginConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    pub leader_elect: Option<bool>,
    #[serde(deserialize_with = "duration")]
    pub lease_duration: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub renew_deadline: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub retry_period: Option<Duration>,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConnection {
    kubeconfig: String,
}

/// A process that has a say in the choice, asked over HTTP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtenderFile {
    pub url_prefix: String,
    pub filter_verb: String,
    pub preempt_verb: String,
    pub prioritize_verb: String,
    pub bind_verb: String,
    pub weight: i64,
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    pub tls_config: Option<Tls>,
    #[serde(rename = "httpTimeout", deserialize_with = "duration")]
    pub http_timeout: Option<Duration>,
    pub node_cache_capable: bool,
    pub managed_resources: Vec<ManagedResource>,
    pub ignorable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ManagedResource {
    pub name: String,
    pub ignored_by_scheduler: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Tls {
    pub insecure: bool,
    pub server_name: String,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    #[serde(rename = "caFile")]
    pub ca_file: PathBuf,
    // Base64, as in a kubeconfig.
    pub cert_data: String,
    pub key_data: String,
    #[serde(rename = "caData")]
    pub ca_data: String,
}

/// `15s`, `1m30s`, or nothing.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    parse_duration(&text)
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration such as 15s or 1m30s")))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok()
}

impl Configuration {
    pub fn finish(self) -> Result<Config, String> {
        if self.parallelism.is_some_and(|parallelism| parallelism <= 0) {
            return Err("parallelism must be greater than 0".to_owned());
        }
        let percentage = percentage("percentageOfNodesToScore", self.percentage_of_nodes_to_score)?;
        let initial = self.pod_initial_backoff_seconds.unwrap_or(1);
        let longest = self.pod_max_backoff_seconds.unwrap_or(10);
        if initial <= 0 {
            return Err("podInitialBackoffSeconds must be greater than 0".to_owned());
        }
        if longest < initial {
            return Err(
                "podMaxBackoffSeconds must be greater than or equal to podInitialBackoffSeconds".to_owned()
            );
        }
        if !matches!(self.leader_election.resource_lock.as_str(), "" | "leases") {
            return Err("leaderElection.resourceLock must be leases".to_owned());
        }
        check_extenders(&self.extenders)?;
        let ignored: BTreeSet<String> = self
            .extenders
            .iter()
            .flat_map(|extender| &extender.managed_resources)
            .filter(|resource| resource.ignored_by_scheduler)
            .map(|resource| resource.name.clone())
            .collect();
        let mut files = self.profiles;
        if files.is_empty() {
            files.push(ProfileFile::default());
        }
        let single = files.len() == 1;
        let mut names = BTreeSet::new();
        let mut profiles: Vec<Profile> = Vec::new();
        for (at, file) in files.into_iter().enumerate() {
            let name = match &file.scheduler_name {
                Some(name) if !name.is_empty() => name.clone(),
                None if single => "default-scheduler".to_owned(),
                _ => return Err(format!("profiles[{at}].schedulerName is required")),
            };
            if !names.insert(name.clone()) {
                return Err(format!("profiles[{at}].schedulerName {name:?} is there twice"));
            }
            let own = super::file::percentage("percentageOfNodesToScore", file.percentage_of_nodes_to_score)?;
            let mut profile =
                plugins::profile(name, file).map_err(|error| format!("profiles[{at}]: {error}"))?;
            profile.percentage_of_nodes_to_score = own.or(percentage);
            profile.fit.ignored.extend(ignored.iter().cloned());
            profiles.push(profile);
        }
        Ok(Config {
            profiles,
            extenders: self.extenders,
            percentage_of_nodes_to_score: percentage,
            initial_backoff: Duration::from_secs(initial.unsigned_abs()),
            longest_backoff: Duration::from_secs(longest.unsigned_abs()),
            leader_election: self.leader_election,
            kubeconfig: Some(self.client_connection.kubeconfig)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        })
    }
}

/// Zero means that the scheduler finds its own measure.
fn percentage(field: &str, value: Option<i64>) -> Result<Option<u32>, String> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => u32::try_from(value)
            .ok()
            .filter(|value| *value <= 100)
            .map(Some)
            .ok_or_else(|| format!("{field} is {value}: not in the range 0 to 100")),
    }
}

fn check_extenders(extenders: &[ExtenderFile]) -> Result<(), String> {
    for (at, extender) in extenders.iter().enumerate() {
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            return Err(format!("extenders[{at}]: a prioritizeVerb must have a positive weight"));
        }
        if extender.url_prefix.is_empty() {
            return Err(format!("extenders[{at}].urlPrefix is required"));
        }
    }
    if extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count() > 1 {
        return Err("extenders: only one can implement bind".to_owned());
    }
    Ok(())
}
