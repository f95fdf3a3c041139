//! The members of the cluster, and how a request finds one that answers.
//!
//! Each member has a connection of its own. All requests go to the preferred one; one that fails or is silent for
//! [`ATTEMPT`] is preferred no longer, and the request goes to the next, until one answers or [`PATIENCE`] is over. So a
//! dead member costs nothing, and one that hangs costs those who were waiting for it one such time.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, KvClient, MaintenanceClient, TlsOptions,
    WatchClient,
};
use tokio::time::Instant;

use super::EtcdOptions;
use crate::{Error, Revision};

/// How long a member may take for an answer.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
/// How long all of them together may. Longer than an election among them takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(1);
/// How long it may take for what is nice to know.
const LOOK: Duration = Duration::from_millis(500);
/// Not more often than etcd's `--grpc-keepalive-min-time` allows by default.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Between rounds in which nobody answered.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// etcd limits what is written; an answer holds many such.
const MAX_ANSWER: usize = 1 << 30;

pub(crate) struct Member {
    pub url: String,
    pub kv: KvClient,
    pub watch: WatchClient,
    maintenance: MaintenanceClient,
}

pub(crate) struct Members {
    members: Vec<Member>,
    preferred: AtomicUsize,
}

/// An answer, and whether an earlier attempt may have been carried out although its answer is not known.
pub(crate) struct Answered<T> {
    pub value: T,
    pub again: bool,
}

impl Members {
    pub async fn connect(options: &EtcdOptions) -> Result<Self, Error> {
        let mut members = Vec::new();
        for url in &options.servers {
            let invalid = |reason: String| Error::Server { server: url.clone(), reason };
            let mut connect = ConnectOptions::new()
                .with_connect_timeout(CONNECT)
                .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
                .with_require_leader(true);
            if url.starts_with("https://") {
                connect = connect.with_tls(tls(options, url)?);
            } else if !url.starts_with("http://") {
                return Err(invalid("it does not begin with http:// or https://".to_owned()));
            }
            let client = Client::connect([url.as_str()], Some(connect))
                .await
                .map_err(|error| invalid(error.to_string()))?;
            members.push(Member {
                url: url.clone(),
                kv: client.kv_client().max_decoding_message_size(MAX_ANSWER),
                watch: client.watch_client().max_decoding_message_size(MAX_ANSWER),
                maintenance: client.maintenance_client(),
            });
        }
        if members.is_empty() {
            let reason = "no server is named".to_owned();
            return Err(Error::Server { server: String::new(), reason });
        }
        // Several API servers prefer different members.
        let preferred = AtomicUsize::new(std::process::id() as usize % members.len());
        Ok(Self { members, preferred })
    }

    /// The member to try, by a number that may be any.
    pub fn get(&self, index: usize) -> Option<&Member> {
        self.members.get(index % self.members.len())
    }

    pub fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// What the database of each member takes on its disk. None is waited for long: this is for those who look on.
    pub async fn sizes(&self) -> Vec<Option<u64>> {
        let asked = self.members.iter().map(|member| async {
            let mut maintenance = member.maintenance.clone();
            let answer = tokio::time::timeout(LOOK, maintenance.status()).await.ok()?.ok()?;
            u64::try_from(answer.db_size()).ok()
        });
        futures::future::join_all(asked).await
    }

    /// Has a member carry out `operation`.
    pub async fn call<'a, T, F>(
        &'a self,
        operation: &'static str,
        request: impl Fn(&'a Member) -> F,
    ) -> Result<Answered<T>, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let begun = Instant::now();
        let mut again = false;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let index = self.preferred();
            let Some(member) = self.get(index) else { break };
            let reason = match tokio::time::timeout(ATTEMPT, request(member)).await {
                Ok(Ok(value)) => return Ok(Answered { value, again }),
                Ok(Err(error)) => match refusal(&error) {
                    Some(reason) => return Err(Error::Refused { operation, reason }),
                    None => format!("{}: {error}", member.url),
                },
                Err(_) => format!("{}: no answer", member.url),
            };
            again = true;
            // Unless another request has found that out already.
            let _ = self.preferred.compare_exchange(
                index,
                index.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if begun.elapsed() + pause >= PATIENCE {
                return Err(self.unavailable(operation, begun.elapsed(), reason));
            }
            if attempt % self.members.len() == 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        Err(self.unavailable(operation, begun.elapsed(), "there is none".to_owned()))
    }

    pub fn unavailable(&self, operation: &'static str, waited: Duration, reason: String) -> Error {
        let servers: Vec<&str> = self.members.iter().map(|member| &*member.url).collect();
        Error::Unavailable { operation, servers: servers.join(", "), waited, reason }
    }

    /// The newest revision of the cluster, agreed on by its members.
    pub async fn revision(&self) -> Result<Revision, Error> {
        self.call("tell its revision", revision).await.map(|answered| answered.value)
    }
}

/// The newest revision, as one member learns it from the others.
pub(crate) async fn revision(member: &Member) -> Result<Revision, etcd_client::Error> {
    let mut kv = member.kv.clone();
    // Of a key that nobody has: what counts is the header.
    let response = kv.get("\u{1}", Some(GetOptions::new().with_count_only())).await?;
    Ok(response.header().map_or(0, |header| header.revision() as Revision))
}

fn tls(options: &EtcdOptions, url: &str) -> Result<TlsOptions, Error> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| Error::File { path: path.to_owned(), reason: error.to_string() })
    };
    let Some(authority) = &options.ca_file else {
        let reason = "https needs the authority that signed its certificate (--etcd-cafile)".to_owned();
        return Err(Error::Server { server: url.to_owned(), reason });
    };
    let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(authority)?));
    match (&options.cert_file, &options.key_file) {
        (Some(certificate), Some(key)) => {
            Ok(tls.identity(Identity::from_pem(read(certificate)?, read(key)?)))
        }
        (None, None) => Ok(tls),
        (Some(path), None) | (None, Some(path)) => Err(Error::File {
            path: path.clone(),
            reason: "a certificate and its key (--etcd-certfile, --etcd-keyfile) go together".to_owned(),
        }),
    }
}

/// Why etcd has refused; nothing where another member, or the same one later, may answer.
fn refusal(error: &etcd_client::Error) -> Option<String> {
    /// gRPC's numbers of what does not become better by trying again.
    const INVALID_ARGUMENT: i32 = 3;
    const NOT_FOUND: i32 = 5;
    const ALREADY_EXISTS: i32 = 6;
    const PERMISSION_DENIED: i32 = 7;
    const RESOURCE_EXHAUSTED: i32 = 8;
    const FAILED_PRECONDITION: i32 = 9;
    const OUT_OF_RANGE: i32 = 11;
    const UNIMPLEMENTED: i32 = 12;
    const UNAUTHENTICATED: i32 = 16;
    let etcd_client::Error::GRpcStatus(status) = error else {
        return None;
    };
    let message = status.message();
    match status.code() as i32 {
        RESOURCE_EXHAUSTED if message.contains("too many requests") => None,
        RESOURCE_EXHAUSTED if message.contains("space exceeded") => Some(format!(
            "{message}; make room with etcdctl compact and etcdctl defrag, then etcdctl alarm disarm"
        )),
        INVALID_ARGUMENT | NOT_FOUND | ALREADY_EXISTS | PERMISSION_DENIED | RESOURCE_EXHAUSTED
        | FAILED_PRECONDITION | OUT_OF_RANGE | UNIMPLEMENTED | UNAUTHENTICATED => Some(message.to_owned()),
        _ => None,
    }
}
