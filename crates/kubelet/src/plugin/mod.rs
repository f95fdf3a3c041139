//! Plugins of the node: sockets in `plugins_registry`, each asked what it is and handed to whoever speaks with its kind.
//!
//! The directory is watched (inotify). A plugin is registered when its socket appears and forgotten when the socket
//! goes; one whose socket was replaced is registered anew.

use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugins::registration::registration_client::RegistrationClient;
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::context::Context;
use crate::{claims, csi, devices, unix, watch_dir};

const CALL: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A socket file: its path, and what changes when it is made anew.
type Socket = (PathBuf, u64, i64);

/// Looks after the plugins until `shutdown`.
pub async fn follow(ctx: Arc<Context>, shutdown: CancellationToken) {
    let dir = ctx.options.root_dir.join("plugins_registry");
    // Where drivers are told to put their own sockets.
    for made in [&dir, &ctx.options.root_dir.join("plugins")] {
        if let Err(error) = std::fs::create_dir_all(made) {
            warn!(path = %made.display(), %error, "cannot make the directory of plugins: there will be none");
            return;
        }
    }
    let mut registrations: HashMap<Socket, tokio_util::sync::DropGuard> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut changes = watch_dir::follow(dir.clone());
    loop {
        let present = sockets(&dir);
        registrations.retain(|socket, _| present.contains(socket));
        for socket in present {
            registrations.entry(socket).or_insert_with_key(|(path, ..)| {
                let gone = shutdown.child_token();
                tasks.spawn(keep(ctx.clone(), path.clone(), gone.clone()));
                gone.drop_guard()
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
            _ = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    drop(registrations);
    while tasks.join_next().await.is_some() {}
}

fn sockets(dir: &Path) -> Vec<Socket> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let socket = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().ok().filter(|meta| meta.file_type().is_socket())?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        (!hidden).then(|| (entry.path(), meta.ino(), meta.ctime_nsec()))
    };
    entries.filter_map(socket).collect()
}

/// Registers the plugin behind a socket, and forgets it when the socket is `gone`.
async fn keep(ctx: Arc<Context>, socket: PathBuf, gone: CancellationToken) {
    let (registered, registration) = tokio::select! {
        () = gone.cancelled() => return,
        info = register(&ctx, &socket) => info,
    };
    gone.cancelled().await;
    info!(kind = registered.r#type, name = registered.name, "a plugin has gone");
    match registered.r#type.as_str() {
        "CSIPlugin" => csi::deregister(&ctx, &registered.name, registration).await,
        "DRAPlugin" => claims::deregister(&ctx, &registered.name, registration),
        _ => {}
    }
}

/// Tries until it works: a socket may be there before anybody listens.
async fn register(ctx: &Arc<Context>, socket: &Path) -> (PluginInfo, u64) {
    let mut client = RegistrationClient::new(unix::channel(socket));
    let mut wait = RETRY;
    loop {
        match try_register(ctx, &mut client, socket).await {
            Ok(registered) => return registered,
            Err(error) if wait == RETRY => {
                debug!(socket = %socket.display(), error, "cannot register a plugin yet");
            }
            Err(error) => {
                warn!(socket = %socket.display(), error, "cannot register a plugin, trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}

async fn try_register(
    ctx: &Arc<Context>,
    client: &mut RegistrationClient<tonic::transport::Channel>,
    socket: &Path,
) -> Result<(PluginInfo, u64), String> {
    let mut request = tonic::Request::new(InfoRequest {});
    request.set_timeout(CALL);
    let answer = tokio::time::timeout(CALL, client.get_info(request)).await;
    let answer = answer.map_err(|_| "GetInfo took too long".to_owned())?;
    let known = answer.map_err(|status| format!("GetInfo: {status}"))?.into_inner();
    let handled = handle(ctx, &known, socket).await;
    let status = RegistrationStatus {
        plugin_registered: handled.is_ok(),
        error: handled.as_ref().err().cloned().unwrap_or_default(),
    };
    let mut request = tonic::Request::new(status);
    request.set_timeout(CALL);
    if let Err(status) = client.notify_registration_status(request).await {
        debug!(name = known.name, %status, "the plugin did not hear of its registration");
    }
    let registration = handled?;
    info!(kind = known.r#type, name = known.name, "registered a plugin");
    Ok((known, registration))
}

/// Answers with a number by which the registration is known.
async fn handle(ctx: &Arc<Context>, plugin: &PluginInfo, socket: &Path) -> Result<u64, String> {
    if plugin.name.is_empty() {
        return Err("the plugin has no name".into());
    }
    match plugin.r#type.as_str() {
        "CSIPlugin" => {
            let version = |version: &String| version.trim_start_matches('v').starts_with("1.");
            if !plugin.supported_versions.iter().any(version) {
                return Err(format!(
                    "CSI versions {:?} of plugin {} are not supported, 1.x is",
                    plugin.supported_versions, plugin.name
                ));
            }
            csi::register(ctx, &plugin.name, &endpoint(plugin, socket)).await
        }
        "DevicePlugin" => {
            if !plugin.supported_versions.iter().any(|version| version == "v1beta1") {
                return Err(format!(
                    "versions {:?} of plugin {} are not supported, v1beta1 is",
                    plugin.supported_versions, plugin.name
                ));
            }
            // Their list ends with them: nobody has to be told.
            devices::register(ctx, &plugin.name, &endpoint(plugin, socket)).map(|()| 0)
        }
        "DRAPlugin" => {
            claims::register(ctx, &plugin.name, &endpoint(plugin, socket), &plugin.supported_versions)
        }
        other => {
            Err(format!("no handler registered for plugin type: {other} at socket {}", socket.display()))
        }
    }
}

/// The driver may speak on the socket that it was found by.
fn endpoint(plugin: &PluginInfo, socket: &Path) -> PathBuf {
    match plugin.endpoint.as_str() {
        "" => socket.to_owned(),
        endpoint => unix::path_of(endpoint).to_owned(),
    }
}
