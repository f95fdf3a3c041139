//! How fast the API server is: durable creates, reads, lists, and events to many watchers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::wire::{Connection, Server};
use bench::{Samples, Target};
use clap::Parser;
use tokio::task::{JoinSet, LocalSet};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    target: Target,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of data in each object
    #[arg(long, default_value_t = 512)]
    size: usize,
    /// Connections that watch
    #[arg(long, default_value_t = 1000)]
    watchers: u32,
    /// Events per second while watching
    #[arg(long, default_value_t = 1000)]
    events: u32,
    /// Objects made where memory is measured
    #[arg(long, default_value_t = 50_000)]
    objects: u64,
    /// The process whose memory is measured: the API server's, on this machine
    #[arg(long, value_name = "PID")]
    memory_of: Option<u32>,
    /// Which measurements, of create, get, list, watch and (with --memory-of) memory [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Leave the objects there, so that one can see what memory they take
    #[arg(long)]
    keep: bool,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The load comes from one thread, so that on two cores the server has the other.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let client = bench::client(&args.target.kubeconfig).await?;
    let namespace = bench::namespace(&client).await?;
    let server = Server::from_kubeconfig(&args.target.kubeconfig).await?;
    let keep = args.keep;
    let bench = Bench { args, server, path: format!("/api/v1/namespaces/{namespace}/configmaps") };
    let result = LocalSet::new().run_until(bench.run()).await;
    if !keep {
        bench::remove_namespace(&client, &namespace).await?;
    }
    result
}

struct Bench {
    args: Args,
    server: Server,
    /// Of the collection.
    path: String,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.args.only.is_empty() || self.args.only.iter().any(|wanted| wanted == name)
    }

    fn span(&self) -> Duration {
        Duration::from_secs(self.args.seconds)
    }

    async fn run(&self) -> Result<()> {
        let made = self.create().await?;
        if self.wants("get") {
            self.get(made).await?;
        }
        if self.wants("list") {
            self.list(made).await?;
        }
        if self.wants("watch") {
            self.watch().await?;
        }
        if let Some(process) = self.args.memory_of.filter(|_| self.wants("memory")) {
            self.memory(process).await?;
        }
        if self.args.keep {
            return Ok(());
        }
        let mut connection = self.server.connect().await?;
        connection.request("DELETE", &self.path, b"").await.map(drop)
    }

    /// The others need objects too: without its measurement fewer of them.
    async fn create(&self) -> Result<u64> {
        let data = "x".repeat(self.args.size);
        let next = Rc::new(Cell::new(0u64));
        let path = self.path.clone();
        let span = if self.wants("create") { self.span() } else { Duration::from_millis(500) };
        let counter = next.clone();
        self.load("create", span, async move |connection: &mut Connection| {
            let n = counter.replace(counter.get() + 1);
            let body = format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"cm-{n}"}},"data":{{"x":"{data}"}}}}"#
            );
            connection.request("POST", &path, body.as_bytes()).await
        })
        .await?;
        Ok(next.get())
    }

    /// What a process needs to hold objects, by their bytes as a list has them. Includes what comes with them: indexes,
    /// recent events, buffers.
    async fn memory(&self, process: u32) -> Result<()> {
        let mut connection = self.server.connect().await?;
        let listed = connection.request("GET", &self.path, b"").await?;
        let before = resident(process)?;
        let data = "x".repeat(self.args.size);
        let next = Rc::new(Cell::new(0u64));
        let mut workers = JoinSet::new();
        for _ in 0..self.args.connections {
            let mut connection = self.server.connect().await?;
            let (next, path, data, objects) =
                (next.clone(), self.path.clone(), data.clone(), self.args.objects);
            workers.spawn_local(async move {
                loop {
                    let n = next.replace(next.get() + 1);
                    if n >= objects {
                        return anyhow::Ok(());
                    }
                    let body = format!(
                        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"held-{n}"}},"data":{{"x":"{data}"}}}}"#
                    );
                    connection.request("POST", &path, body.as_bytes()).await?;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        let grown = resident(process)?.saturating_sub(before);
        let held = connection.request("GET", &self.path, b"").await?.saturating_sub(listed);
        println!(
            "{:<28} {:>9.2} x the {:.1} MB of {} objects: {:.1} MB",
            "memory",
            grown as f64 / held as f64,
            held as f64 / 1e6,
            self.args.objects,
            grown as f64 / 1e6,
        );
        Ok(())
    }

    async fn get(&self, made: u64) -> Result<()> {
        let next = Rc::new(Cell::new(0u64));
        let path = self.path.clone();
        self.load("get", self.span(), async move |connection: &mut Connection| {
            let n = next.replace(next.get() + 1) % made;
            connection.request("GET", &format!("{path}/cm-{n}"), b"").await
        })
        .await
    }

    /// Two clients, each reading the whole collection again and again.
    async fn list(&self, made: u64) -> Result<()> {
        const CLIENTS: usize = 2;
        let (begin, span) = (Instant::now(), self.span());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut connection = self.server.connect().await?;
            let path = self.path.clone();
            clients.spawn_local(async move {
                let (mut times, mut bytes) = (Samples::default(), 0);
                while begin.elapsed() < span {
                    let each = Instant::now();
                    bytes += connection.request("GET", &path, b"").await?;
                    times.add(each.elapsed());
                }
                anyhow::Ok((times, bytes))
            });
        }
        let (mut times, mut bytes) = (Samples::default(), 0);
        while let Some(ended) = clients.join_next().await {
            let (one, read) = ended??;
            times.extend(one);
            bytes += read;
        }
        let took = begin.elapsed().as_secs_f64();
        let objects = times.len() as f64 * made as f64;
        println!("{:<28} {:>9.0} objects/s, {:.0} MB/s", "list", objects / took, bytes as f64 / took / 1e6);
        times.print(&format!("  {made} objects each"));
        Ok(())
    }

    /// Runs `operation` on all connections for a while.
    async fn load<O>(&self, name: &str, span: Duration, operation: O) -> Result<()>
    where
        O: AsyncFn(&mut Connection) -> Result<u64> + Clone + 'static,
    {
        let mut workers = JoinSet::new();
        for _ in 0..self.args.connections {
            let mut connection = self.server.connect().await?;
            let operation = operation.clone();
            workers.spawn_local(async move {
                let (begin, mut samples) = (Instant::now(), Samples::default());
                while begin.elapsed() < span {
                    let each = Instant::now();
                    operation(&mut connection).await?;
                    samples.add(each.elapsed());
                }
                anyhow::Ok(samples)
            });
        }
        let begin = Instant::now();
        let mut all = Samples::default();
        while let Some(samples) = workers.join_next().await {
            all.extend(samples??);
        }
        if self.wants(name) {
            println!("{name:<28} {:>9.0} /s", all.len() as f64 / begin.elapsed().as_secs_f64());
            all.print(&format!("  {} at once", self.args.connections));
        }
        Ok(())
    }

    /// How long events take to all watchers. Every watcher counts its events; some look at their times.
    async fn watch(&self) -> Result<()> {
        const LOOKING: u32 = 50;
        let epoch = Instant::now();
        let total = u64::from(self.args.events) * self.args.seconds;
        let path = format!("{}?watch=1&labelSelector=bench%3Dwatch", self.path);
        let every = (self.args.watchers / LOOKING).max(1);
        let mut watchers = JoinSet::new();
        for number in 0..self.args.watchers {
            let mut connection = self.server.connect().await?;
            connection.open(&path).await?;
            let looks = number % every == 0;
            watchers.spawn_local(async move { watch(&mut connection, total, looks, epoch).await });
        }
        let mut writers = JoinSet::new();
        let mut connections = Vec::new();
        for _ in 0..self.args.connections {
            connections.push(self.server.connect().await?);
        }
        let begin = Instant::now();
        let next = Rc::new(Cell::new(0u64));
        let span = self.span();
        for mut connection in connections {
            let (next, path) = (next.clone(), self.path.clone());
            writers.spawn_local(async move {
                loop {
                    let n = next.replace(next.get() + 1);
                    if n >= total {
                        return anyhow::Ok(());
                    }
                    let due = begin + span.mul_f64(n as f64 / total as f64);
                    tokio::time::sleep_until(due.into()).await;
                    let sent = epoch.elapsed().as_micros();
                    let body = format!(
                        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"watch-{n}","labels":{{"bench":"watch"}}}},"data":{{"sent":"{sent}"}}}}"#
                    );
                    connection.request("POST", &path, body.as_bytes()).await?;
                }
            });
        }
        while let Some(written) = writers.join_next().await {
            written??;
        }
        let took = begin.elapsed().as_secs_f64();
        let mut all = Samples::default();
        while let Some(samples) = watchers.join_next().await {
            all.extend(samples??);
        }
        ensure!(!all.is_empty(), "no event was seen");
        println!(
            "{:<28} {:>9.0} events/s",
            format!("watch: {} at {:.0}/s", self.args.watchers, total as f64 / took),
            (total * u64::from(self.args.watchers)) as f64 / begin.elapsed().as_secs_f64()
        );
        all.print("  from request to watcher");
        Ok(())
    }
}

