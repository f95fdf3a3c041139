//! `--admission-control-config-file`: an AdmissionConfiguration, with what some plugins are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::event_rate_limit::EventRateLimit;
use super::image_policy::ImagePolicy;
use super::objects::items;
use super::plugins::Plugins;
use super::pod_security::PodSecurity;
use super::pod_toleration_restriction::Tolerations;

const KIND: &str = "AdmissionConfiguration";
const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1alpha1", "apiserver.k8s.io/v1alpha1"];
/// The plugins that can be told something.
const TOLD: [&str; 4] = ["EventRateLimit", "ImagePolicyWebhook", "PodSecurity", "PodTolerationRestriction"];

#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("{path}: cannot be read: {reason}", path = path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{path}: is no {KIND} of {}", VERSIONS[0], path = path.display())]
    Kind { path: PathBuf },
    #[error(
        "admission plugin {0:?} has no configuration here; take it out of --admission-control-config-file"
    )]
    Unknown(String),
    #[error("admission plugin {name:?}: {reason}")]
    Plugin { name: &'static str, reason: String },
}

/// What the plugins that run are told.
#[derive(Default)]
pub struct Configured {
    pub events: EventRateLimit,
    pub images: Option<ImagePolicy>,
    pub pod_security: PodSecurity,
    pub tolerations: Tolerations,
}

impl Configured {
    pub fn load(file: Option<&Path>, plugins: &Plugins) -> Result<Self, ConfigurationError> {
        let told = file.map(told).transpose()?.unwrap_or_default();
        let directory = file.and_then(Path::parent).unwrap_or(Path::new("."));
        let of = |name: &str| told.get(name).unwrap_or(&Value::Null);
        let mut configured = Self::default();
        let failed = |name| move |reason| ConfigurationError::Plugin { name, reason };
        if plugins.run("EventRateLimit") {
            configured.events =
                EventRateLimit::read(of("EventRateLimit")).map_err(failed("EventRateLimit"))?;
        }
        if plugins.run("ImagePolicyWebhook") {
            let policy = ImagePolicy::read(of("ImagePolicyWebhook"), directory);
            configured.images = Some(policy.map_err(failed("ImagePolicyWebhook"))?);
        }
        configured.pod_security = PodSecurity::read(of("PodSecurity")).map_err(failed("PodSecurity"))?;
        configured.tolerations = Tolerations::read(of("PodTolerationRestriction"));
        Ok(configured)
    }
}

/// The plugins' configurations by name, from within the file or from files that it names.
fn told(file: &Path) -> Result<BTreeMap<String, Value>, ConfigurationError> {
    let config = read(file)?;
    let version = config["apiVersion"].as_str().unwrap_or_default();
    if config["kind"] != KIND || !VERSIONS.contains(&version) {
        return Err(ConfigurationError::Kind { path: file.to_owned() });
    }
    let directory = file.parent().unwrap_or(Path::new("."));
    let mut told = BTreeMap::new();
    for plugin in items(&config["plugins"]) {
        let name = plugin["name"].as_str().unwrap_or_default();
        if !TOLD.contains(&name) {
            return Err(ConfigurationError::Unknown(name.to_owned()));
        }
        let path = plugin["path"].as_str().filter(|path| !path.is_empty());
        let configuration = match path {
            Some(path) => read(&directory.join(path))?,
            None => plugin["configuration"].clone(),
        };
        told.insert(name.to_owned(), configuration);
    }
    Ok(told)
}

fn read(path: &Path) -> Result<Value, ConfigurationError> {
    let failed = |reason: String| ConfigurationError::Read { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_told_by_the_file_or_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        write("events.yaml", "kind: Configuration\nlimits: [{type: Server, qps: 1, burst: 2}]\n");
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
        let runs = Plugins::new(&["EventRateLimit".to_owned()], &[]).unwrap();
        let load = |rest: &str, plugins: &Plugins| {
            Configured::load(Some(&write("c.yaml", &format!("{head}{rest}"))), plugins)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(load("- {name: EventRateLimit, path: events.yaml}", &runs), Ok(()));
        let bad = "- {name: EventRateLimit, configuration: {limits: [{type: Moon, qps: 1, burst: 1}]}}";
        let why = "admission plugin \"EventRateLimit\": limits[0].type: \"Moon\" is none of Server, Namespace, User, \
                   SourceAndObject";
        assert_eq!(load(bad, &runs), Err(why.to_owned()));
        // What does not run is not looked at.
        assert_eq!(load(bad, &Plugins::default()), Ok(()));
        assert!(load("- {name: ResourceQuota}", &runs).unwrap_err().contains("has no configuration here"));
        let none = Configured::load(None, &runs).map(drop).unwrap_err().to_string();
        assert_eq!(none, "admission plugin \"EventRateLimit\": limits must not be empty");
        let other = write("x.yaml", "kind: Pod\n");
        assert!(Configured::load(Some(&other), &runs).is_err());
    }
}
