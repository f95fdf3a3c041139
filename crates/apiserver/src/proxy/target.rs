//! Where a relayed request goes: address, path and query.

use std::net::IpAddr;

use api::status::Status;
use http::Uri;
use rand::RngExt;
use serde_json::Value;

use crate::admission::objects::{NODES, Objects, PODS, SERVICES, items, label};
use crate::request::RequestInfo;

const KUBELET_PORT: u16 = 10250;
/// By which the kubelet of a node that has joined by a token says that it serves with a certificate of the cluster.
const SERVING_CERTIFICATE: &str = "corten.dev/serving-certificate";
const SIGNED: &str = "signed";

/// What is spoken at the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// TLS whose certificate is not verified: who runs behind a pod's port is whoever runs in the pod.
    Https,
    /// TLS; the kubelet's certificate is verified where an authority of all of them is named.
    Kubelet,
    /// TLS with a kubelet whose certificate the cluster has signed: it is verified in any case.
    KnownKubelet,
}

/// What is relayed: decides how failures are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Log,
    Stream,
    /// Anything, for a client that speaks to the far end itself: its answers are passed on as they are.
    Proxy,
}

/// The far end of a relayed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub scheme: Scheme,
    /// An address, or a name that the resolver of this machine knows.
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
    pub purpose: Purpose,
}

/// `[scheme:]name[:port]`, the form of names before `/proxy`.
struct Named<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Result<Self, Status> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return Err(Self::invalid(text)),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Self::invalid(text));
        }
        Ok(Self { scheme, name, port })
    }

    fn invalid(text: &str) -> Status {
        Status::bad_request(format!("invalid request {text:?}: names are [scheme:]name[:port]"))
    }

    fn scheme(&self) -> Scheme {
        if self.scheme == "https" { Scheme::Https } else { Scheme::Http }
    }
}

impl Target {
    /// The kubelet of a node.
    pub fn kubelet(
        objects: &dyn Objects,
        node_name: &str,
        path: String,
        purpose: Purpose,
    ) -> Result<Self, Status> {
        let node = objects.get(NODES, "", node_name).ok_or_else(|| Status::not_found(NODES, node_name))?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        Ok(Self {
            scheme: match node["metadata"]["annotations"][SERVING_CERTIFICATE].as_str() {
                Some(SIGNED) => Scheme::KnownKubelet,
                _ => Scheme::Kubelet,
            },
            host: address_of(&node, node_name)?,
            port: port.unwrap_or(KUBELET_PORT),
            path,
            purpose,
        })
    }

    /// `nodes/<name>/proxy`: the kubelet, or another port of the node.
    pub fn node(objects: &dyn Objects, info: &RequestInfo, uri: &Uri) -> Result<Self, Status> {
        let named = Named::parse(&info.name)?;
        let mut target = Self::kubelet(objects, named.name, proxied_path(uri, 5), Purpose::Proxy)?;
        let port: Option<u16> = match named.port {
            "" => None,
            port => Some(port.parse().map_err(|_| Named::invalid(&info.name))?),
        };
        if let Some(port) = port.filter(|port| *port != target.port) {
            target.port = port;
            target.scheme = named.scheme();
        }
        Ok(target)
    }

    /// `pods/<name>/proxy`: a port of the pod, by default the first that a container declares.
    pub fn pod(objects: &dyn Objects, info: &RequestInfo, uri: &Uri) -> Result<Self, Status> {
        let named = Named::parse(&info.name)?;
        let pod = objects
            .get(PODS, &info.namespace, named.name)
            .ok_or_else(|| Status::not_found(PODS, named.name))?;
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        if address.is_empty() {
            return Err(Status::bad_request("address not allowed"));
        }
        let declared = || {
            items(&pod["spec"]["containers"])
                .flat_map(|container| items(&container["ports"]))
                .find_map(|port| u16::try_from(port["containerPort"].as_u64()?).ok())
        };
        let port = match named.port {
            "" => declared().unwrap_or(80),
            port => port.parse().map_err(|_| Named::invalid(&info.name))?,
        };
        Self::to_endpoint(named.scheme(), address, port, proxied_path(uri, 7))
    }

