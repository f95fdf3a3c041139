//! `pods/log`: checks the options and names the kubelet's path for them.

use api::field::{FieldErrors, Path};
use api::status::Status;
use http::Response;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;

use super::container;
use super::target::{Purpose, Target};
use crate::admission::objects::{Objects, PODS};
use crate::request::{RequestInfo, query_pairs};
use crate::server::body::ResponseBody;

/// PodLogOptions.
#[derive(Default, Debug, PartialEq, Eq)]
struct Options {
    container: String,
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
    since_seconds: Option<i64>,
    since_time: Option<String>,
    stream: Option<String>,
}

impl Options {
    fn read(query: &str, pod: &str) -> Result<Self, Status> {
        let mut options = Self::default();
        let mut errors = FieldErrors::new();
        for (key, value) in query_pairs(query) {
            let bad = |what: &str| Status::bad_request(format!("{key}: {value:?} is not {what}"));
            let number = || value.parse::<i64>().map_err(|_| bad("a number"));
            match &*key {
                "container" => options.container = value.into_owned(),
                "follow" => options.follow = is_true(&value),
                "previous" => options.previous = is_true(&value),
                "timestamps" => options.timestamps = is_true(&value),
                "tailLines" => options.tail_lines = Some(number()?),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => options.since_seconds = Some(number()?),
                "sinceTime" => {
                    value.parse::<Timestamp>().map_err(|_| bad("an RFC 3339 time"))?;
                    options.since_time = Some(value.into_owned());
                }
                "stream" => options.stream = Some(value.into_owned()),
                _ => {}
            }
        }
        let least = |errors: &mut FieldErrors, field: &str, value: Option<i64>, least: i64, why: &str| {
            if let Some(value) = value.filter(|value| *value < least) {
                errors.invalid(&Path::new(field), value, why);
            }
        };
        least(&mut errors, "tailLines", options.tail_lines, 0, "must be greater than or equal to 0");
        least(&mut errors, "limitBytes", options.limit_bytes, 1, "must be greater than 0");
        if options.since_seconds.is_some() && options.since_time.is_some() {
            errors.forbidden(&Path::ROOT, "at most one of `sinceTime` or `sinceSeconds` may be specified");
        } else {
            least(&mut errors, "sinceSeconds", options.since_seconds, 1, "must be greater than 0");
        }
        if let Some(stream) = &options.stream {
            if !matches!(stream.as_str(), "All" | "Stdout" | "Stderr") {
                errors.not_supported(&Path::new("stream"), stream.as_str(), &["All", "Stderr", "Stdout"]);
            } else if stream != "All" && options.tail_lines.is_some() {
                errors.forbidden(
                    &Path::ROOT,
                    "`tailLines` and specific `stream` are mutually exclusive for now",
                );
            }
        }
        match errors.is_empty() {
            true => Ok(options),
            false => Err(Status::invalid("", "PodLogOptions", pod, &errors)),
        }
    }

    fn query(&self) -> String {
        let mut pairs = Vec::new();
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.push(format!("{key}={}", escape(&value)));
            }
        };
        let flag = |set: bool| set.then(|| "true".to_owned());
        let number = |value: Option<i64>| value.map(|value| value.to_string());
        add("follow", flag(self.follow));
        add("previous", flag(self.previous));
        add("timestamps", flag(self.timestamps));
        add("sinceSeconds", number(self.since_seconds));
        add("sinceTime", self.since_time.clone());
        add("tailLines", number(self.tail_lines));
        add("limitBytes", number(self.limit_bytes));
        add("stream", self.stream.clone());
        pairs.join("&")
    }
}

/// As upstream reads boolean parameters: anything but `false` and `0`.
fn is_true(value: &str) -> bool {
    !matches!(value, "false" | "0")
}

/// A text as one segment of a path or value of a query.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The kubelet's log of the container; none while the pod has no node.
pub fn target(objects: &dyn Objects, info: &RequestInfo, query: &str) -> Result<Option<Target>, Status> {
    let options = Options::read(query, &info.name)?;
    let pod =
        objects.get(PODS, &info.namespace, &info.name).ok_or_else(|| Status::not_found(PODS, &info.name))?;
    let container = container::choose(&pod, &options.container)?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Ok(None);
    }
    let mut path =
        format!("/containerLogs/{}/{}/{}", escape(&info.namespace), escape(&info.name), escape(&container));
    let query = options.query();
    if !query.is_empty() {
        path = format!("{path}?{query}");
    }
    Target::kubelet(objects, node, path, Purpose::Log).map(Some)
}

/// The log of a pod that runs nowhere.
pub fn nothing() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::admission::objects::NODES;
    use crate::admission::objects::tests::Fixture;

    fn check(query: &str, expected: Result<&str, &str>) {
        let pod = |name: &str, node: serde_json::Value| json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"nodeName": node, "containers": [{"name": "c"}]}});
        let fixture =
            Fixture::new().add(PODS, pod("p", json!("n1"))).add(PODS, pod("pending", json!(null))).add(
                NODES,
                json!({"metadata": {"name": "n1"},
                               "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.7"}]}}),
            );
        let (name, query) = query.split_once('?').unwrap_or((query, ""));
        let info = RequestInfo::parse(&Method::GET, &format!("/api/v1/namespaces/ns/pods/{name}/log"), query);
        match (target(&fixture, &info, query), expected) {
            (Ok(target), Ok(expected)) => {
                assert_eq!(target.map(|target| target.path).unwrap_or_default(), expected, "{query}");
            }
            (Err(status), Err(expected)) => assert_eq!(status.message, expected, "{query}"),
            (got, expected) => panic!("{query}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn paths() {
        check("p", Ok("/containerLogs/ns/p/c"));
        check(
            "p?follow=true&tailLines=5&timestamps=false&previous=&other=x",
            Ok("/containerLogs/ns/p/c?follow=true&previous=true&tailLines=5"),
        );
        check(
            "p?sinceTime=2026-01-01T00:00:00%2B01:00",
            Ok("/containerLogs/ns/p/c?sinceTime=2026-01-01T00%3A00%3A00%2B01%3A00"),
        );
        check("pending", Ok(""));
    }

    #[test]
    fn refusals() {
        check("gone", Err(r#"pods "gone" not found"#));
        check("p?container=z", Err("container z is not valid for pod p"));
        check(
            "p?tailLines=-1",
            Err(
                r#"PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#,
            ),
        );
        check("p?tailLines=x", Err(r#"tailLines: "x" is not a number"#));
        check("p?sinceTime=yesterday", Err(r#"sinceTime: "yesterday" is not an RFC 3339 time"#));
        check(
            "p?limitBytes=0",
            Err(r#"PodLogOptions "p" is invalid: limitBytes: Invalid value: 0: must be greater than 0"#),
        );
    }
}
