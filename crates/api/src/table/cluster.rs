//! Nodes, namespaces, events, and what belongs to the cluster's own running: leases, priorities, budgets.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{
    NONE, age, condition, flag, int, is_deleted, list, map, name, plain, since_at, text, text_or,
};
use super::duration::since;
use super::{AGE, NAME, Printer, column, number, wide};

static NODE: Printer = Printer {
    columns: &[
        NAME,
        column("Status", "The status of the node"),
        column("Roles", "The roles of the node"),
        AGE,
        column("Version", "Kubelet Version reported by the node."),
        wide("Internal-IP", "The address by which the cluster reaches the node."),
        wide("External-IP", "The address by which the world reaches the node."),
        wide("OS-Image", "OS Image reported by the node from /etc/os-release."),
        wide("Kernel-Version", "Kernel Version reported by the node from 'uname -r'."),
        wide(
            "Container-Runtime",
            "ContainerRuntime Version reported by the node through runtime remote API.",
        ),
    ],
    cells: |object, now| {
        let info =
            |field: &str| text_or(object, &format!("/status/nodeInfo/{field}"), "<unknown>").to_owned();
        vec![
            name(object),
            node_status(object).into(),
            node_roles(object).into(),
            age(object, now),
            text(object, "/status/nodeInfo/kubeletVersion").into(),
            node_address(object, "InternalIP").into(),
            node_address(object, "ExternalIP").into(),
            info("osImage").into(),
            info("kernelVersion").into(),
            info("containerRuntimeVersion").into(),
        ]
    },
};

static NAMESPACE: Printer = Printer {
    columns: &[NAME, column("Status", "The status of the namespace"), AGE],
    cells: |object, now| vec![name(object), text(object, "/status/phase").into(), age(object, now)],
};

