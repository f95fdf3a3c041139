//! ImagePolicyWebhook: somebody outside says whether the images of a pod may run.

use std::path::Path;
use std::time::Duration;

use api::status::Status;
use serde_json::{Map, Value, json};

use super::objects::items;
use super::{AdmissionRequest, Operation};
use crate::audit;
use crate::authn::remembered::{self, Remembered};
use crate::outbound::client::Client;

const TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 5;
/// Annotations of pods whose keys have this in them are told.
const TOLD: &str = ".image-policy.k8s.io/";
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

pub struct ImagePolicy {
    client: Client,
    allow_ttl: Duration,
    deny_ttl: Duration,
    /// What is said when nobody answers.
    default_allow: bool,
    known: Remembered<Value>,
}

impl ImagePolicy {
    /// From `imagePolicy` of the configuration; `directory` is where its files are looked for.
    pub fn read(config: &Value, directory: &Path) -> Result<Self, String> {
        let config = &config["imagePolicy"];
        let Some(file) = config["kubeConfigFile"].as_str().filter(|file| !file.is_empty()) else {
            return Err("imagePolicy.kubeConfigFile must name the webhook".to_owned());
        };
        let client = Client::from_kubeconfig(&directory.join(file)).map_err(|error| error.to_string())?;
        let seconds = |field: &str, default: u64| match config[field].as_i64() {
            None | Some(0) => Ok(Duration::from_secs(default)),
            // Nothing is remembered.
            Some(-1) => Ok(Duration::ZERO),
            Some(seconds) => u64::try_from(seconds)
                .map(Duration::from_secs)
                .map_err(|_| format!("imagePolicy.{field}: {seconds} is no time")),
        };
        Ok(Self {
            client,
            allow_ttl: seconds("allowTTL", 300)?,
            deny_ttl: seconds("denyTTL", 30)?,
            default_allow: config["defaultAllow"].as_bool().unwrap_or(false),
            known: Remembered::default(),
        })
    }

    pub async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let pods = request.is("", "pods") || request.is_subresource("", "pods", "ephemeralcontainers");
        if !writes || !pods {
            return Ok(());
        }
        let spec = spec(&request.object, request.namespace);
        if request.operation == Operation::Update && spec == self::spec(request.old_object, request.namespace)
        {
            return Ok(());
        }
        let key = remembered::key(spec.to_string().as_bytes());
        let status = match self.known.get(&key) {
            Some(status) => status,
            None => {
                let review = json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview",
                    "metadata": {}, "spec": spec, "status": {}});
                let answer = match self.client.post_repeatedly(&review, TIMEOUT, ATTEMPTS).await {
                    Ok(answer) => answer,
                    Err(_) if self.default_allow => {
                        audit::annotate("imagepolicywebhook.image-policy.k8s.io/failed-open", "true");
                        return Ok(());
                    }
                    Err(error) => return Err(request.forbidden(error)),
                };
                let status = answer["status"].clone();
                let ttl = if status["allowed"] == true { self.allow_ttl } else { self.deny_ttl };
                if !ttl.is_zero() {
                    self.known.put(key, status.clone(), ttl);
                }
                status
            }
        };
        for (key, value) in status["auditAnnotations"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            audit::annotate(&format!("imagepolicywebhook.image-policy.k8s.io/{key}"), value);
        }
        if status["allowed"] == true {
            return Ok(());
        }
        let why = match status["reason"].as_str().unwrap_or_default() {
            "" => "one or more images rejected by webhook backend".to_owned(),
            reason => format!("image policy webhook backend denied one or more images: {reason}"),
        };
        Err(request.forbidden(why))
    }
}

/// What is asked about a pod.
fn spec(pod: &Value, namespace: &str) -> Value {
    let containers: Vec<Value> = LISTS
        .into_iter()
        .flat_map(|list| items(&pod["spec"][list]))
        .map(|container| json!({"image": container["image"]}))
        .collect();
    let annotations: Map<String, Value> = pod["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.contains(TOLD))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    json!({"containers": containers, "annotations": annotations, "namespace": namespace})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked() {
        let pod = json!({
            "metadata": {"annotations": {"x.image-policy.k8s.io/break-glass": "yes", "other": "no"}},
            "spec": {"containers": [{"name": "c", "image": "a"}], "initContainers": [{"name": "i", "image": "b"}]},
        });
        assert_eq!(
            spec(&pod, "n"),
            json!({"containers": [{"image": "a"}, {"image": "b"}], "namespace": "n",
                "annotations": {"x.image-policy.k8s.io/break-glass": "yes"}})
        );
    }

    #[test]
    fn a_webhook_has_to_be_named() {
        let read = |config: Value| ImagePolicy::read(&config, Path::new("/nowhere")).map(drop).unwrap_err();
        assert_eq!(read(json!({})), "imagePolicy.kubeConfigFile must name the webhook");
        assert!(read(json!({"imagePolicy": {"kubeConfigFile": "k"}})).contains("/nowhere/k"));
    }
}
