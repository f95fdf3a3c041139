//! Calls to the container runtime, counted and timed on their way.

use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::Service;

use super::{count, observe};

/// A channel whose calls are known to `/metrics`.
#[derive(Clone)]
pub struct Metered(pub Channel);

impl Service<Request<Body>> for Metered {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let operation = operation(request.uri().path());
        let answer = self.0.call(request);
        Box::pin(async move {
            let began = Instant::now();
            let answer = answer.await;
            let labels = [("operation_type", operation.as_str())];
            count("kubelet_runtime_operations_total", &labels);
            observe("kubelet_runtime_operations_duration_seconds", &labels, began.elapsed());
            // An error has nothing but headers; a success tells its status at the end.
            let failed = |answer: &Response<Body>| {
                answer.headers().get("grpc-status").is_some_and(|status| status.as_bytes() != b"0")
            };
            if answer.as_ref().map_or(true, failed) {
                count("kubelet_runtime_operations_errors_total", &labels);
            }
            answer
        })
    }
}

/// `/runtime.v1.RuntimeService/RunPodSandbox` as `run_podsandbox`: upstream's names.
fn operation(path: &str) -> String {
    let method = path.rsplit('/').next().unwrap_or_default().replace("PodSandbox", "Podsandbox");
    let mut name = String::new();
    for c in method.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    match name.as_str() {
        "update_container_resources" => "update_container".into(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::operation;

    #[test]
    fn names() {
        for (path, expected) in [
            ("/runtime.v1.RuntimeService/RunPodSandbox", "run_podsandbox"),
            ("/runtime.v1.RuntimeService/ListPodSandboxStats", "list_podsandbox_stats"),
            ("/runtime.v1.ImageService/PullImage", "pull_image"),
            ("/runtime.v1.RuntimeService/UpdateContainerResources", "update_container"),
        ] {
            assert_eq!(operation(path), expected);
        }
    }
}
