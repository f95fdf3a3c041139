//! `/containerLogs`: finds the container's log file and sends what is asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use tokio::sync::mpsc;

use super::log_file::{self, Follow};
use super::routes::{is_true, parameter};
use super::streaming::find_pod;
use super::{Body, error};
use crate::context::Context;
use crate::pod::ext::PodExt;

/// What part of a log is wanted, and how it is to look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    pub limit: Option<u64>,
    /// Only standard output, or only standard error.
    pub stderr: Option<bool>,
}

impl Options {
    fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let number = |name: &str| -> Result<Option<u64>, String> {
            match parameter(query, name).filter(|value| !value.is_empty()) {
                None => Ok(None),
                Some(value) => value.parse().map(Some).map_err(|_| {
                    format!("Unable to decode query: {name}={value:?} is not a number of zero or more")
                }),
            }
        };
        let since_time = parameter(query, "sinceTime").filter(|value| !value.is_empty());
        let since = match (number("sinceSeconds")?, since_time) {
            (Some(seconds), _) => {
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                now.checked_sub(SignedDuration::from_secs(seconds)).ok()
            }
            (None, Some(time)) => Some(time.parse().map_err(|_| {
                format!("Unable to decode query: sinceTime={time:?} is not an RFC 3339 time")
            })?),
            (None, None) => None,
        };
        Ok(Self {
            follow: is_true(query, "follow"),
            previous: is_true(query, "previous"),
            timestamps: is_true(query, "timestamps"),
            tail: number("tailLines")?,
            since,
            limit: number("limitBytes")?,
            stderr: match parameter(query, "stream").as_deref() {
                Some("Stdout") => Some(false),
                Some("Stderr") => Some(true),
                _ => None,
            },
        })
    }
}

pub async fn handle(
    ctx: &Arc<Context>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &str,
) -> Response<Body> {
    let options = match Options::parse(query, Timestamp::now()) {
        Ok(options) => options,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let Some(pod) = find_pod(ctx, namespace, name) else {
        return error(
            StatusCode::NOT_FOUND,
            format!("pod {name:?} does not exist in namespace {namespace:?}"),
        );
    };
    let id = match container_id(&pod, container, options.previous) {
        Ok(id) => id,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let path = match ctx.cri.container_status(&id).await {
        Ok(status) => status.log_path,
        Err(problem) => {
            return error(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("unable to retrieve container logs for {}://{id}: {problem}", ctx.cri.name),
            );
        }
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(8);
    let follow = options.follow.then(|| Follow {
        cri: ctx.cri.clone(),
        container_id: id,
        pod_uid: pod.runtime_uid().to_owned(),
        changes: ctx.changes.subscribe(),
    });
    tokio::spawn(log_file::send(path.into(), options, follow, sender));
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, super::BoxError>(Frame::data(chunk)), receiver))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let plain = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The container whose log is meant, or why there is none, in upstream's words.
fn container_id(pod: &Pod, name: &str, previous: bool) -> Result<String, String> {
    let spec = pod.pod_spec();
    let mut names = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| &container.name)
        .chain(spec.ephemeral_containers.iter().flatten().map(|container| &container.name));
    if !names.any(|known| known == name) {
        return Err(format!("container {name} is not valid for pod {}", pod.name()));
    }
    let status = pod.status.clone().unwrap_or_default();
    let mut statuses = status
        .container_statuses
        .into_iter()
        .flatten()
        .chain(status.init_container_statuses.into_iter().flatten())
        .chain(status.ephemeral_container_statuses.into_iter().flatten());
    let Some(found) = statuses.find(|status| status.name == name) else {
        return Err(format!("container {name:?} in pod {:?} is not available", pod.name()));
    };
    let ended = |status: &ContainerStatus| {
        let last = status.last_state.as_ref()?.terminated.as_ref()?;
        last.container_id.clone().filter(|id| !id.is_empty())
    };
    let state = found.state.clone().unwrap_or_default();
    let id = if previous {
        ended(&found).ok_or_else(|| {
            format!("previous terminated container {name:?} in pod {:?} not found", pod.name())
        })?
    } else if let Some(terminated) = state.terminated {
        terminated.container_id.unwrap_or_default()
    } else if state.running.is_some() {
        found.container_id.clone().unwrap_or_default()
    } else if let Some(id) = ended(&found) {
        // It waits to be restarted: what the last one said is what is wanted.
        id
    } else {
        let reason = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
        return Err(match reason.as_str() {
            "ErrImagePull" => format!(
                "container {name:?} in pod {:?} is waiting to start: image can't be pulled",
                pod.name()
            ),
            "ImagePullBackOff" => format!(
                "container {name:?} in pod {:?} is waiting to start: trying and failing to pull image",
                pod.name()
            ),
            reason => format!("container {name:?} in pod {:?} is waiting to start: {reason}", pod.name()),
        });
    };
    match id.split_once("://") {
        Some((_, id)) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(format!("container {name:?} in pod {:?} has no log yet", pod.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options() {
        let now = Timestamp::from_second(1000).unwrap();
        let options =
            Options::parse("follow=true&tailLines=5&sinceSeconds=100&timestamps=1&limitBytes=7", now)
                .unwrap();
        assert_eq!(options.since, Some(Timestamp::from_second(900).unwrap()));
        assert_eq!(
            (options.tail, options.limit, options.follow, options.timestamps),
            (Some(5), Some(7), true, true)
        );
        assert!(Options::parse("tailLines=-1", now).is_err());
        assert!(Options::parse("sinceTime=yesterday", now).is_err());
    }

    #[test]
    fn which_container() {
        let check = |status: serde_json::Value, previous: bool, expected: Result<&str, &str>| {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c"}]},
                "status": {"containerStatuses": [status]},
            }))
            .unwrap();
            match (container_id(&pod, "c", previous), expected) {
                (Ok(id), Ok(expected)) => assert_eq!(id, expected),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (got, expected) => panic!("{got:?} is not {expected:?}"),
            }
        };
        let base = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0});
        let with = |extra: serde_json::Value| {
            let mut status = base.clone();
            status.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            status
        };
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let last = json!({"terminated": {"exitCode": 1, "containerID": "r://old"}});
        check(with(json!({"state": {"running": {}}, "containerID": "r://new"})), false, Ok("new"));
        check(with(json!({"state": waiting, "lastState": last})), false, Ok("old"));
        check(
            with(json!({"state": {"running": {}}, "containerID": "r://new", "lastState": last})),
            true,
            Ok("old"),
        );
        check(with(json!({"state": {"running": {}}})), true, Err("previous terminated container"));
        check(
            with(json!({"state": {"waiting": {"reason": "ErrImagePull"}}})),
            false,
            Err("image can't be pulled"),
        );
    }
}
