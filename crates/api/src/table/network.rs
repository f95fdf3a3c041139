//! Services, endpoints, ingresses and network policies.

use serde_json::Value;

use super::cells::{
    NONE, UNSET, age, int, label_selector, labels, list, name, plain, text, text_or, texts, truncated,
};
use super::{AGE, NAME, Printer, column, wide};

static SERVICE: Printer = Printer {
    columns: &[
        NAME,
        column("Type", "type determines how the Service is exposed."),
        column("Cluster-IP", "clusterIP is the IP address of the service."),
        column("External-IP", "Addresses by which the service is reached from outside."),
        column("Port(s)", "The list of ports that are exposed by this service."),
        AGE,
        wide("Selector", "Route service traffic to pods with label keys and values matching this selector."),
    ],
    cells: |object, now| {
        let cluster_ip = texts(object, "/spec/clusterIPs").first().copied();
        vec![
            name(object),
            text(object, "/spec/type").into(),
            cluster_ip.unwrap_or_else(|| text_or(object, "/spec/clusterIP", NONE)).into(),
            external_ip(object).into(),
            service_ports(object).into(),
            age(object, now),
            labels(object, "/spec/selector").into(),
        ]
    },
};

static ENDPOINTS: Printer = Printer {
    columns: &[NAME, column("Endpoints", "Addresses and ports that are ready to serve traffic."), AGE],
    cells: |object, now| vec![name(object), endpoints(object).into(), age(object, now)],
};

static ENDPOINT_SLICE: Printer = Printer {
    columns: &[
        NAME,
        column("AddressType", "addressType specifies the type of address carried by this EndpointSlice."),
        column("Ports", "ports specifies the list of network ports exposed by each endpoint in this slice."),
        column("Endpoints", "endpoints is a list of unique endpoints in this slice."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/addressType").into(),
            slice_ports(object).into(),
            slice_endpoints(object).into(),
            age(object, now),
        ]
    },
};

static INGRESS: Printer = Printer {
    columns: &[
        NAME,
        column(
            "Class",
            "The name of the IngressClass resource that should be used for additional configuration",
        ),
        column("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
        column("Address", "Address is a list containing ingress points for the load-balancer"),
        column("Ports", "Ports of TLS configurations that open"),
        AGE,
    ],
    cells: |object, now| {
        let tls = !list(object, "/spec/tls").is_empty();
        vec![
            name(object),
            text_or(object, "/spec/ingressClassName", NONE).into(),
            hosts(object).into(),
            load_balancer(object).join(",").into(),
            if tls { "80, 443" } else { "80" }.into(),
            age(object, now),
        ]
    },
};

static INGRESS_CLASS: Printer = Printer {
    columns: &[
        NAME,
        column("Controller", "Controller that is responsible for handling this class"),
        column("Parameters", "A reference to a resource with additional parameters"),
        AGE,
    ],
    cells: |object, now| {
        let parameters = match object.pointer("/spec/parameters") {
            None => NONE.to_owned(),
            Some(parameters) => {
                let kind = text(parameters, "/kind");
                match text(parameters, "/apiGroup") {
                    "" => format!("{kind}/{}", text(parameters, "/name")),
                    group => format!("{kind}.{group}/{}", text(parameters, "/name")),
                }
            }
        };
        vec![name(object), text(object, "/spec/controller").into(), parameters.into(), age(object, now)]
    },
};

static NETWORK_POLICY: Printer = Printer {
    columns: &[NAME, column("Pod-Selector", "The pods that the policy applies to."), AGE],
    cells: |object, now| {
        vec![name(object), label_selector(object, "/spec/podSelector").into(), age(object, now)]
    },
};

static IP_ADDRESS: Printer = Printer {
    columns: &[NAME, column("ParentRef", "The resource that an IPAddress is attached to."), AGE],
    cells: |object, now| {
        let parts: Vec<&str> = ["group", "resource", "namespace", "name"]
            .iter()
            .map(|part| text(object, &format!("/spec/parentRef/{part}")))
            .filter(|part| !part.is_empty())
            .collect();
        let parent = match parts.as_slice() {
            [] => NONE.to_owned(),
            parts => parts.join("/"),
        };
        vec![name(object), parent.into(), age(object, now)]
    },
};

static SERVICE_CIDR: Printer = Printer {
    columns: &[NAME, column("CIDRs", "The IP blocks from which service addresses are assigned."), AGE],
    cells: |object, now| vec![name(object), texts(object, "/spec/cidrs").join(",").into(), age(object, now)],
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "Service" => Some(&SERVICE),
        "Endpoints" => Some(&ENDPOINTS),
        "EndpointSlice" => Some(&ENDPOINT_SLICE),
        "Ingress" => Some(&INGRESS),
        "IngressClass" => Some(&INGRESS_CLASS),
        "NetworkPolicy" => Some(&NETWORK_POLICY),
        "IPAddress" => Some(&IP_ADDRESS),
        "ServiceCIDR" => Some(&SERVICE_CIDR),
        _ => None,
    }
}

/// Addresses or host names of the load balancer, each once.
fn load_balancer(object: &Value) -> Vec<&str> {
    let mut all: Vec<&str> = list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| text_or(ingress, "/ip", text(ingress, "/hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn external_ip(service: &Value) -> String {
    let external = texts(service, "/spec/externalIPs");
    let all = match text(service, "/spec/type") {
        "ExternalName" => return text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let all: Vec<&str> = load_balancer(service).into_iter().chain(external).collect();
            if all.is_empty() {
                return "<pending>".to_owned();
            }
            all
        }
        _ => external,
    };
    super::cells::joined_or_none(&all, ",")
}

fn service_ports(service: &Value) -> String {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| match int(port, "/nodePort") {
            0 => format!("{}/{}", int(port, "/port"), text(port, "/protocol")),
            node_port => format!("{}:{node_port}/{}", int(port, "/port"), text(port, "/protocol")),
        })
        .collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

/// The first three of `address:port`, and how many there are more.
fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(object, "/subsets") {
        let addresses = list(subset, "/addresses").iter().map(|address| text(address, "/ip"));
        match list(subset, "/ports") {
            [] => all.extend(addresses.map(str::to_owned)),
            ports => {
                for port in ports {
                    all.extend(addresses.clone().map(|address| host_port(address, int(port, "/port"))));
                }
            }
        }
    }
    if all.is_empty() { NONE.to_owned() } else { truncated(&all, 3) }
}

fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn slice_ports(object: &Value) -> String {
    let ports: Vec<String> = list(object, "/ports")
        .iter()
        .map(|port| match port.get("port") {
            Some(number) if !number.is_null() => plain(number),
            _ => text_or(port, "/name", "*").to_owned(),
        })
        .collect();
    if ports.is_empty() { UNSET.to_owned() } else { truncated(&ports, 3) }
}

fn slice_endpoints(object: &Value) -> String {
    let all: Vec<String> = list(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| texts(endpoint, "/addresses"))
        .map(str::to_owned)
        .collect();
    if all.is_empty() { UNSET.to_owned() } else { truncated(&all, 3) }
}

fn hosts(ingress: &Value) -> String {
    let all: Vec<String> = list(ingress, "/spec/rules")
        .iter()
        .map(|rule| text(rule, "/host"))
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    if all.is_empty() { "*".to_owned() } else { truncated(&all, 3) }
}
