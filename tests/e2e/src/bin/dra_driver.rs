//! A driver of claimed devices for tests: each claim gets the CDI device `e2e.example/thing=one`, and calls are written
//! down.
//!
//! `dra_driver <name> <socket> <registration socket> <log>`

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use plugins::dra::v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use plugins::dra::v1::*;
use plugins::registration::registration_server::{Registration, RegistrationServer};
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
struct Driver {
    name: String,
    socket: String,
    log: String,
}

impl Driver {
    fn note(&self, call: &str, claim: &Claim) {
        let mut log =
            OpenOptions::new().create(true).append(true).open(&self.log).expect("the log can be opened");
        writeln!(log, "{call} {}/{}", claim.namespace, claim.name).expect("the log can be written");
    }
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Answer<PluginInfo> {
        Ok(Response::new(PluginInfo {
            r#type: "DRAPlugin".into(),
            name: self.name.clone(),
            endpoint: self.socket.clone(),
            supported_versions: vec!["v1.DRAPlugin".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Answer<RegistrationStatusResponse> {
        let status = request.into_inner();
        assert!(status.plugin_registered, "{}", status.error);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Answer<NodePrepareResourcesResponse> {
        let prepare = |claim: Claim| {
            self.note("prepare", &claim);
            let device = Device {
                request_names: vec!["thing".into(), "container-0-request-0".into()],
                pool_name: "pool".into(),
                device_name: "one".into(),
                cdi_device_ids: vec!["e2e.example/thing=one".into()],
            };
            (claim.uid, NodePrepareResourceResponse { devices: vec![device], error: String::new() })
        };
        let claims = request.into_inner().claims.into_iter().map(prepare).collect();
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Answer<NodeUnprepareResourcesResponse> {
        let unprepare = |claim: Claim| {
            self.note("unprepare", &claim);
            (claim.uid, NodeUnprepareResourceResponse { error: String::new() })
        };
        let claims = request.into_inner().claims.into_iter().map(unprepare).collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}

fn listen(path: &str) -> UnixListenerStream {
    fs::create_dir_all(Path::new(path).parent().expect("a path with a directory")).expect("it can be made");
    UnixListenerStream::new(UnixListener::bind(path).expect("the socket can be made"))
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, socket, registration, log] = arguments.as_slice() else {
        panic!("usage: dra_driver <name> <socket> <registration socket> <log>");
    };
    let driver = Driver { name: name.clone(), socket: socket.clone(), log: log.clone() };
    let devices = Server::builder()
        .add_service(DraPluginServer::new(driver.clone()))
        .serve_with_incoming(listen(socket));
    let registration = Server::builder()
        .add_service(RegistrationServer::new(driver))
        .serve_with_incoming(listen(registration));
    tokio::try_join!(devices, registration).expect("the sockets can be served");
}
