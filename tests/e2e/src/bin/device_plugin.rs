//! A device plugin for tests: three devices, which are environment variables and `/dev/null` under another name.
//!
//! `device_plugin <directory of device plugins> <resource>`; the file `broken` in the directory makes a device ill.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::device::device_plugin_server::{DevicePlugin, DevicePluginServer};
use plugins::device::registration_client::RegistrationClient;
use plugins::device::*;
use tokio::net::UnixListener;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

struct Plugin {
    dir: PathBuf,
}

fn devices(broken: bool) -> ListAndWatchResponse {
    let device = |number: u8| Device {
        id: format!("device-{number}"),
        health: if broken && number == 0 { "Unhealthy" } else { "Healthy" }.into(),
        topology: None,
    };
    ListAndWatchResponse { devices: (0..3).map(device).collect() }
}

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    type ListAndWatchStream = ReceiverStream<Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(&self, _: Request<Empty>) -> Answer<DevicePluginOptions> {
        let options =
            DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true };
        Ok(Response::new(options))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Answer<Self::ListAndWatchStream> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let file = self.dir.join("broken");
        tokio::spawn(async move {
            let mut told = None;
            loop {
                let broken = file.exists();
                if told.replace(broken) != Some(broken) && sender.send(Ok(devices(broken))).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Answer<PreferredAllocationResponse> {
        // The last ones are the best ones.
        let prefer = |wanted: ContainerPreferredAllocationRequest| {
            let mut ids = wanted.available_device_i_ds;
            ids.sort();
            ids.reverse();
            ids.truncate(usize::try_from(wanted.allocation_size).unwrap_or(0));
            ContainerPreferredAllocationResponse { device_i_ds: ids }
        };
        let container_responses = request.into_inner().container_requests.into_iter().map(prefer).collect();
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(&self, request: Request<AllocateRequest>) -> Answer<AllocateResponse> {
        let one = |wanted: ContainerAllocateRequest| ContainerAllocateResponse {
            envs: [("DEVICES".to_owned(), wanted.devices_ids.join(","))].into(),
            devices: vec![DeviceSpec {
                container_path: "/dev/e2e".into(),
                host_path: "/dev/null".into(),
                permissions: "rw".into(),
            }],
            ..Default::default()
        };
        let container_responses = request.into_inner().container_requests.into_iter().map(one).collect();
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Answer<PreStartContainerResponse> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

async fn register(dir: &Path, resource: &str) -> Result<(), Box<dyn std::error::Error>> {
    let socket = dir.join("kubelet.sock");
    let channel = Endpoint::try_from(format!("unix://{}", socket.display()))?.connect().await?;
    let request = RegisterRequest {
        version: "v1beta1".into(),
        endpoint: "e2e.sock".into(),
        resource_name: resource.to_owned(),
        options: None,
    };
    RegistrationClient::new(channel).register(request).await?;
    Ok(())
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, resource] = arguments.as_slice() else {
        panic!("usage: device_plugin <directory> <resource>");
    };
    let dir = PathBuf::from(dir);
    let socket = dir.join("e2e.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("the socket can be made");
    let plugin = DevicePluginServer::new(Plugin { dir: dir.clone() });
    let served = Server::builder().add_service(plugin).serve_with_incoming(UnixListenerStream::new(listener));
    let registered = async {
        // Plugins register again whenever the kubelet's socket is made anew.
        let mut known = None;
        loop {
            use std::os::unix::fs::MetadataExt;
            let now = std::fs::metadata(dir.join("kubelet.sock")).map(|meta| (meta.ino(), meta.ctime())).ok();
            if now.is_some() && now != known && register(&dir, resource).await.is_ok() {
                known = now;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        served = served => served.expect("the plugin can be served"),
        () = registered => {}
    }
}
