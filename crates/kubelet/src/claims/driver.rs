//! One driver of claimed devices, of either version of the protocol.

use std::path::Path;
use std::time::Duration;

use plugins::dra::{v1, v1beta1};
use tonic::Request;
use tonic::transport::Channel;

use super::saved::Device;
use crate::unix;

const CALL: Duration = Duration::from_secs(45);

#[derive(Clone)]
enum Client {
    V1(v1::dra_plugin_client::DraPluginClient<Channel>),
    V1beta1(v1beta1::dra_plugin_client::DraPluginClient<Channel>),
}

#[derive(Clone)]
pub struct Driver {
    /// Tells a driver from the one before it of the same name.
    pub registration: u64,
    client: Client,
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

fn failed(status: tonic::Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// The same for both versions: their messages have the same fields.
macro_rules! prepare {
    ($client:expr, $api:ident, $namespace:expr, $name:expr, $uid:expr) => {{
        let claim =
            $api::Claim { namespace: $namespace.to_owned(), name: $name.to_owned(), uid: $uid.to_owned() };
        let request = timed($api::NodePrepareResourcesRequest { claims: vec![claim] });
        let answer = $client.clone().node_prepare_resources(request).await.map_err(failed)?.into_inner();
        let own = answer.claims.into_iter().find(|(uid, _)| uid == $uid).map(|(_, own)| own);
        let own = own.ok_or("the driver has not answered for the claim")?;
        if !own.error.is_empty() {
            return Err(own.error);
        }
        let device = |device: $api::Device| Device {
            requests: device.request_names,
            pool: device.pool_name,
            device: device.device_name,
            cdi_ids: device.cdi_device_ids,
        };
        own.devices.into_iter().map(device).collect()
    }};
}

macro_rules! unprepare {
    ($client:expr, $api:ident, $namespace:expr, $name:expr, $uid:expr) => {{
        let claim =
            $api::Claim { namespace: $namespace.to_owned(), name: $name.to_owned(), uid: $uid.to_owned() };
        let request = timed($api::NodeUnprepareResourcesRequest { claims: vec![claim] });
        let answer = $client.clone().node_unprepare_resources(request).await.map_err(failed)?.into_inner();
        let own = answer.claims.into_iter().find(|(uid, _)| uid == $uid).map(|(_, own)| own.error);
        own.unwrap_or_default()
    }};
}

impl Driver {
    pub fn new(endpoint: &Path, versions: &[String]) -> Result<Self, String> {
        let has = |wanted: &[&str]| versions.iter().any(|version| wanted.contains(&version.as_str()));
        let channel = unix::channel(endpoint);
        let client = if has(&["v1.DRAPlugin", "v1"]) {
            Client::V1(v1::dra_plugin_client::DraPluginClient::new(channel))
        } else if has(&["v1beta1.DRAPlugin", "v1beta1"]) {
            Client::V1beta1(v1beta1::dra_plugin_client::DraPluginClient::new(channel))
        } else {
            return Err(format!(
                "DRA versions {versions:?} are not supported, v1.DRAPlugin and v1beta1.DRAPlugin are"
            ));
        };
        Ok(Self { registration: rand::random(), client })
    }

    pub async fn prepare(&self, namespace: &str, name: &str, uid: &str) -> Result<Vec<Device>, String> {
        Ok(match &self.client {
            Client::V1(client) => prepare!(client, v1, namespace, name, uid),
            Client::V1beta1(client) => prepare!(client, v1beta1, namespace, name, uid),
        })
    }

    pub async fn unprepare(&self, namespace: &str, name: &str, uid: &str) -> Result<(), String> {
        let error = match &self.client {
            Client::V1(client) => unprepare!(client, v1, namespace, name, uid),
            Client::V1beta1(client) => unprepare!(client, v1beta1, namespace, name, uid),
        };
        if error.is_empty() {
            Ok(())
        } else {
            Err(format!("NodeUnprepareResources failed for claim {name}: {error}"))
        }
    }
}
