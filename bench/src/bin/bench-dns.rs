//! How long a DNS server takes to answer: any server, by its address.
//!
//! One question after the other (what a pod waits for), then from several clients at once (what a node can do).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// The server
    #[arg(long, default_value = "10.96.0.10:53", value_name = "ADDRESS:PORT")]
    server: SocketAddr,
    /// What is asked for, in turn
    #[arg(
        long,
        default_values = ["kubernetes.default.svc.cluster.local", "kubernetes.default.svc.cluster.local.default.svc.cluster.local"],
        value_name = "NAME"
    )]
    name: Vec<String>,
    /// Questions
    #[arg(long, default_value_t = 20_000)]
    count: usize,
    /// Clients at once, in the second part
    #[arg(long, default_value_t = 8)]
    clients: usize,
}

/// A question for the addresses (A) of a name.
fn question(id: u16, name: &str) -> Result<Vec<u8>> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
        packet.push(length.with_context(|| format!("{label:?} is too long"))?);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    Ok(packet)
}

fn socket(server: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(socket)
}

/// Asks one question after the other; how long each took.
fn ask(server: SocketAddr, name: &str, count: usize) -> Result<(Vec<Duration>, u8)> {
    let socket = socket(server)?;
    let mut took = Vec::with_capacity(count);
    let mut answer = [0; 4096];
    let mut code = 0;
    for n in 0..count {
        let id = n as u16;
        let packet = question(id, name)?;
        let begun = Instant::now();
        socket.send(&packet)?;
        loop {
            let length = socket.recv(&mut answer).with_context(|| format!("no answer from {server}"))?;
            if length >= 12 && answer[..2] == id.to_be_bytes() {
                break;
            }
        }
        took.push(begun.elapsed());
        code = answer[3] & 0xf;
        if !matches!(code, 0 | 3) {
            bail!("{server} answers {name:?} with code {code}");
        }
    }
    took.sort_unstable();
    Ok((took, code))
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

fn main() -> Result<()> {
    let args = Args::parse();
    for name in &args.name {
        ask(args.server, name, 100)?;
        let (one, code) = ask(args.server, name, args.count)?;
        let answer = if code == 0 { "found" } else { "no such name" };
        println!("{name} ({answer})");
        println!(
            "  one at a time: p50 {:?}, p99 {:?}, worst {:?}",
            at(&one, 50),
            at(&one, 99),
            at(&one, 100)
        );
        let begun = Instant::now();
        let all: Result<Vec<_>> = std::thread::scope(|scope| {
            let each = args.count / args.clients.max(1);
            let clients: Vec<_> =
                (0..args.clients).map(|_| scope.spawn(move || ask(args.server, name, each))).collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap_or_else(|_| bail!("a client died")))
                .collect()
        });
        let elapsed = begun.elapsed();
        let mut all: Vec<Duration> = all?.into_iter().flat_map(|(took, _)| took).collect();
        all.sort_unstable();
        println!(
            "  {} clients at once: p50 {:?}, p99 {:?}, {:.0} answers/s",
            args.clients,
            at(&all, 50),
            at(&all, 99),
            all.len() as f64 / elapsed.as_secs_f64()
        );
    }
    Ok(())
}
