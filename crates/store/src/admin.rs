//! Looking after a store that is in use: its process serves these requests on a socket of the local machine.
//!
//! A request is a line of JSON, so is the answer; after the answer to [`Request::Save`] come the bytes of the snapshot.
//! Only root and the user whom the process belongs to are served.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::store::Status;
use crate::{Error, Revision, Store};

/// What can be asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// Up to this revision, or the current one.
    Compact {
        revision: Option<Revision>,
    },
    Defragment,
    Save,
}

/// What is answered, on one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Done(Status),
    Failed(String),
}

/// A request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot {operation} {path}: {source}")]
    Socket { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Failed(String),
    #[error("the answer makes no sense: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Requests are short.
const MAX_REQUEST: u64 = 4096;
/// A peer that neither asks nor takes what it asked for is given up.
const SILENCE: Duration = Duration::from_secs(30);
const CONCURRENT: usize = 8;

/// Serves requests at `path` until `stop` resolves.
pub async fn serve(store: Store, path: &Path, stop: impl Future<Output = ()>) -> Result<(), AdminError> {
    let failed = |operation| move |source| AdminError::Socket { operation, path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).map_err(failed("protect"))?;
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
    let told = match serde_json::from_str(&line) {
        Ok(request) => carry_out(store, runtime, request).map(|status| (request, status)),
        Err(error) => {
            return tell(&mut socket, &Answer::Failed(format!("not a request: {error}")));
        }
    };
    match told {
        Ok((request, status)) => {
            tell(&mut socket, &Answer::Done(status))?;
            if matches!(request, Request::Save) {
                // One that breaks off has no checksum at its end.
                match store.save(&mut socket) {
                    Ok(saved) => info!(revision = saved.revision, entries = saved.entries, "snapshot taken"),
                    Err(error) => warn!(%error, "a snapshot broke off"),
                }
            }
            Ok(())
        }
        Err(error) => tell(&mut socket, &Answer::Failed(error.to_string())),
    }
}

fn tell(socket: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Does what is asked, but for the snapshot itself.
fn carry_out(store: &Store, runtime: &Handle, request: Request) -> Result<Status, Error> {
    match request {
        Request::Status | Request::Save => {}
        Request::Compact { revision } => {
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
pub fn ask(path: &Path, request: Request) -> Result<Option<(Status, impl Read + use<>)>, AdminError> {
    let failed = |operation| move |source| AdminError::Socket { operation, path: path.to_owned(), source };
    let mut socket = match UnixStream::connect(path) {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed("connect to")(error)),
    };
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    socket.write_all(&line).map_err(failed("ask"))?;
    let mut answers = BufReader::with_capacity(1 << 20, socket);
    let mut line = String::new();
    answers.read_line(&mut line).map_err(failed("hear from"))?;
    match serde_json::from_str(&line)? {
        Answer::Done(status) => Ok(Some((status, answers))),
        Answer::Failed(reason) => Err(AdminError::Failed(reason)),
    }
}
