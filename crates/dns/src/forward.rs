//! Asking other resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::cache::{Cache, Key};
use crate::metrics::Metrics;
use crate::resolv_conf::ResolvConf;
use crate::wire::{self, Answer, Foreign, Query, Transport, code};

/// Clients give up after five seconds: by then they should have been told.
const TIMEOUT: Duration = Duration::from_millis(1200);
const ROUNDS: usize = 2;
/// So many questions may be open at once; a loop through another resolver ends here.
const MAX_OPEN: usize = 512;

pub(crate) struct Forwarder {
    servers: ResolvConf,
    /// The labels of a domain, and who is asked about names in it; the longest first.
    stubs: Vec<(Vec<String>, Arc<[SocketAddr]>)>,
    cache: Mutex<Cache>,
    open: Semaphore,
    pub metrics: Metrics,
}

impl Forwarder {
    pub fn new(resolv_conf: PathBuf, ourselves: &[SocketAddr], stubs: &[(String, Vec<SocketAddr>)]) -> Self {
        Self::with(ResolvConf::new(resolv_conf, ourselves), stubs)
    }

    fn with(servers: ResolvConf, stubs: &[(String, Vec<SocketAddr>)]) -> Self {
        let stub =
            |(domain, servers): &(String, Vec<SocketAddr>)| (labels(domain), Arc::from(servers.as_slice()));
        let mut stubs: Vec<_> = stubs.iter().map(stub).collect();
        stubs.sort_by_key(|(domain, _): &(Vec<String>, _)| std::cmp::Reverse(domain.len()));
        Self {
            servers,
            stubs,
            cache: Mutex::default(),
            open: Semaphore::new(MAX_OPEN),
            metrics: Metrics::default(),
        }
    }

    #[cfg(test)]
    pub fn with_servers(servers: &[SocketAddr]) -> Self {
        Self::with(ResolvConf::fixed(servers), &[])
    }

    #[cfg(test)]
    pub fn with_stubs(servers: &[SocketAddr], stubs: &[(String, Vec<SocketAddr>)]) -> Self {
        Self::with(ResolvConf::fixed(servers), stubs)
    }

    /// Who is asked about a name.
    fn servers_of(&self, name: &[String]) -> Arc<[SocketAddr]> {
        let stub = self.stubs.iter().find(|(domain, _)| name.ends_with(domain));
        stub.map_or_else(|| self.servers.servers(), |(_, servers)| servers.clone())
    }

    /// What is remembered of a client's question, as an answer to it.
    pub fn cached(&self, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let found = self.cache.lock().get(&key(query, transport), Instant::now());
        self.metrics.looked_up(found.as_deref());
        let mut packet = found?;
        adopt(&mut packet, query);
        Some(packet)
    }

    /// The answer to a client's question, which came as `packet`.
    pub async fn forward(&self, query: &Query, packet: &[u8], transport: Transport) -> Vec<u8> {
        let asked = without_options(query, packet);
        match self.exchange(&self.servers_of(&query.labels), &asked, &query.question, transport).await {
            Ok((mut answer, foreign)) => {
                let mut cache = self.cache.lock();
                cache.put(key(query, transport), &answer, &foreign, Instant::now());
                self.metrics.remembered(cache.len());
                drop(cache);
                adopt(&mut answer, query);
                answer
            }
            Err(error) => {
                tracing::debug!(name = %query.name(), %error, "no resolver has answered");
                Answer::new(query, code::SERVER_FAILURE, false, transport).finish()
            }
        }
    }

    /// The addresses of a name that is not the cluster's, with their times to live.
    pub async fn addresses(&self, name: &str, kind: u16) -> io::Result<Vec<(u32, IpAddr)>> {
        let packet = wire::ask(0, name, kind);
        let question = packet.get(12..).unwrap_or_default();
        let servers = self.servers_of(&labels(name));
        let (mut answer, mut foreign) = self.exchange(&servers, &packet, question, Transport::Udp).await?;
        if foreign.truncated {
            (answer, foreign) = self.exchange(&servers, &packet, question, Transport::Tcp).await?;
        }
        if !matches!(foreign.code, code::NO_ERROR | code::NO_SUCH_NAME) {
            return Err(io::Error::other(format!("a resolver answers with code {}", foreign.code)));
        }
        Ok(wire::addresses(&answer, &foreign))
    }