static EVENT: Printer = Printer {
    columns: &[
        column("Last Seen", "Time when this event was last observed"),
        column("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
        column("Reason", "Short, machine understandable string that gives the reason for the transition"),
        column("Object", "The object that this event is about"),
        wide("Subobject", "The part of the object that this event is about"),
        wide("Source", "The component reporting this event"),
        column("Message", "A human-readable description of the status of this operation"),
        wide("First Seen", "Time when this event was first observed"),
        wide("Count", "The number of times this event has occurred"),
        super::Column { priority: 1, ..NAME },
    ],
    cells: event,
};

static COMPONENT_STATUS: Printer = Printer {
    columns: &[
        NAME,
        column("Status", "Status of the component conditions"),
        column("Message", "Message of the component conditions"),
        column("Error", "Error of the component conditions"),
    ],
    cells: |object, _| {
        let healthy =
            list(object, "/conditions").iter().find(|condition| text(condition, "/type") == "Healthy");
        let (status, message, error) = match healthy {
            Some(condition) if text(condition, "/status") == "True" => {
                ("Healthy", text(condition, "/message"), text(condition, "/error"))
            }
            Some(condition) => ("Unhealthy", text(condition, "/message"), text(condition, "/error")),
            None => ("Unknown", "", ""),
        };
        vec![name(object), status.into(), message.into(), error.into()]
    },
};

static LEASE: Printer = Printer {
    columns: &[
        NAME,
        column("Holder", "holderIdentity contains the identity of the holder of a current lease."),
        AGE,
    ],
    cells: |object, now| vec![name(object), text(object, "/spec/holderIdentity").into(), age(object, now)],
};

static PRIORITY_CLASS: Printer = Printer {
    columns: &[
        NAME,
        number("Value", "value represents the integer value of this priority class."),
        column(
            "Global-Default",
            "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class.",
        ),
        AGE,
        column("PreemptionPolicy", "preemptionPolicy is the Policy for preempting pods with lower priority."),
    ],
    cells: |object, now| {
        vec![
            name(object),
            int(object, "/value").into(),
            flag(object, "/globalDefault").to_string().into(),
            age(object, now),
            text(object, "/preemptionPolicy").into(),
        ]
    },
};

static RUNTIME_CLASS: Printer = Printer {
    columns: &[
        NAME,
        column(
            "Handler",
            "handler specifies the underlying runtime and configuration that the CRI implementation will use to handle pods of this class.",
        ),
        AGE,
    ],
    cells: |object, now| vec![name(object), text(object, "/handler").into(), age(object, now)],
};

static POD_DISRUPTION_BUDGET: Printer = Printer {
    columns: &[
        NAME,
        column("Min Available", "The minimum number of pods that must be available."),
        column("Max Unavailable", "The maximum number of pods that may be unavailable."),
        number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
        AGE,
    ],
    cells: |object, now| {
        let bound = |pointer| object.pointer(pointer).map_or("N/A".to_owned(), plain);
        vec![
            name(object),
            bound("/spec/minAvailable").into(),
            bound("/spec/maxUnavailable").into(),
            int(object, "/status/disruptionsAllowed").into(),
            age(object, now),
        ]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "Node" => Some(&NODE),
        "Namespace" => Some(&NAMESPACE),
        "Event" => Some(&EVENT),
        "ComponentStatus" => Some(&COMPONENT_STATUS),
        "Lease" => Some(&LEASE),
        "PriorityClass" => Some(&PRIORITY_CLASS),
        "RuntimeClass" => Some(&RUNTIME_CLASS),
        "PodDisruptionBudget" => Some(&POD_DISRUPTION_BUDGET),
        _ => None,
    }
}

fn node_status(node: &Value) -> String {
    let mut status = match condition(node, "Ready").map(|ready| text(ready, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(node, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    if is_deleted(node) && condition(node, "Ready").is_none() {
        status.push_str(",Terminating");
    }
    status
}

/// From labels `node-role.kubernetes.io/<role>` and `kubernetes.io/role=<role>`.
fn node_roles(node: &Value) -> String {
    let mut roles: Vec<&str> = map(node, "/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    super::cells::joined_or_none(&roles, ",")
}

fn node_address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let found = list(node, "/status/addresses").iter().find(|address| text(address, "/type") == kind);
    found.map_or(NONE, |address| text(address, "/address"))
}

/// Events exist in two shapes: that of core, and that of `events.k8s.io` with other names for the same things.
fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let object = ["/involvedObject", "/regarding"]
        .iter()
        .find_map(|place| event.pointer(place))
        .unwrap_or(&Value::Null);
    let time = |pointers: &[&str]| {
        pointers
            .iter()
            .find_map(|pointer| event.pointer(pointer).and_then(Value::as_str))
            .map(|time| since(Some(time), now))
    };
    let first = time(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let first = first.unwrap_or_else(|| since_at(event, "/metadata/creationTimestamp", now));
    let last = time(&["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp"]);
    let count = ["/series/count", "/count", "/deprecatedCount"]
        .iter()
        .map(|place| int(event, place))
        .find(|n| *n > 0);
    let source = |core: &str, deprecated: &str, new: &str| {
        [core, deprecated, new]
            .iter()
            .map(|place| text(event, place))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let component = source("/source/component", "/deprecatedSource/component", "/reportingComponent");
    let component =
        if component.is_empty() { text(event, "/reportingController").to_owned() } else { component };
    let host = source("/source/host", "/deprecatedSource/host", "/reportingInstance");
    let message = text_or(event, "/message", text(event, "/note")).trim();
    vec![
        last.unwrap_or_else(|| first.clone()).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        format!("{}/{}", text(object, "/kind").to_lowercase(), text(object, "/name")).into(),
        text(object, "/fieldPath").into(),
        if host.is_empty() { component } else { format!("{component}, {host}") }.into(),
        message.into(),
        first.into(),
        count.unwrap_or(1).to_string().into(),
        name(event),
    ]
}
