//! Serving questions over UDP and TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::answer::{self, Found, TTL};
use crate::forward::Forwarder;
use crate::index::Index;
use crate::metrics::{Asker, Metrics, Plugin};
use crate::wire::{self, Answer, Data, INTERNET, Query, Section, Transport, Unusable, code, kind};

const IDLE: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 256;
/// Aliases may lead to aliases, and in circles.
const MAX_ALIASES: usize = 8;

#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    index: Arc<RwLock<Index>>,
    forwarder: Forwarder,
    servers: RwLock<Vec<IpAddr>>,
    connections: Arc<Semaphore>,
    /// Answers begin with another record each time, so that clients spread.
    turn: AtomicUsize,
}

/// What can be said at once, and what takes asking others.
enum Step {
    Done(Vec<u8>, Plugin),
    Forward,
    /// The aliases on the way, and the name at its end, which is not the cluster's.
    Resolve(Vec<String>),
}

impl Server {
    pub fn new(index: Arc<RwLock<Index>>, forwarder: Forwarder) -> Self {
        Self(Arc::new(Inner {
            index,
            forwarder,
            servers: RwLock::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            turn: AtomicUsize::new(0),
        }))
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.forwarder.metrics
    }

    /// Serves on `address` until `shutdown`. Port 0 is any port, the same for both protocols; the address used is
    /// given back.
    pub async fn listen(
        &self,
        address: SocketAddr,
        shutdown: &CancellationToken,
    ) -> Result<SocketAddr, Error> {
        let failed = |protocol| move |source| Error::Listen { address, protocol, source };
        let udp = UdpSocket::bind(address).await.map_err(failed("UDP"))?;
        let address = udp.local_addr().map_err(failed("UDP"))?;
        let tcp = TcpListener::bind(address).await.map_err(failed("TCP"))?;
        self.0.servers.write().push(address.ip());
        tokio::spawn(self.clone().serve_udp(Arc::new(udp), shutdown.clone()));
        tokio::spawn(self.clone().serve_tcp(tcp, shutdown.clone()));
        Ok(address)
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>, shutdown: CancellationToken) {
        let mut buffer = vec![0; 4096];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                () = shutdown.cancelled() => return,
            };
            // An error is about an earlier answer that could not be delivered.
            let Ok((length, client)) = received else { continue };
            let packet = buffer.get(..length).unwrap_or_default();
            let asker = Asker::new(client.ip(), Transport::Udp, length);
            let query = match wire::parse(packet) {
                Ok(query) => query,
                Err(Unusable::Ignore) => continue,
                Err(Unusable::Answer(answer)) => {
                    let _ = socket.send_to(&answer, client).await;
                    continue;
                }
            };
            match self.at_once(&query, Transport::Udp) {
                Step::Done(answer, plugin) => {
                    // A client that has gone away is no concern of ours.
                    let _ = socket.send_to(&answer, client).await;
                    self.metrics().answered(&query, &asker, &answer, plugin);
                }
                step => {
                    let (server, socket, packet) = (self.clone(), socket.clone(), packet.to_vec());
                    tokio::spawn(async move {
                        let answer = server.ask_others(step, &query, &packet, Transport::Udp).await;
                        let _ = socket.send_to(&answer, client).await;
                        server.metrics().answered(&query, &asker, &answer, Plugin::Forward);
                    });
                }
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener, shutdown: CancellationToken) {
        loop {
            let accept = async {
                let slot = self.0.connections.clone().acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                accepted = accept => accepted,
                () = shutdown.cancelled() => return,
            };
            let (Ok(slot), Ok((stream, client))) = (slot, accepted) else {
                // Out of descriptors: connections end, and with them the shortage.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                // Whether the client has left, sleeps or talks nonsense: that is the end of it.
                let _ = server.converse(stream, client.ip()).await;
                drop(slot);
            });
        }
    }

    async fn converse(&self, mut stream: TcpStream, client: IpAddr) -> std::io::Result<()> {
        loop {
            let packet = tokio::time::timeout(IDLE, async {
                let length = stream.read_u16().await?;
                let mut packet = vec![0; usize::from(length)];
                stream.read_exact(&mut packet).await?;
                std::io::Result::Ok(packet)
            });
            let packet = packet.await??;
            let asker = Asker::new(client, Transport::Tcp, packet.len());
            let answer = match wire::parse(&packet) {
                Ok(query) => {
                    let (answer, plugin) = match self.at_once(&query, Transport::Tcp) {
                        Step::Done(answer, plugin) => (answer, plugin),
                        step => {
                            let answer = self.ask_others(step, &query, &packet, Transport::Tcp).await;
                            (answer, Plugin::Forward)
                        }
                    };
                    self.metrics().answered(&query, &asker, &answer, plugin);
                    answer
                }
                Err(Unusable::Answer(answer)) => answer,
                Err(Unusable::Ignore) => return Ok(()),
            };
            let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
            let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
            tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }

    fn at_once(&self, query: &Query, transport: Transport) -> Step {
        if query.class != INTERNET {
            return done(Answer::new(query, code::REFUSED, false, transport).finish());
        }
        let index = self.0.index.read();
        let mut aliases = Vec::new();
        let mut labels = query.labels.clone();
        loop {
            match answer::find(&index, &labels, &self.0.servers.read(), query.kind) {
                Found::Foreign if aliases.is_empty() => {
                    return match self.0.forwarder.cached(query, transport) {
                        Some(answer) => Step::Done(answer, Plugin::Cache),
                        None => Step::Forward,
                    };
                }
                Found::Foreign if matches!(query.kind, kind::A | kind::AAAA) => {
                    return Step::Resolve(aliases);
                }
                Found::Unknown => {
                    let answer = Answer::new(query, code::SERVER_FAILURE, false, transport);
                    return done(answer.finish());
                }
                Found::Alias(target) if aliases.contains(&target) || aliases.len() == MAX_ALIASES => {
                    let answer = Answer::new(query, code::SERVER_FAILURE, true, transport);
                    return done(answer.finish());
                }
                Found::Alias(target) => {
                    labels = target.split('.').map(str::to_owned).collect();
                    aliases.push(target);
                }
                found => return done(self.compose(&index, query, transport, &aliases, found)),
            }
        }
    }

    fn compose(
        &self,
        index: &Index,
        query: &Query,
        transport: Transport,
        aliases: &[String],
        found: Found,
    ) -> Vec<u8> {
        let code = match found {
            Found::Nothing if aliases.is_empty() => code::NO_SUCH_NAME,
            _ => code::NO_ERROR,
        };
        let mut answer = Answer::new(query, code, true, transport);
        push_aliases(&mut answer, aliases);
        let owner = aliases.last().map(String::as_str);
        let (mut answers, additional) = match found {
            Found::Records { answers, additional } => (answers, additional),
            _ => (Vec::new(), Vec::new()),
        };
        answers.retain(|data| query.kind == data.kind() || query.kind == kind::ANY);
        if answers.is_empty() {
            if aliases.is_empty() {
                answer.push(Section::Authority, Some(&index.domain), TTL, &answer::soa(index));
            }
            return answer.finish();
        }
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % answers.len();
        answers.rotate_left(turn);
        for data in &answers {
            answer.push(Section::Answer, owner, TTL, data);
        }
        for (name, data) in &additional {
            answer.push(Section::Additional, Some(name), TTL, data);
        }
        answer.finish()
    }

    async fn ask_others(&self, step: Step, query: &Query, packet: &[u8], transport: Transport) -> Vec<u8> {
        let aliases = match step {
            Step::Done(answer, _) => return answer,
            Step::Forward => return self.0.forwarder.forward(query, packet, transport).await,
            Step::Resolve(aliases) => aliases,
        };
        let target = aliases.last().map(String::as_str).unwrap_or_default();
        match self.0.forwarder.addresses(target, query.kind).await {
            Ok(addresses) => {
                let mut answer = Answer::new(query, code::NO_ERROR, true, transport);
                push_aliases(&mut answer, &aliases);
                for (ttl, ip) in addresses {
                    answer.push(Section::Answer, Some(target), ttl.min(30), &Data::Address(ip));
                }
                answer.finish()
            }
            Err(error) => {
                tracing::debug!(name = target, %error, "no resolver has answered");
                Answer::new(query, code::SERVER_FAILURE, false, transport).finish()
            }
        }
    }
}

/// Answered from what the cluster says.
fn done(answer: Vec<u8>) -> Step {
    Step::Done(answer, Plugin::Kubernetes)
}

/// One alias leads to the next, beginning with the name in question.
fn push_aliases(answer: &mut Answer, aliases: &[String]) {
    let mut owner = None;
    for target in aliases {
        let data = Data::Name { kind: kind::CNAME, target: target.clone() };
        answer.push(Section::Answer, owner, TTL, &data);
        owner = Some(target.as_str());
    }
}

#[cfg(test)]
mod peers;
#[cfg(test)]
mod tests;
