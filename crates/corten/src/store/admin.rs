//! Looking after a store that is in use: its process serves these requests on a socket of the local machine.
//!
//! A request is a line of JSON, so is the answer; after the answer to [`Request::Save`] come the bytes of the snapshot.
//! Only root and the user whom the process belongs to are served.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use store::{Error, Status, Store};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Status,
    /// Up to this revision, or the current one.
    Compact(Option<u64>),
    Defragment,
    Save,
}

impl Request {
    fn to_json(self) -> Value {
        match self {
            Self::Status => json!({"request": "status"}),
            Self::Compact(revision) => json!({"request": "compact", "revision": revision}),
            Self::Defragment => json!({"request": "defragment"}),
            Self::Save => json!({"request": "save"}),
        }
    }

    fn from_json(value: &Value) -> Option<Self> {
        match value["request"].as_str()? {
            "status" => Some(Self::Status),
            "compact" => Some(Self::Compact(value["revision"].as_u64())),
            "defragment" => Some(Self::Defragment),
            "save" => Some(Self::Save),
            _ => None,
        }
    }
}

fn status_to_json(status: &Status) -> Value {
    json!({
        "revision": status.revision, "keys": status.keys, "stored": status.stored, "allocated": status.allocated,
    })
}

fn status_from_json(value: &Value) -> Option<Status> {
    let number = |name: &str| value[name].as_u64();
    Some(Status {
        revision: number("revision")?,
        keys: number("keys")?,
        stored: number("stored")?,
        allocated: number("allocated")?,
    })
}

/// Requests are short.
const MAX_REQUEST: u64 = 4096;
/// A peer that neither asks nor takes what it asked for is given up.
const SILENCE: Duration = Duration::from_secs(30);
const CONCURRENT: usize = 8;

/// Serves requests at `path` until `stop` resolves.
pub async fn serve(store: Store, path: &Path, stop: impl Future<Output = ()>) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only)
        .with_context(|| format!("cannot protect {}", path.display()))?;
    let places = Arc::new(Semaphore::new(CONCURRENT));
    let accepting = async {
        loop {
            let accepted = match listener.accept().await {
                Ok((socket, _)) if is_ours(&socket) => socket.into_std(),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match accepted {
                Ok(socket) => {
                    let (store, runtime) = (store.clone(), Handle::current());
                    tokio::task::spawn_blocking(move || {
                        if let Err(error) = answer(&store, &runtime, socket) {
                            debug!(%error, "a request to the store's socket ended early");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection to the store's socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    // Whoever asks now is to open the file itself.
    let _ = std::fs::remove_file(path);
    Ok(())
}

fn is_ours(socket: &tokio::net::UnixStream) -> bool {
    let own =
        std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap_or(0);
    socket.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

fn answer(store: &Store, runtime: &Handle, mut socket: UnixStream) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.set_write_timeout(Some(SILENCE))?;
    let mut line = String::new();
    BufReader::new((&socket).take(MAX_REQUEST)).read_line(&mut line)?;
    let request = serde_json::from_str(&line).ok().as_ref().and_then(Request::from_json);
    let Some(request) = request else {
        return tell(&mut socket, &json!({"error": "not a request that this Corten knows"}));
    };
    match carry_out(store, runtime, request) {
        Ok(status) => {
            tell(&mut socket, &status_to_json(&status))?;
            if request == Request::Save {
                // One that breaks off has no checksum at its end.
                match store.save(&mut socket) {
                    Ok(saved) => info!(revision = saved.revision, entries = saved.entries, "snapshot taken"),
                    Err(error) => warn!(%error, "a snapshot broke off"),
                }
            }
            Ok(())
        }
        Err(error) => tell(&mut socket, &json!({"error": error.to_string()})),
    }
}

fn tell(socket: &mut UnixStream, answer: &Value) -> io::Result<()> {
    socket.write_all(format!("{answer}\n").as_bytes())
}

/// Does what is asked, but for the snapshot itself.
fn carry_out(store: &Store, runtime: &Handle, request: Request) -> Result<Status, Error> {
    match request {
        Request::Status | Request::Save => {}
        Request::Compact(revision) => {
            let revision = revision.unwrap_or_else(|| store.revision());
            runtime.block_on(store.compact(revision))?;
            info!(revision, "history compacted");
        }
        Request::Defragment => {
            store.defragment()?;
            info!("store defragmented");
        }
    }
    store.status()
}

/// Asks the process that uses the store. Nothing when there is none; after [`Request::Save`] the snapshot can be read
/// from what is returned.
pub fn ask(path: &Path, request: Request) -> Result<Option<(Status, impl Read + use<>)>> {
    let mut socket = match UnixStream::connect(path) {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {}", path.display())),
    };
    let unheard = || format!("no answer from {}", path.display());
    socket.write_all(format!("{}\n", request.to_json()).as_bytes()).with_context(unheard)?;
    let mut answers = BufReader::with_capacity(1 << 20, socket);
    let mut line = String::new();
    answers.read_line(&mut line).with_context(unheard)?;
    let answer: Value = serde_json::from_str(&line).with_context(unheard)?;
    match (status_from_json(&answer), answer["error"].as_str()) {
        (Some(status), _) => Ok(Some((status, answers))),
        (None, Some(error)) => Err(anyhow!("{error}")),
        (None, None) => Err(anyhow!("the answer from {} makes no sense: {line}", path.display())),
    }
}
