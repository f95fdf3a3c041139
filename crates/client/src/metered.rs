//! Requests to the API server: counted and timed, and made again when it asks for patience.
//!
//! A server under load answers 429 (or 5xx) and says in `Retry-After` when to come back. Whoever made the request does not
//! see that, unless it goes on for too long: as with upstream's clients.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use exposition::{Family, Kind, Meters};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use hyper_util::client::legacy::connect::HttpInfo;
use kube::client::Body;
use tower::Service;

const COUNT: &str = "rest_client_requests_total";
const DURATION: &str = "rest_client_request_duration_seconds";
const RETRIES: &str = "rest_client_request_retries_total";

/// What [`metered`] keeps, by upstream's names.
pub const REQUESTS: &[Family] = &[
    Family {
        name: DURATION,
        kind: Kind::Histogram(&[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0]),
        help: "Request latency in seconds. Broken down by verb, and host.",
    },
    Family {
        name: RETRIES,
        kind: Kind::Counter,
        help: "Number of request retries, partitioned by status code, verb, and host.",
    },
    Family {
        name: COUNT,
        kind: Kind::Counter,
        help: "Number of HTTP requests, partitioned by status code, method, and host.",
    },
];

/// How often a request is made again.
const TIMES: u32 = 10;
/// Nobody may keep a request longer than this at a time.
const LONGEST: Duration = Duration::from_secs(60);

/// A client whose requests are known to `meters`, of [`REQUESTS`], and so to the `/metrics` of whoever has them.
pub fn metered(client: kube::Client, meters: &'static Meters) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    kube::Client::new(Patient { client, meters }, namespace)
}

struct Patient {
    client: kube::Client,
    meters: &'static Meters,
}

impl Service<Request<Body>> for Patient {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        // Each attempt waits for its own turn.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (client, meters) = (self.client.clone(), self.meters);
        Box::pin(async move {
            let method = request.method().clone();
            for left in (0..=TIMES).rev() {
                let again = if left > 0 { duplicate(&request) } else { None };
                let began = Instant::now();
                let answer = client.send(request).await;
                let (code, host) = match &answer {
                    Ok(answer) => (answer.status().as_str().to_owned(), host(answer)),
                    Err(_) => ("<error>".to_owned(), String::new()),
                };
                let (method, host) = (method.as_str(), host.as_str());
                let labels = [("code", code.as_str()), ("host", host), ("method", method)];
                meters.count(COUNT, &labels);
                let labels = [("host", host), ("verb", method)];
                meters.took(DURATION, &labels, began.elapsed());
                match (answer.as_ref().ok().and_then(patience), again) {
                    (Some(wait), Some(next)) => {
                        let labels = [("code", code.as_str()), ("host", host), ("verb", method)];
                        meters.count(RETRIES, &labels);
                        tokio::time::sleep(wait).await;
                        request = next;
                    }
                    _ => return answer,
                }
            }
            unreachable!("the last attempt is never made again")
        })
    }
}

/// How long the server asks to wait before the same is asked again.
fn patience(answer: &Response<Body>) -> Option<Duration> {
    let status = answer.status();
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return None;
    }
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// The same once more; nothing for a body that is a stream.
fn duplicate(request: &Request<Body>) -> Option<Request<Body>> {
    let mut again = Request::new(request.body().try_clone()?);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}

/// Who answered, as far as the connection tells; nobody for an API server of this process.
fn host(answer: &Response<Body>) -> String {
    let info = answer.extensions().get::<HttpInfo>();
    info.map(|info| info.remote_addr().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static METERS: Meters = Meters::new(REQUESTS);

    fn answering(
        status: u16,
        retry_after: Option<&'static str>,
        times: u32,
    ) -> (Arc<AtomicU32>, kube::Client) {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = asked.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let bad = counted.fetch_add(1, Ordering::Relaxed) < times;
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::from_u16(if bad { status } else { 200 }).unwrap();
            if let Some(after) = retry_after.filter(|_| bad) {
                answer.headers_mut().insert(header::RETRY_AFTER, after.parse().unwrap());
            }
            async { Ok::<_, std::convert::Infallible>(answer) }
        });
        (asked, metered(kube::Client::new(service, "default"), &METERS))
    }

    #[tokio::test]
    async fn who_asks_for_patience_is_given_it() {
        let check = async |status: u16, after: Option<&'static str>, times: u32, expected: (u32, u16)| {
            let (asked, client) = answering(status, after, times);
            let request = Request::put("/x").body(Body::from(b"{}".to_vec())).unwrap();
            let answer = client.send(request).await.unwrap();
            let found = (asked.load(Ordering::Relaxed), answer.status().as_u16());
            assert_eq!(found, expected, "{status} {after:?} {times}");
        };
        check(429, Some("0"), 3, (4, 200)).await;
        check(503, Some("0"), 1, (2, 200)).await;
        check(429, None, 3, (1, 429)).await;
        check(429, Some("tomorrow"), 3, (1, 429)).await;
        check(404, Some("1"), 3, (1, 404)).await;
        check(429, Some("0"), 100, (TIMES + 1, 429)).await;
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        answer.headers_mut().insert(header::RETRY_AFTER, "99999999".parse().unwrap());
        assert_eq!(patience(&answer), Some(LONGEST));
    }
}
