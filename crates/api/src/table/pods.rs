//! Pods. The STATUS column condenses phase, reasons, container states and deletion into one word.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{NONE, age, condition_is_true, flag, int, is_deleted, labels, list, name, text, text_or};
use super::duration::human_duration;
use super::{AGE, NAME, Printer, column, wide};

static POD: Printer = Printer {
    columns: &[
        NAME,
        column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "The aggregate status of the containers in this pod."),
        column(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
        AGE,
        wide("IP", "IP address allocated to the pod."),
        wide("Node", "The node that runs the pod."),
        wide("Nominated Node", "The node that the scheduler makes room on for this pod."),
        wide("Readiness Gates", "How many of the pod's readiness gates are passed."),
    ],
    cells: pod,
};

static POD_TEMPLATE: Printer = Printer {
    columns: &[
        NAME,
        column("Containers", "Names of each container in the template."),
        column("Images", "Images referenced by each container in the template."),
        column("Pod Labels", "The labels for the pod template."),
    ],
    cells: |object, _| {
        let containers = list(object, "/template/spec/containers");
        vec![
            name(object),
            super::cells::join(containers, "/name").into(),
            super::cells::join(containers, "/image").into(),
            labels(object, "/template/metadata/labels").into(),
        ]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "Pod" => Some(&POD),
        "PodTemplate" => Some(&POD_TEMPLATE),
        _ => None,
    }
}

/// What is counted over the containers of a pod.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += int(status, "/restartCount");
        let finished = text(status, "/lastState/terminated/finishedAt").parse::<Timestamp>().ok();
        self.last = self.last.max(finished);
    }
}

fn pod(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match summary.restarts {
        Restarts { count, last: Some(last) } if count != 0 => {
            format!("{count} ({} ago)", human_duration(now.as_second() - last.as_second()))
        }
        Restarts { count, .. } => count.to_string(),
    };
    let ip = list(pod, "/status/podIPs").first().map(|ip| text(ip, "/ip")).filter(|ip| !ip.is_empty());
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.containers).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        ip.unwrap_or_else(|| text_or(pod, "/status/podIP", NONE)).into(),
        text_or(pod, "/spec/nodeName", NONE).into(),
        text_or(pod, "/status/nominatedNodeName", NONE).into(),
        readiness_gates(pod).into(),
    ]
}

struct Summary {
    ready: usize,
    containers: usize,
    reason: String,
    restarts: Restarts,
}

fn summarize(pod: &Value) -> Summary {
    let phase = text(pod, "/status/phase");
    let init_containers = list(pod, "/spec/initContainers");
    let sidecar = |name: &str| {
        init_containers
            .iter()
            .any(|init| text(init, "/name") == name && text(init, "/restartPolicy") == "Always")
    };
    let sidecars = init_containers.iter().filter(|init| text(init, "/restartPolicy") == "Always").count();
    let mut summary = Summary {
        ready: 0,
        containers: list(pod, "/spec/containers").len() + sidecars,
        reason: text_or(pod, "/status/reason", phase).to_owned(),
        restarts: Restarts::default(),
    };
    let gated = |condition: &Value| {
        text(condition, "/type") == "PodScheduled" && text(condition, "/reason") == "SchedulingGated"
    };
    if list(pod, "/status/conditions").iter().any(gated) {
        summary.reason = "SchedulingGated".to_owned();
    }

    let mut sidecar_restarts = Restarts::default();
    let mut initializing = None;
    for (index, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        summary.restarts.add(status);
        let is_sidecar = sidecar(text(status, "/name"));
        if is_sidecar {
            sidecar_restarts.add(status);
        }
        if status.pointer("/state/terminated").is_some() && int(status, "/state/terminated/exitCode") == 0 {
            continue;
        }
        if is_sidecar && flag(status, "/started") {
            summary.ready += usize::from(flag(status, "/ready"));
            continue;
        }
        initializing = Some(init_reason(status, index, init_containers.len()));
        break;
    }
    let initialized = initializing.is_none() || condition_is_true(pod, "Initialized");
    if let Some(reason) = initializing {
        summary.reason = reason;
    }
    if initialized {
        summary.restarts = sidecar_restarts;
        containers(pod, &mut summary);
    }

    if is_deleted(pod) && text(pod, "/status/reason") == "NodeLost" {
        summary.reason = "Unknown".to_owned();
    } else if is_deleted(pod) && !matches!(phase, "Succeeded" | "Failed") {
        summary.reason = "Terminating".to_owned();
    }
    summary
}

/// Why the pod is still initializing: because of the container with this status.
fn init_reason(status: &Value, index: usize, total: usize) -> String {
    if let Some(terminated) = status.pointer("/state/terminated") {
        return format!("Init:{}", termination(terminated));
    }
    match text(status, "/state/waiting/reason") {
        "" | "PodInitializing" => format!("Init:{index}/{total}"),
        reason => format!("Init:{reason}"),
    }
}

/// The last container that has something to say gives the reason; one that runs makes up for completed ones.
fn containers(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        summary.restarts.add(status);
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = status.pointer("/state/terminated") {
            summary.reason = termination(terminated);
        } else if flag(status, "/ready") && status.pointer("/state/running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let ready = condition_is_true(pod, "Ready");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn termination(terminated: &Value) -> String {
    match (text(terminated, "/reason"), int(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let passed = gates.iter().filter(|gate| condition_is_true(pod, text(gate, "/conditionType"))).count();
    format!("{passed}/{}", gates.len())
}

/// The condition of a row, by which clients can tell finished pods.
pub(super) fn row_condition(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}
