//! A group version that another server serves.

use std::time::Duration;

use api::gvk::GroupVersionKind;
use api::registry::{Resource, Subresource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;

use crate::admission::objects::{Objects, SERVICES, items};
use crate::outbound::{Destination, Outbound, Trust};
use crate::proxy::target::endpoints;

/// As long as upstream waits for discovery.
const LIMIT: Duration = Duration::from_secs(5);

pub struct Remote {
    pub name: String,
    pub group: String,
    pub version: String,
    pub to: Destination,
    /// Of the APIService.
    pub revision: u64,
    namespace: String,
    service: String,
    port: u64,
    /// What it was found to be when it was last asked.
    pub(super) found: Mutex<Health>,
}

/// Whether a server answers, in the words of its condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    pub available: bool,
    pub reason: String,
    pub message: String,
    /// `resources` of its discovery document.
    pub resources: Value,
}

impl Remote {
    /// Of an APIService that names a Service.
    pub fn of(object: &Value, revision: u64) -> Option<Self> {
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, service) = (text(&spec["service"]["namespace"]), text(&spec["service"]["name"]));
        if service.is_empty() {
            return None;
        }
        let port = spec["service"]["port"].as_u64().unwrap_or(443);
        let trust = match (spec["insecureSkipTLSVerify"] == true, spec["caBundle"].as_str()) {
            (true, _) => Trust::Anyone,
            (false, Some(bundle)) if !bundle.is_empty() => {
                Trust::Bundle(STANDARD.decode(bundle).unwrap_or_default().into())
            }
            (false, _) => Trust::System,
        };
        let mut to = Destination::of_service(&namespace, &service, port, trust);
        to.identify = true;
        Some(Self {
            name: text(&object["metadata"]["name"]),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            to,
            revision,
            namespace,
            service,
            port,
            found: Mutex::default(),
        })
    }

    pub fn is_available(&self) -> bool {
        self.found.lock().available
    }

    /// Asks the server for what it serves.
    pub async fn probe(&self, outbound: &Outbound, objects: &dyn Objects) -> Health {
        let unavailable = |reason: &str, message: String| Health {
            reason: reason.to_owned(),
            message,
            ..Health::default()
        };
        let (namespace, name) = (&self.namespace, &self.service);
        let Some(service) = objects.get(SERVICES, namespace, name) else {
            return unavailable("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
        };
        if service["spec"]["type"] != "ExternalName" {
            let Some(port) = items(&service["spec"]["ports"]).find(|port| port["port"] == self.port) else {
                let message =
                    format!("service/{name} in {namespace:?} is not listening on port {}", self.port);
                return unavailable("ServicePortError", message);
            };
            if endpoints(objects, namespace, name, port["name"].as_str().unwrap_or_default()).is_empty() {
                let message = format!(
                    "endpoints for service/{name} in {namespace:?} have no addresses with port name {:?}",
                    port["name"].as_str().unwrap_or_default()
                );
                return unavailable("MissingEndpoints", message);
            }
        }
        let path = format!("/apis/{}/{}", self.group, self.version);
        let failed = |why: String| {
            unavailable(
                "FailedDiscoveryCheck",
                format!("failing or missing response from {}: {why}", self.to.url(&path)),
            )
        };
        match outbound.get(&self.to, &path, &super::proxy::own_headers(), LIMIT).await {
            Ok((code, body)) if code.is_success() => Health {
                available: true,
                reason: "Passed".to_owned(),
                message: "all checks passed".to_owned(),
                resources: serde_json::from_slice::<Value>(&body).unwrap_or_default()["resources"].take(),
            },
            Ok((code, _)) => failed(format!("bad status from {}: {}", self.to.url(&path), code.as_u16())),
            Err(error) => failed(error.to_string()),
        }
    }

    /// Its resources as discovery shows them.
    pub fn resources(&self) -> Vec<Resource> {
        let listed = self.found.lock().resources.clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts =
            |value: &Value| items(value).filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let gvk = |entry: &Value| {
            let or =
                |value: &Value, own: &str| value.as_str().filter(|t| !t.is_empty()).unwrap_or(own).to_owned();
            GroupVersionKind::new(
                or(&entry["group"], &self.group),
                or(&entry["version"], &self.version),
                text(&entry["kind"]),
            )
        };
        let mut resources: Vec<Resource> = Vec::new();
        for entry in items(&listed) {
            let name = text(&entry["name"]);
            match name.split_once('/') {
                None => resources.push(Resource {
                    gvk: GroupVersionKind::new(&self.group, &self.version, text(&entry["kind"])),
                    singular: text(&entry["singularName"]),
                    list_kind: format!("{}List", text(&entry["kind"])),
                    short_names: texts(&entry["shortNames"]),
                    categories: texts(&entry["categories"]),
                    namespaced: entry["namespaced"] == true,
                    verbs: texts(&entry["verbs"]),
                    subresources: Vec::new(),
                    schema: None,
                    custom: None,
                    selectable_fields: Vec::new(),
                    plural: name,
                }),
                Some((parent, sub)) => {
                    let sub =
                        Subresource { name: sub.to_owned(), gvk: gvk(entry), verbs: texts(&entry["verbs"]) };
                    if let Some(parent) = resources.iter_mut().find(|resource| resource.plural == parent) {
                        parent.subresources.push(sub);
                    }
                }
            }
        }
        resources
    }
}
