//! Deployments and the other kinds that keep pods running.

use serde_json::Value;

use super::cells::{NONE, age, int, join, label_selector, labels, list, name, text};
use super::{AGE, NAME, Printer, column, number, wide};

static DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        column("Ready", "Number of the pod with ready state."),
        number(
            "Up-to-date",
            "Total number of non-terminated pods targeted by this deployment that have the desired template spec.",
        ),
        number(
            "Available",
            "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment.",
        ),
        AGE,
        wide("Containers", "Names of each container in the template."),
        wide("Images", "Images referenced by each container in the template."),
        wide("Selector", "Label selector for pods."),
    ],
    cells: |object, now| {
        let mut cells = vec![
            name(object),
            ready(object),
            int(object, "/status/updatedReplicas").into(),
            int(object, "/status/availableReplicas").into(),
            age(object, now),
        ];
        cells.extend(template(object));
        cells.push(label_selector(object, "/spec/selector").into());
        cells
    },
};

static REPLICA_SET: Printer =
    Printer { columns: REPLICAS, cells: |object, now| replicas(object, now, label_selector) };

/// Its selector is a plain map of labels.
static REPLICATION_CONTROLLER: Printer =
    Printer { columns: REPLICAS, cells: |object, now| replicas(object, now, labels) };

const REPLICAS: &[super::Column] = &[
    NAME,
    number("Desired", "Replicas is the number of desired pods."),
    number("Current", "Replicas is the most recently observed number of non-terminating pods."),
    number("Ready", "readyReplicas is the number of non-terminating pods with a Ready Condition."),
    AGE,
    wide("Containers", "Names of each container in the template."),
    wide("Images", "Images referenced by each container in the template."),
    wide("Selector", "Label selector for pods."),
];

static STATEFUL_SET: Printer = Printer {
    columns: &[
        NAME,
        column("Ready", "Number of the pod with ready state."),
        AGE,
        wide("Containers", "Names of each container in the template."),
        wide("Images", "Images referenced by each container in the template."),
    ],
    cells: |object, now| {
        let mut cells = vec![name(object), ready(object), age(object, now)];
        cells.extend(template(object));
        cells
    },
};

static DAEMON_SET: Printer = Printer {
    columns: &[
        NAME,
        number("Desired", "The total number of nodes that should be running the daemon pod."),
        number(
            "Current",
            "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod.",
        ),
        number(
            "Ready",
            "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
        ),
        number("Up-to-date", "The total number of nodes that are running updated daemon pod."),
        number(
            "Available",
            "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available.",
        ),
        column("Node Selector", "The nodes that pods of this set may run on."),
        AGE,
        wide("Containers", "Names of each container in the template."),
        wide("Images", "Images referenced by each container in the template."),
        wide("Selector", "Label selector for pods."),
    ],
    cells: |object, now| {
        let mut cells = vec![
            name(object),
            int(object, "/status/desiredNumberScheduled").into(),
            int(object, "/status/currentNumberScheduled").into(),
            int(object, "/status/numberReady").into(),
            int(object, "/status/updatedNumberScheduled").into(),
            int(object, "/status/numberAvailable").into(),
            labels(object, "/spec/template/spec/nodeSelector").into(),
            age(object, now),
        ];
        cells.extend(template(object));
        cells.push(label_selector(object, "/spec/selector").into());
        cells
    },
};

static CONTROLLER_REVISION: Printer = Printer {
    columns: &[
        NAME,
        column("Controller", "Controller of the object"),
        number("Revision", "Revision indicates the revision of the state represented by Data."),
        AGE,
    ],
    cells: |object, now| {
        vec![name(object), controller(object).into(), int(object, "/revision").into(), age(object, now)]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "Deployment" => Some(&DEPLOYMENT),
        "ReplicaSet" => Some(&REPLICA_SET),
        "ReplicationController" => Some(&REPLICATION_CONTROLLER),
        "StatefulSet" => Some(&STATEFUL_SET),
        "DaemonSet" => Some(&DAEMON_SET),
        "ControllerRevision" => Some(&CONTROLLER_REVISION),
        _ => None,
    }
}

fn replicas(object: &Value, now: jiff::Timestamp, selector: fn(&Value, &str) -> String) -> Vec<Value> {
    let mut cells = vec![
        name(object),
        int(object, "/spec/replicas").into(),
        int(object, "/status/replicas").into(),
        int(object, "/status/readyReplicas").into(),
        age(object, now),
    ];
    cells.extend(template(object));
    cells.push(selector(object, "/spec/selector").into());
    cells
}

fn ready(object: &Value) -> Value {
    format!("{}/{}", int(object, "/status/readyReplicas"), int(object, "/spec/replicas")).into()
}

/// Names and images of the containers in the pod template.
pub(super) fn template(object: &Value) -> [Value; 2] {
    let containers = list(object, "/spec/template/spec/containers");
    [join(containers, "/name").into(), join(containers, "/image").into()]
}

/// `daemonset.apps/name` of the owner that manages this object.
fn controller(object: &Value) -> String {
    let owners = list(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| super::cells::flag(owner, "/controller")) else {
        return NONE.to_owned();
    };
    let kind = text(owner, "/kind").to_lowercase();
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")),
        None => format!("{kind}/{}", text(owner, "/name")),
    }
}