    /// `services/<name>/proxy`: any of the ready endpoints.
    pub fn service(objects: &dyn Objects, info: &RequestInfo, uri: &Uri) -> Result<Self, Status> {
        let named = Named::parse(&info.name)?;
        let service = objects
            .get(SERVICES, &info.namespace, named.name)
            .ok_or_else(|| Status::not_found(SERVICES, named.name))?;
        let ports: Vec<&Value> = items(&service["spec"]["ports"]).collect();
        let wanted = match named.port {
            "" if ports.len() == 1 => ports.first().copied(),
            port => ports.iter().copied().find(|candidate| {
                candidate["name"].as_str().unwrap_or_default() == port
                    || candidate["port"].as_u64().is_some_and(|number| number.to_string() == port)
            }),
        };
        let Some(wanted) = wanted else {
            let why = format!("no service port {:?} found for service {:?}", named.port, named.name);
            return Err(Status::service_unavailable(why));
        };
        let endpoints =
            endpoints(objects, &info.namespace, named.name, wanted["name"].as_str().unwrap_or_default());
        if endpoints.is_empty() {
            let why = format!("no endpoints available for service {:?}", named.name);
            return Err(Status::service_unavailable(why));
        }
        let (address, port) = &endpoints[rand::rng().random_range(0..endpoints.len())];
        Self::to_endpoint(named.scheme(), address, *port, proxied_path(uri, 7))
    }

