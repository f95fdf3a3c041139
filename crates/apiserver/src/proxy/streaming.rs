//! `pods/exec`, `pods/attach` and `pods/portforward`: names the kubelet's path for them.

use api::status::Status;
use serde_json::Value;
use streaming::Streams;

use super::container;
use super::log::escape;
use super::target::{Purpose, Target};
use crate::admission::objects::{Objects, PODS};
use crate::request::{RequestInfo, query_pairs};

/// The kubelet's end of the stream.
pub fn target(objects: &dyn Objects, info: &RequestInfo, query: &str) -> Result<Target, Status> {
    let pod =
        objects.get(PODS, &info.namespace, &info.name).ok_or_else(|| Status::not_found(PODS, &info.name))?;
    let path = match info.subresource.as_str() {
        "portforward" => port_forward(&info.namespace, &info.name, query),
        verb => {
            not_completed(&pod, verb)?;
            remote_command(info, &pod, query)?
        }
    };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    Target::kubelet(objects, node, path, Purpose::Stream)
}

fn not_completed(pod: &Value, verb: &str) -> Result<(), Status> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if !matches!(phase, "Succeeded" | "Failed") {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "cannot {verb} into a container in a completed pod; current phase is {phase}"
    )))
}

/// `/exec/<namespace>/<pod>/<container>` with the kubelet's names of the streams.
fn remote_command(info: &RequestInfo, pod: &Value, query: &str) -> Result<String, Status> {
    let mut wanted = String::new();
    let mut pairs = Vec::new();
    for (key, value) in query_pairs(query) {
        let stream = match &*key {
            "container" => {
                wanted = value.into_owned();
                continue;
            }
            "command" if info.subresource == "exec" => {
                pairs.push(format!("command={}", escape(&value)));
                continue;
            }
            "stdin" => "input",
            "stdout" => "output",
            "stderr" => "error",
            "tty" => "tty",
            _ => continue,
        };
        if truth(&value) {
            pairs.push(format!("{stream}=1"));
        }
    }
    let container = container::choose(pod, &wanted)?;
    let mut path = format!(
        "/{}/{}/{}/{}",
        info.subresource,
        escape(&info.namespace),
        escape(&info.name),
        escape(&container)
    );
    if !pairs.is_empty() {
        path = format!("{path}?{}", pairs.join("&"));
    }
    Ok(path)
}

/// As Kubernetes reads a boolean of a query, in whatever case: the Python client sends `False`.
fn truth(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

/// Which streams a query asks for.
pub fn streams(query: &str) -> Streams {
    let mut streams = Streams::default();
    for (key, value) in query_pairs(query) {
        match &*key {
            "stdin" => streams.stdin = truth(&value),
            "stdout" => streams.stdout = truth(&value),
            "stderr" => streams.stderr = truth(&value),
            "tty" => streams.tty = truth(&value),
            _ => {}
        }
    }
    streams
}

fn port_forward(namespace: &str, name: &str, query: &str) -> String {
    let ports: Vec<String> = query_pairs(query)
        .filter(|(key, _)| key == "ports")
        .map(|(_, ports)| format!("port={}", escape(&ports)))
        .collect();
    let path = format!("/portForward/{}/{}", escape(namespace), escape(name));
    match ports.is_empty() {
        true => path,
        false => format!("{path}?{}", ports.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::admission::objects::NODES;
    use crate::admission::objects::tests::Fixture;

    fn check(uri: &str, expected: Result<&str, &str>) {
        let pod = |name: &str, phase: &str| {
            json!({"metadata": {"namespace": "ns", "name": name}, "status": {"phase": phase},
                   "spec": {"nodeName": "n1", "containers": [{"name": "c"}, {"name": "d"}]}})
        };
        let mut pending = pod("pending", "Pending");
        pending["spec"]["nodeName"] = json!("");
        let fixture = Fixture::new()
            .add(PODS, pod("p", "Running"))
            .add(PODS, pod("done", "Succeeded"))
            .add(PODS, pending)
            .add(
                NODES,
                json!({"metadata": {"name": "n1"},
                               "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.7"}]}}),
            );
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(&Method::POST, &format!("/api/v1/namespaces/ns/pods/{path}"), query);
        match (target(&fixture, &info, query), expected) {
            (Ok(target), Ok(expected)) => assert_eq!(target.path, expected, "{uri}"),
            (Err(status), Err(expected)) => assert_eq!(status.message, expected, "{uri}"),
            (got, expected) => panic!("{uri}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn paths() {
        check(
            "p/exec?container=d&command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=true&stderr=False&tty=true",
            Ok("/exec/ns/p/d?command=sh&command=-c&command=echo%20a%26b&input=1&output=1&tty=1"),
        );
        check("p/attach?container=c&stdout=1&command=x", Ok("/attach/ns/p/c?output=1"));
        check("p/portforward", Ok("/portForward/ns/p"));
        check("p/portforward?ports=80&ports=81", Ok("/portForward/ns/p?port=80&port=81"));
    }

    #[test]
    fn refusals() {
        check("gone/exec", Err(r#"pods "gone" not found"#));
        check("p/exec?command=x", Err("a container name must be specified for pod p, choose one of: [c d]"));
        check("pending/portforward", Err("pod pending does not have a host assigned"));
        check(
            "done/exec?container=c",
            Err("cannot exec into a container in a completed pod; current phase is Succeeded"),
        );
    }
}