/// Bytes of a process that are in memory.
fn resident(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")).context("VmRSS is not told")?;
    Ok(kilobytes.trim().parse::<u64>()? << 10)
}

/// Reads `total` events, one a line; with `looks` takes the time of each.
async fn watch(connection: &mut Connection, total: u64, looks: bool, epoch: Instant) -> Result<Samples> {
    /// When the event was sent is in the object.
    const SENT: &[u8] = b"\"sent\":\"";
    const KEPT: usize = 64;
    let mut samples = Samples::default();
    let mut seen = 0;
    let mut tail: Vec<u8> = Vec::new();
    let mut last = 0;
    while seen < total {
        let piece = connection.more().await?;
        // The line ends of the framing are `\r\n`.
        let before = |at: usize| if at == 0 { last } else { piece[at - 1] };
        seen += memchr::memchr_iter(b'\n', piece).filter(|at| before(*at) != b'\r').count() as u64;
        last = piece.last().copied().unwrap_or(last);
        if !looks {
            continue;
        }
        let now = epoch.elapsed();
        // A time may lie across two pieces.
        let mut text = std::mem::take(&mut tail);
        text.extend_from_slice(piece);
        let mut used = 0;
        for at in memchr::memmem::find_iter(&text, SENT) {
            let digits = &text[at + SENT.len()..];
            let Some(end) = memchr::memchr(b'"', digits) else { break };
            let sent: u64 = std::str::from_utf8(&digits[..end])?.parse()?;
            samples.add(now.saturating_sub(Duration::from_micros(sent)));
            used = at + SENT.len() + end;
        }
        tail = text.split_off(used.max(text.len().saturating_sub(KEPT)));
    }
    Ok(samples)
}
