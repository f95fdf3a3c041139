//! A CSI driver for tests: volumes are file systems in memory, really mounted, and every call is written down.
//!
//! `csi_driver <name> <socket> <registration socket> <log>`

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use plugins::csi::node_server::{Node, NodeServer};
use plugins::csi::node_service_capability::{Rpc, Type, rpc};
use plugins::csi::volume_capability::AccessType;
use plugins::csi::volume_usage::Unit;
use plugins::csi::*;
use plugins::registration::registration_server::{Registration, RegistrationServer};
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

struct Driver {
    name: String,
    socket: String,
    log: Mutex<File>,
}

impl Driver {
    fn note(&self, words: &[&str]) {
        let line = words.join(" ") + "\n";
        self.log.lock().expect("no call panics").write_all(line.as_bytes()).expect("the log can be written");
    }
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn unmounted(path: &str) -> Result<(), Status> {
    match unmount(path, UnmountFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn tmpfs(path: &str) -> Result<(), Status> {
    fs::create_dir_all(path).map_err(failed)?;
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=4m,mode=0755").map_err(failed)
}

fn sorted(map: &HashMap<String, String>) -> String {
    let mut words: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.sort();
    words.join(",")
}

#[tonic::async_trait]
impl Registration for &'static Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Answer<PluginInfo> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: self.name.clone(),
            endpoint: self.socket.clone(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Answer<RegistrationStatusResponse> {
        let status = request.into_inner();
        self.note(&["registered", &status.plugin_registered.to_string(), &status.error]);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for &'static Driver {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Answer<NodeStageVolumeResponse> {
        let request = request.into_inner();
        self.note(&[
            "stage",
            &request.volume_id,
            &sorted(&request.publish_context),
            &sorted(&request.secrets),
        ]);
        let block =
            matches!(request.volume_capability.and_then(|c| c.access_type), Some(AccessType::Block(_)));
        if !block {
            tmpfs(&request.staging_target_path)?;
        }
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Answer<NodeUnstageVolumeResponse> {
        let request = request.into_inner();
        self.note(&["unstage", &request.volume_id]);
        unmounted(&request.staging_target_path)?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Answer<NodePublishVolumeResponse> {
        let request = request.into_inner();
        self.note(&["publish", &request.volume_id, &sorted(&request.volume_context)]);
        let target = &request.target_path;
        if matches!(request.volume_capability.and_then(|c| c.access_type), Some(AccessType::Block(_))) {
            let device = PathBuf::from(format!("{}.device", self.socket));
            if !device.exists() {
                let number = rustix::fs::makedev(7, 250);
                let kind = rustix::fs::FileType::BlockDevice;
                rustix::fs::mknodat(rustix::fs::CWD, &device, kind, 0o600.into(), number).map_err(failed)?;
            }
            File::create(target).map_err(failed)?;
            mount_bind(&device, target).map_err(failed)?;
        } else if request.staging_target_path.is_empty() {
            tmpfs(target)?;
        } else {
            fs::create_dir_all(target).map_err(failed)?;
            mount_bind(&request.staging_target_path, target).map_err(failed)?;
        }
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Answer<NodeUnpublishVolumeResponse> {
        let request = request.into_inner();
        self.note(&["unpublish", &request.volume_id]);
        unmounted(&request.target_path)?;
        let target = Path::new(&request.target_path);
        let _ = if target.is_dir() { fs::remove_dir(target) } else { fs::remove_file(target) };
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<NodeGetVolumeStatsRequest>,
    ) -> Answer<NodeGetVolumeStatsResponse> {
        let usage = VolumeUsage { available: 77, total: 100, used: 23, unit: Unit::Bytes as i32 };
        Ok(Response::new(NodeGetVolumeStatsResponse { usage: vec![usage], volume_condition: None }))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Answer<NodeExpandVolumeResponse> {
        let request = request.into_inner();
        let bytes = request.capacity_range.map_or(0, |range| range.required_bytes);
        self.note(&["expand", &request.volume_id, &bytes.to_string()]);
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes: bytes }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        use rpc::Type::{ExpandVolume, GetVolumeStats, StageUnstageVolume};
        let capability =
            |what: rpc::Type| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: what as i32 })) };
        let capabilities = [StageUnstageVolume, GetVolumeStats, ExpandVolume].map(capability).to_vec();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Answer<NodeGetInfoResponse> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: "id-of-the-node".into(),
            max_volumes_per_node: 7,
            accessible_topology: Some(Topology {
                segments: [("topology.e2e/zone".into(), "z1".into())].into(),
            }),
        }))
    }
}

fn listen(path: &str) -> UnixListenerStream {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path).expect("an old socket can be removed");
    }
    fs::create_dir_all(Path::new(path).parent().expect("a path with a directory")).expect("it can be made");
    UnixListenerStream::new(UnixListener::bind(path).expect("the socket can be made"))
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, socket, registration, log] = arguments.as_slice() else {
        panic!("usage: csi_driver <name> <socket> <registration socket> <log>");
    };
    let log = OpenOptions::new().create(true).append(true).open(log).expect("the log can be opened");
    let driver: &'static Driver =
        Box::leak(Box::new(Driver { name: name.clone(), socket: socket.clone(), log: Mutex::new(log) }));
    let volumes = Server::builder().add_service(NodeServer::new(driver)).serve_with_incoming(listen(socket));
    let registration = Server::builder()
        .add_service(RegistrationServer::new(driver))
        .serve_with_incoming(listen(registration));
    tokio::try_join!(volumes, registration).expect("the sockets can be served");
}