    async fn exchange(
        &self,
        servers: &[SocketAddr],
        packet: &[u8],
        question: &[u8],
        transport: Transport,
    ) -> io::Result<(Vec<u8>, Foreign)> {
        let Ok(_open) = self.open.try_acquire() else {
            self.metrics.refused();
            return Err(io::Error::other("too many open questions"));
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no resolver is configured");
        for _ in 0..ROUNDS {
            let mut worth_another_round = false;
            for server in servers.iter() {
                let id = rand::random::<u16>();
                let mut asked = packet.to_vec();
                if let Some(place) = asked.get_mut(..2) {
                    place.copy_from_slice(&id.to_be_bytes());
                }
                let attempt = async {
                    match transport {
                        Transport::Udp => ask_udp(*server, &asked, id, question).await,
                        Transport::Tcp => ask_tcp(*server, &asked, id, question).await,
                    }
                };
                let begun = Instant::now();
                match tokio::time::timeout(TIMEOUT, attempt).await {
                    Ok(Ok(answer)) => {
                        self.metrics.forwarded(*server, answer.1.code, begun.elapsed());
                        return Ok(answer);
                    }
                    Ok(Err(error)) => last = error,
                    Err(elapsed) => {
                        // Only silence may be a lost packet.
                        worth_another_round = true;
                        last = elapsed.into();
                    }
                }
            }
            if !worth_another_round {
                break;
            }
        }
        Err(last)
    }
}

/// A client's question as it is passed on. Options of EDNS (cookies, subnets) are between the client and us: an answer to
/// them must not be remembered for others.
fn without_options(query: &Query, packet: &[u8]) -> Vec<u8> {
    const PAYLOAD: u16 = 1232;
    const DNSSEC_OK: u8 = 0x80;
    let mut asked = packet.get(..4).unwrap_or_default().to_vec();
    let edns = u16::from(query.edns.is_some());
    for count in [1, 0, 0, edns] {
        asked.extend_from_slice(&count.to_be_bytes());
    }
    asked.extend_from_slice(&query.question);
    if let Some(edns) = &query.edns {
        asked.push(0);
        asked.extend_from_slice(&wire::kind::OPT.to_be_bytes());
        asked.extend_from_slice(&PAYLOAD.min(edns.payload.max(512)).to_be_bytes());
        asked.extend_from_slice(&[0, 0, if edns.dnssec { DNSSEC_OK } else { 0 }, 0, 0, 0]);
    }
    asked
}

/// The labels of a name, in lower case.
fn labels(name: &str) -> Vec<String> {
    name.split('.').filter(|label| !label.is_empty()).map(str::to_ascii_lowercase).collect()
}

fn key(query: &Query, transport: Transport) -> Key {
    Key {
        question: query.question.to_ascii_lowercase(),
        tcp: transport == Transport::Tcp,
        edns: query.edns.is_some(),
        dnssec: query.edns.is_some_and(|edns| edns.dnssec),
    }
}

/// Makes another's answer one to this query: with its id, and the name spelt as it was asked.
fn adopt(packet: &mut [u8], query: &Query) {
    if let Some(id) = packet.get_mut(..2) {
        id.copy_from_slice(&query.id.to_be_bytes());
    }
    if let Some(question) = packet.get_mut(12..12 + query.question.len()) {
        question.copy_from_slice(&query.question);
    }
}

/// A fresh socket for each question: its port is as hard to guess as the id.
async fn ask_udp(
    server: SocketAddr,
    packet: &[u8],
    id: u16,
    question: &[u8],
) -> io::Result<(Vec<u8>, Foreign)> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        // Anything else is an answer to somebody else, or forged.
        if let Some(foreign) = wire::parse_foreign(answer, id, question) {
            return Ok((answer.to_vec(), foreign));
        }
    }
}

async fn ask_tcp(
    server: SocketAddr,
    packet: &[u8],
    id: u16,
    question: &[u8],
) -> io::Result<(Vec<u8>, Foreign)> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), packet].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match wire::parse_foreign(&answer, id, question) {
        Some(foreign) => Ok((answer, foreign)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "a malformed answer")),
    }
}
