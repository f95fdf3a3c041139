//! `corten ctr`: what people do with the containers of a runtime, over its CRI socket.
//!
//! Any runtime's: nothing here knows how containers are made. Containers that are run from here carry the label [`LABEL`],
//! each in a sandbox of its own; those of a kubelet are shown, and removed only when they are named.

mod clean;
mod inspect;
mod list;
mod logs;
mod run;
mod session;
mod terminal;

use std::path::Path;

use anyhow::{Context, Result, bail};
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::{Container, ListContainersRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

pub use run::{Network, RunOptions};

/// On sandboxes and containers that were run from here.
pub const LABEL: &str = "io.corten.ctr";

/// A runtime.
pub struct Ctr {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Ctr {
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://cri").connect_with_connector(connector).await;
        let channel = channel.with_context(|| {
            format!(
                "cannot connect to a container runtime at {}: start one with `corten up` or `corten runtime`",
                socket.display()
            )
        })?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel).max_decoding_message_size(64 << 20),
        })
    }

    /// The container of that id, the beginning of one, or name.
    async fn find(&mut self, wanted: &str) -> Result<Container> {
        let all = self.runtime.list_containers(ListContainersRequest::default()).await.map_err(told)?;
        let all = all.into_inner().containers;
        let named = |c: &&Container| c.metadata.as_ref().is_some_and(|m| m.name == wanted);
        let mut found: Vec<&Container> =
            all.iter().filter(|c| c.id.starts_with(wanted) || named(c)).collect();
        // One that runs rather than those that came before it.
        if found.len() > 1 {
            let running: Vec<&Container> = found.iter().copied().filter(|c| is_running(c)).collect();
            if running.len() == 1 {
                found = running;
            }
        }
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => bail!("no such container: {wanted}"),
            several => {
                let ids: Vec<&str> = several.iter().map(|c| short(&c.id)).collect();
                bail!("{wanted} may be any of {}", ids.join(", "))
            }
        }
    }
}

fn is_running(container: &Container) -> bool {
    container.state() == cri::v1::ContainerState::ContainerRunning
}

/// Enough of an id for people.
fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// What the runtime says, without gRPC's own words.
fn told(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}