    fn to_endpoint(scheme: Scheme, address: &str, port: u16, path: String) -> Result<Self, Status> {
        // Pods report their addresses: what is this machine's own or link-local is not for them to open up.
        let parsed: IpAddr = address.parse().map_err(|_| Status::bad_request("address not allowed"))?;
        let link_local = match parsed {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if parsed.is_loopback() || parsed.is_unspecified() || parsed.is_multicast() || link_local {
            return Err(Status::bad_request("address not allowed"));
        }
        Ok(Self { scheme, host: address.to_owned(), port, path, purpose: Purpose::Proxy })
    }
}

/// The address by which this server reaches a node.
fn address_of(node: &Value, name: &str) -> Result<String, Status> {
    let of_kind = |kind: &str| {
        items(&node["status"]["addresses"])
            .find(|address| address["type"].as_str() == Some(kind))
            .and_then(|address| address["address"].as_str())
    };
    ["InternalIP", "ExternalIP", "Hostname"].into_iter().find_map(of_kind).map(str::to_owned).ok_or_else(
        || Status::internal(format!("no preferred addresses found for node {name:?}; known addresses: []")),
    )
}

/// Ready addresses of a Service with the port of that name.
pub fn endpoints(
    objects: &dyn Objects,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Vec<(String, u16)> {
    let slices = objects.list(("discovery.k8s.io", "endpointslices").into(), namespace);
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| label(slice, "kubernetes.io/service-name") == Some(service)) {
        let port = items(&slice["ports"])
            .find(|port| port["name"].as_str().unwrap_or_default() == port_name)
            .and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(port) = port else { continue };
        let ready = items(&slice["endpoints"])
            .filter(|endpoint| endpoint["conditions"]["ready"].as_bool() != Some(false))
            .filter_map(|endpoint| endpoint["addresses"][0].as_str());
        found.extend(ready.map(|address| (address.to_owned(), port)));
    }
    found
}

/// What follows `/proxy` in the request's path, as it was sent, with the query. `skip` segments precede that.
fn proxied_path(uri: &Uri, skip: usize) -> String {
    let path = uri.path().splitn(skip + 2, '/').nth(skip + 1).unwrap_or_default();
    match uri.query() {
        Some(query) => format!("/{path}?{query}"),
        None => format!("/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::admission::objects::tests::Fixture;

    fn fixture() -> Fixture {
        let node = |name: &str, port: u16| {
            json!({"metadata": {"name": name}, "status": {
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.0.7"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}})
        };
        let pod = |name: &str, address: &str| {
            json!({"metadata": {"namespace": "ns", "name": name}, "status": {"podIP": address},
                   "spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}})
        };
        let slice = json!({
            "metadata": {"namespace": "ns", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.1.0.9"], "conditions": {"ready": false}},
                          {"addresses": ["10.1.0.5"], "conditions": {"ready": true}}]});
        Fixture::new()
            .add(NODES, node("n1", 10250))
            .add(NODES, node("n2", 10350))
            .add(NODES, {
                let mut known = node("n3", 10250);
                known["metadata"]["annotations"] = json!({SERVING_CERTIFICATE: SIGNED});
                known
            })
            .add(PODS, pod("p", "10.1.0.5"))
            .add(PODS, pod("evil", "127.0.0.1"))
            .add(PODS, pod("pending", ""))
            .add(
                SERVICES,
                json!({"metadata": {"namespace": "ns", "name": "web"},
                                  "spec": {"ports": [{"name": "http", "port": 80}]}}),
            )
            .add(
                SERVICES,
                json!({"metadata": {"namespace": "ns", "name": "empty"}, "spec": {"ports": [{"port": 80}]}}),
            )
            .add(("discovery.k8s.io", "endpointslices").into(), slice)
    }

    fn check(uri: &str, expected: Result<&str, &str>) {
        let uri: Uri = uri.parse().expect("a URI");
        let info = RequestInfo::parse(&Method::GET, uri.path(), uri.query().unwrap_or_default());
        let find = match info.resource.as_str() {
            "nodes" => Target::node,
            "pods" => Target::pod,
            _ => Target::service,
        };
        match (find(&fixture(), &info, &uri), expected) {
            (Ok(target), Ok(expected)) => {
                let got = format!("{:?} {}:{} {}", target.scheme, target.host, target.port, target.path);
                assert_eq!(got, expected, "{uri}");
            }
            (Err(status), Err(part)) => assert!(status.message.contains(part), "{uri}: {status}"),
            (got, expected) => panic!("{uri}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn nodes() {
        check("/api/v1/nodes/n1/proxy/metrics?x=%2F", Ok("Kubelet 10.0.0.7:10250 /metrics?x=%2F"));
        check("/api/v1/nodes/n2/proxy", Ok("Kubelet 10.0.0.7:10350 /"));
        check("/api/v1/nodes/n3/proxy/", Ok("KnownKubelet 10.0.0.7:10250 /"));
        check("/api/v1/nodes/n1:10250/proxy/a/b/", Ok("Kubelet 10.0.0.7:10250 /a/b/"));
        check("/api/v1/nodes/http:n1:9100/proxy/", Ok("Http 10.0.0.7:9100 /"));
        check("/api/v1/nodes/gone/proxy/", Err("not found"));
        check("/api/v1/nodes/n1:x/proxy/", Err("invalid request"));
    }

    #[test]
    fn pods() {
        check("/api/v1/namespaces/ns/pods/p/proxy/a%20b", Ok("Http 10.1.0.5:8080 /a%20b"));
        check("/api/v1/namespaces/ns/pods/https:p:8443/proxy/", Ok("Https 10.1.0.5:8443 /"));
        check("/api/v1/namespaces/ns/pods/p:99999/proxy/", Err("invalid request"));
        check("/api/v1/namespaces/ns/pods/evil/proxy/", Err("address not allowed"));
        check("/api/v1/namespaces/ns/pods/pending/proxy/", Err("address not allowed"));
        check("/api/v1/namespaces/ns/pods/ftp:p:1/proxy/", Err("invalid request"));
    }

    #[test]
    fn services() {
        check("/api/v1/namespaces/ns/services/web/proxy/x", Ok("Http 10.1.0.5:8080 /x"));
        check("/api/v1/namespaces/ns/services/web:http/proxy/x", Ok("Http 10.1.0.5:8080 /x"));
        check("/api/v1/namespaces/ns/services/https:web:80/proxy/x", Ok("Https 10.1.0.5:8080 /x"));
        check("/api/v1/namespaces/ns/services/web:81/proxy/x", Err("no service port"));
        check("/api/v1/namespaces/ns/services/empty/proxy/x", Err("no endpoints available"));
    }
}
