//! The CRI over gRPC: each call is checked, handed on and answered.

mod filter;
mod image_service;
mod lists;
mod runtime_service;
mod status;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use k8s_cri::v1::image_service_server::ImageServiceServer;
use k8s_cri::v1::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::state::Runtime;
use crate::{Error, Result, disk};

/// As large as containerd takes them.
const LARGEST_MESSAGE: usize = 16 << 20;

/// The services; each gets its own name for the same runtime.
struct Service(Arc<Runtime>);

pub async fn serve(runtime: Arc<Runtime>, shutdown: CancellationToken) -> Result<()> {
    let path = runtime.config.socket.clone();
    if let Some(directory) = path.parent() {
        disk::make_private_dir(directory)?;
    }
    disk::ignore_missing(fs::remove_file(&path)).map_err(Error::io("remove the old socket", &path))?;
    let listener = UnixListener::bind(&path).map_err(Error::io("listen on", &path))?;
    // Whoever can connect is root in every way that matters.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(Error::io("protect", &path))?;
    let runtimes =
        RuntimeServiceServer::new(Service(runtime.clone())).max_decoding_message_size(LARGEST_MESSAGE);
    let images = ImageServiceServer::new(Service(runtime.clone())).max_decoding_message_size(LARGEST_MESSAGE);
    let server = tonic::transport::Server::builder()
        .add_service(runtimes)
        .add_service(images)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.clone().cancelled_owned());
    // A stream of events never ends by itself, so shutting down does not wait for open calls.
    tokio::select! {
        served = server => served.map_err(Error::Serve),
        () = shutdown.cancelled() => Ok(()),
    }
}
