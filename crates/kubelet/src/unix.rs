//! gRPC over unix sockets: how the kubelet reaches its runtime and its plugins.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connects when it is first used, and again when the connection breaks.
pub fn channel(socket: &Path) -> Channel {
    let path: Arc<Path> = socket.into();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(&*path).await?)) }
    });
    // The address is not used: every connection goes to the socket.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// What a plugin calls its socket: a path, or `unix://` and a path.
pub fn path_of(endpoint: &str) -> &Path {
    let path = endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:"));
    Path::new(path.unwrap_or(endpoint))
}
