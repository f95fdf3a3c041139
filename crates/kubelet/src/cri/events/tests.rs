use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;

use super::*;

/// A runtime with one pod, that, as those written in Go do, says nothing of its stream before the first event.
async fn silent(listener: UnixListener) {
    let (connection, _) = listener.accept().await.unwrap();
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let metadata = || Some(cri::PodSandboxMetadata { uid: "u".into(), ..Default::default() });
        let labels: HashMap<String, String> = [
            (keys::POD_UID.to_owned(), "u".to_owned()),
            (keys::POD_NAMESPACE.to_owned(), "ns".to_owned()),
            (keys::POD_NAME.to_owned(), "n".to_owned()),
        ]
        .into();
        let answer = match request.uri().path().rsplit('/').next().unwrap() {
            "Version" => {
                cri::VersionResponse { runtime_name: "silent".into(), ..Default::default() }.encode_to_vec()
            }
            "ListPodSandbox" => {
                let sandbox =
                    cri::PodSandbox { id: "s".into(), labels, metadata: metadata(), ..Default::default() };
                cri::ListPodSandboxResponse { items: vec![sandbox] }.encode_to_vec()
            }
            "PodSandboxStatus" => {
                let status = cri::PodSandboxStatus {
                    id: "s".into(),
                    labels,
                    metadata: metadata(),
                    ..Default::default()
                };
                cri::PodSandboxStatusResponse { status: Some(status), ..Default::default() }.encode_to_vec()
            }
            "ListContainers" => Vec::new(),
            _ => std::future::pending().await,
        };
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(answer.len() as u32);
        message.put_slice(&answer);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames: [Result<Frame<Bytes>, Infallible>; 2] =
            [Ok(Frame::data(message.freeze())), Ok(Frame::trailers(trailers))];
        let response = http::Response::builder().header("content-type", "application/grpc");
        response.body(StreamBody::new(stream::iter(frames)))
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(connection), service)
        .await;
}

#[tokio::test]
async fn what_is_there_is_told_before_the_first_event() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    tokio::spawn(silent(UnixListener::bind(&socket).unwrap()));
    let (sender, mut news) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let following = tokio::spawn(follow(Cri::connect(&socket).await.unwrap(), sender, shutdown.clone()));
    let Some(News::Pod(pod)) = news.recv().await else { panic!("no pod") };
    assert_eq!((pod.uid.as_str(), pod.namespace.as_str(), pod.name.as_str()), ("u", "ns", "n"));
    assert!(pod.view.sandboxes.contains_key("s"));
    assert!(matches!(news.recv().await, Some(News::Listed)));
    shutdown.cancel();
    following.await.unwrap();
}

#[test]
fn what_the_runtime_has_no_more() {
    let of = |pods: &[(&str, &[&str])]| -> HashMap<String, Fingerprint> {
        let states = |ids: &&[&str]| ids.iter().map(|id| (id.to_string(), TOLD)).collect();
        pods.iter().map(|(uid, ids)| (uid.to_string(), states(ids))).collect()
    };
    let check = |known, now, expected: &[(&str, &[&str])]| {
        let mut found = missing(&of(known), &of(now));
        found.sort();
        let expected: Vec<(String, Vec<String>)> = expected
            .iter()
            .map(|(uid, ids)| (uid.to_string(), ids.iter().map(ToString::to_string).collect()))
            .collect();
        assert_eq!(found, expected, "{known:?} {now:?}");
    };
    check(&[], &[("p", &["s", "c"])], &[]);
    check(&[("p", &["s", "c"])], &[("p", &["s", "c", "d"])], &[]);
    check(&[("p", &["s", "c"])], &[("p", &["s", "d"])], &[("p", &["c"])]);
    check(&[("p", &["s", "c"]), ("q", &["t"])], &[("q", &["t"])], &[("p", &["s", "c"])]);
}
