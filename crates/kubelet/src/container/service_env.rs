//! Environment variables that name the Services of a pod's namespace (`enableServiceLinks`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT...` and the Docker-links forms. `kubernetes` in `default` is named
/// to every pod; the others only where `links` is on.
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut chosen: Vec<&Service> = services
        .filter(|service| {
            let meta = &service.metadata;
            let own = meta.namespace.as_deref() == Some(namespace);
            let master =
                meta.namespace.as_deref() == Some("default") && meta.name.as_deref() == Some("kubernetes");
            master || (own && links)
        })
        .collect();
    // One of the pod's own namespace wins over default's of the same name.
    chosen.sort_by_key(|service| service.metadata.namespace.as_deref() == Some(namespace));
    for service in chosen {
        describe(service, &mut variables);
    }
    variables
}

fn describe(service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let ip = match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => return,
        Some(ip) => ip,
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut set = |key: String, value: String| {
        variables.insert(key, value);
    };
    set(format!("{name}_SERVICE_HOST"), ip.to_owned());
    set(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            set(format!("{name}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
        let url = format!("{protocol}://{host}:{}", port.port);
        if index == 0 {
            set(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        set(prefix.clone(), url);
        set(format!("{prefix}_PROTO"), protocol);
        set(format!("{prefix}_PORT"), port.port.to_string());
        set(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"name": "web-a", "port": 80, "protocol": "TCP"}]},
        }))
        .unwrap()
    }

    #[test]
    fn names_own_services_and_kubernetes() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("shop", "my-db", "10.96.0.5"),
            service("shop", "headless", "None"),
            service("other", "hidden", "10.96.0.6"),
        ];
        let found = variables(services.iter(), "shop", true);
        assert_eq!(found["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
        assert_eq!(found["MY_DB_SERVICE_PORT_WEB_A"], "80");
        assert_eq!(found["MY_DB_PORT_80_TCP"], "tcp://10.96.0.5:80");
        assert_eq!(found["MY_DB_PORT_80_TCP_ADDR"], "10.96.0.5");
        assert!(!found.keys().any(|key| key.starts_with("HEADLESS") || key.starts_with("HIDDEN")));
        let found = variables(services.iter(), "shop", false);
        assert!(!found.contains_key("MY_DB_SERVICE_HOST"));
        assert!(found.contains_key("KUBERNETES_SERVICE_HOST"));
    }
}
