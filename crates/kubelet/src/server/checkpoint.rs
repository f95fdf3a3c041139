//! `POST /checkpoint/<namespace>/<pod>/<container>`: the runtime writes a running container's state to an archive.

use std::os::unix::fs::DirBuilderExt;

use http::{Response, StatusCode};
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use tonic::Code;

use super::routes::parameter;
use super::streaming::{Target, running};
use super::{Body, error, json};
use crate::context::Context;

pub async fn handle(ctx: &Context, target: Target<'_>, query: &str) -> Response<Body> {
    let timeout = match parameter(query, "timeout").map(|text| text.parse::<i64>()) {
        None => 0,
        Some(Ok(timeout)) if timeout >= 0 => timeout,
        Some(_) => return error(StatusCode::BAD_REQUEST, "timeout is not a number of seconds"),
    };
    let Ok(container_id) = running(ctx, target.namespace, target.pod, target.container) else {
        return error(
            StatusCode::NOT_FOUND,
            format!("container {}/{}/{} does not run here", target.namespace, target.pod, target.container),
        );
    };
    let dir = ctx.options.root_dir.join("checkpoints");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    if let Err(problem) = made {
        return error(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot make {}: {problem}", dir.display()));
    }
    let Target { namespace, pod, container } = target;
    let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let location =
        dir.join(format!("checkpoint-{pod}_{namespace}-{container}-{at}.tar")).display().to_string();
    let request = cri::CheckpointContainerRequest { container_id, location: location.clone(), timeout };
    match ctx.cri.checkpoint_container(request).await {
        Ok(_) => json(&serde_json::json!({"items": [location]})),
        Err(problem) => {
            let message =
                format!("checkpointing of {namespace}/{pod}/{container} failed ({})", problem.message);
            let unknown = problem.code == Code::Unimplemented;
            error(if unknown { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR }, message)
        }
    }
}
