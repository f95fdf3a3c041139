//! A group version that another server serves, and how one finds out whether it does.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;

use super::openapi::Documents;
use crate::admission::objects::{Objects, SERVICES, items, label};
use crate::outbound::{Destination, Inside, Outbound, Trust};
use crate::proxy::target::endpoints;

/// As long as upstream waits for discovery.
const LIMIT: Duration = Duration::from_secs(5);

pub struct Remote {
    /// Of the APIService.
    pub name: String,
    pub group: String,
    pub version: String,
    pub to: Destination,
    namespace: String,
    service: String,
    port: u64,
    /// What it was found to be when it was last asked.
    pub(super) found: Mutex<Found>,
}

/// What is known of a server.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub available: bool,
    /// `resources` of its discovery document, from when it last had one.
    pub listing: Arc<Value>,
    pub documents: Documents,
}

/// Why requests cannot be passed on, in the words of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub reason: &'static str,
    pub message: String,
}

/// Where a server can be reached.
pub type Reach = Result<Vec<(String, u16)>, Unavailable>;

impl Remote {
    /// Of an APIService that names a Service, or whose group version something inside this process serves.
    pub fn of(object: &Value, inside: &Inside) -> Option<Self> {
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, service) = (text(&spec["service"]["namespace"]), text(&spec["service"]["name"]));
        if service.is_empty() {
            let extension = inside.of(spec["group"].as_str()?, spec["version"].as_str()?)?;
            return Some(Self {
                name: text(&object["metadata"]["name"]),
                group: extension.group.clone(),
                version: extension.version.clone(),
                to: Destination::of_extension(extension),
                namespace,
                service,
                port: 0,
                found: Mutex::default(),
            });
        }
        let port = spec["service"]["port"].as_u64().unwrap_or(443);
        let trust = match (spec["insecureSkipTLSVerify"] == true, spec["caBundle"].as_str()) {
            (true, _) => Trust::Anyone,
            (false, Some(bundle)) if !bundle.is_empty() => {
                Trust::Bundle(STANDARD.decode(bundle).unwrap_or_default().into())
            }
            (false, _) => Trust::System,
        };
        Some(Self {
            name: text(&object["metadata"]["name"]),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            to: Destination::of_service(&namespace, &service, port, trust).identified(),
            namespace,
            service,
            port,
            found: Mutex::default(),
        })
    }

    /// Whether the other one is the same server.
    pub fn is(&self, other: &Self) -> bool {
        (&self.name, &self.group, &self.version, &self.to)
            == (&other.name, &other.group, &other.version, &other.to)
    }

    pub fn is_available(&self) -> bool {
        self.found.lock().available
    }

    /// What its Service and endpoints say; nobody is asked.
    pub fn reach(&self, objects: &dyn Objects) -> Reach {
        let (namespace, name) = (&self.namespace, &self.service);
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let unavailable = |reason, message: String| Err(Unavailable { reason, message });
        let Some(service) = objects.get(SERVICES, namespace, name) else {
            return unavailable("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
        };
        if service["spec"]["type"] == "ExternalName" {
            let to = service["spec"]["externalName"].as_str().unwrap_or_default();
            return Ok(vec![(to.to_owned(), u16::try_from(self.port).unwrap_or_default())]);
        }
        let Some(port) = items(&service["spec"]["ports"]).find(|port| port["port"] == self.port) else {
            let message = format!("service/{name} in {namespace:?} is not listening on port {}", self.port);
            return unavailable("ServicePortError", message);
        };
        let slices = objects.list(("discovery.k8s.io", "endpointslices").into(), namespace);
        if !slices.iter().any(|slice| label(slice, "kubernetes.io/service-name") == Some(name)) {
            let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return unavailable("EndpointsNotFound", message);
        }
        let port_name = port["name"].as_str().unwrap_or_default();
        let found = endpoints(objects, namespace, name, port_name);
        if found.is_empty() {
            let message = format!(
                "endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            );
            return unavailable("MissingEndpoints", message);
        }
        Ok(found)
    }

    /// Asks the server for what it serves: `resources` of its discovery document.
    pub async fn ask(&self, outbound: &Outbound) -> Result<Value, Unavailable> {
        let path = format!("/apis/{}/{}", self.group, self.version);
        let url = self.to.url(&path);
        let failed = |why: String| Unavailable {
            reason: "FailedDiscoveryCheck",
            message: format!("failing or missing response from {url}: {why}"),
        };
        let answer = outbound.get(&self.to, &path, &super::proxy::own_headers(), LIMIT).await;
        match answer.map_err(|error| failed(error.to_string()))? {
            (code, body) if code.is_success() => {
                Ok(serde_json::from_slice::<Value>(&body).unwrap_or_default()["resources"].take())
            }
            (code, _) => Err(failed(format!("bad status from {url}: {}", code.as_u16()))),
        }
    }
}
