//! Where device plugins come to: the kubelet's socket among theirs, or their own in the plugin watcher's directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use plugins::device as api;
use plugins::device::device_plugin_client::DevicePluginClient;
use plugins::device::registration_server::{Registration, RegistrationServer};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::CALL;
use super::plugin::{Plugin, devices};
use crate::context::Context;
use crate::{meters, unix};

const VERSION: &str = "v1beta1";
/// How long a resource is still advertised, without a single device, whose plugin has gone.
const STALE: Duration = Duration::from_secs(300);

struct Registry {
    ctx: Arc<Context>,
    dir: PathBuf,
}

#[tonic::async_trait]
impl Registration for Registry {
    async fn register(&self, request: Request<api::RegisterRequest>) -> Result<Response<api::Empty>, Status> {
        let request = request.into_inner();
        if request.version != VERSION {
            return Err(Status::invalid_argument(format!(
                "requested API version {:?} is not supported by kubelet. Supported version is {VERSION:?}",
                request.version
            )));
        }
        let endpoint = self.dir.join(&request.endpoint);
        if endpoint.parent() != Some(self.dir.as_path()) {
            return Err(Status::invalid_argument("the endpoint is not the name of a socket"));
        }
        register(&self.ctx, &request.resource_name, &endpoint).map_err(Status::invalid_argument)?;
        Ok(Response::new(api::Empty {}))
    }
}

/// Serves registration until `shutdown`.
pub async fn serve(ctx: Arc<Context>, shutdown: CancellationToken) {
    let dir = ctx.options.root_dir.join("device-plugins");
    let socket = dir.join("kubelet.sock");
    // Plugins watch for this: that it is made anew tells them to register again.
    let listener = std::fs::create_dir_all(&dir)
        .and_then(|()| match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .and_then(|()| UnixListener::bind(&socket));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            return warn!(socket = %socket.display(), %error, "device plugins cannot register");
        }
    };
    let served = Server::builder()
        .add_service(RegistrationServer::new(Registry { ctx, dir }))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.cancelled_owned())
        .await;
    if let Err(error) = served {
        warn!(socket = %socket.display(), %error, "device plugins cannot register any more");
    }
}

/// `example.com/name`, and nothing of Kubernetes' own.
fn check_name(resource: &str) -> Result<(), String> {
    match resource.split_once('/') {
        Some((domain, name))
            if !domain.is_empty() && !name.is_empty() && !domain.ends_with("kubernetes.io") =>
        {
            Ok(())
        }
        _ => Err(format!("the ResourceName {resource:?} is invalid")),
    }
}

/// Takes in a plugin, and follows it for as long as it lives.
pub fn register(ctx: &Arc<Context>, resource: &str, endpoint: &Path) -> Result<(), String> {
    check_name(resource)?;
    meters::count("kubelet_device_plugin_registration_total", &[("resource_name", resource)]);
    ctx.devices.note(resource);
    tokio::spawn(follow(ctx.clone(), resource.to_owned(), endpoint.to_owned()));
    Ok(())
}

async fn follow(ctx: Arc<Context>, resource: String, endpoint: PathBuf) {
    if let Err(error) = try_follow(&ctx, &resource, &endpoint).await {
        warn!(resource, endpoint = %endpoint.display(), error, "a device plugin has gone");
    }
}

async fn try_follow(ctx: &Context, resource: &str, endpoint: &Path) -> Result<(), String> {
    let mut client = DevicePluginClient::new(unix::channel(endpoint));
    let mut request = Request::new(api::Empty {});
    request.set_timeout(CALL);
    let options = match client.get_device_plugin_options(request).await {
        Ok(options) => options.into_inner(),
        Err(status) if status.code() == tonic::Code::Unimplemented => api::DevicePluginOptions::default(),
        Err(status) => return Err(format!("GetDevicePluginOptions: {status}")),
    };
    let stream = client.list_and_watch(Request::new(api::Empty {})).await;
    let mut stream = stream.map_err(|status| format!("ListAndWatch: {status}"))?.into_inner();
    let generation = rand::random();
    info!(resource, endpoint = %endpoint.display(), "a device plugin has registered");
    let plugin = Plugin { client, options, devices: Default::default(), generation };
    // Known when it has told of its devices: before that, a pod that wants some would be refused for good.
    let mut fresh = Some(plugin);
    let ended = loop {
        match stream.next().await {
            Some(Ok(list)) => {
                let told = devices(list.devices);
                if let Some(mut plugin) = fresh.take() {
                    plugin.devices.clone_from(&told);
                    ctx.devices.plugins.lock().insert(resource.to_owned(), plugin);
                }
                if !update(ctx, resource, generation, |plugin| plugin.devices = told) {
                    // Another one serves the resource by now.
                    return Ok(());
                }
            }
            Some(Err(status)) => break status.to_string(),
            None => break "it has ended its list".to_owned(),
        }
    };
    // Nobody can tell how its devices are.
    update(ctx, resource, generation, |plugin| {
        plugin.devices.values_mut().for_each(|device| device.healthy = false);
    });
    tokio::time::sleep(STALE).await;
    let mut plugins = ctx.devices.plugins.lock();
    if plugins.get(resource).is_some_and(|plugin| plugin.generation == generation) {
        plugins.remove(resource);
        drop(plugins);
        ctx.devices.changed.notify_one();
        ctx.devices.health.send_modify(|times| *times += 1);
    }
    Err(ended)
}

/// False when the plugin is not the one of that resource any more.
fn update(ctx: &Context, resource: &str, generation: u64, change: impl FnOnce(&mut Plugin)) -> bool {
    let mut plugins = ctx.devices.plugins.lock();
    let Some(plugin) = plugins.get_mut(resource).filter(|plugin| plugin.generation == generation) else {
        return false;
    };
    change(plugin);
    let healthy = plugin.healthy().cloned().collect();
    drop(plugins);
    ctx.devices.book.lock().register(resource, healthy);
    ctx.devices.changed.notify_one();
    ctx.devices.health.send_modify(|times| *times += 1);
    true
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names() {
        for (name, ok) in [
            ("example.com/gpu", true),
            ("gpu", false),
            ("/gpu", false),
            ("a/", false),
            ("kubernetes.io/x", false),
        ] {
            assert_eq!(check_name(name).is_ok(), ok, "{name}");
        }
    }
}
