//! How fast the API server is: durable creates, reads, lists, and events to many watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bench::{Samples, Target};
use clap::Parser;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    target: Target,
    /// Requests under way at once
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of data in each object
    #[arg(long, default_value_t = 512)]
    size: usize,
    #[arg(long, default_value_t = 200)]
    watchers: u32,
    /// Events per second while watching
    #[arg(long, default_value_t = 200)]
    events: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let client = bench::client(&args.target.kubeconfig).await?;
    let namespace = bench::namespace(&client).await?;
    let result = measure(&args, &client, &namespace).await;
    bench::remove_namespace(&client, &namespace).await?;
    result
}

async fn measure(args: &Args, client: &kube::Client, namespace: &str) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let span = Duration::from_secs(args.seconds);
    let data = "x".repeat(args.size);

    let made = Arc::new(AtomicU64::new(0));
    let counter = made.clone();
    load(args.connections, span, "create", || {
        let (api, n, data) = (api.clone(), counter.fetch_add(1, Ordering::Relaxed), data.clone());
        async move {
            let object = serde_json::from_value(
                json!({"metadata": {"name": format!("cm-{n}")}, "data": {"x": data}}),
            )?;
            api.create(&PostParams::default(), &object).await?;
            Ok(())
        }
    })
    .await?;
    let count = made.load(Ordering::Relaxed);

    let next = AtomicU64::new(0);
    load(args.connections, span, "get", || {
        let n = next.fetch_add(1, Ordering::Relaxed) % count;
        raw(client.clone(), format!("/api/v1/namespaces/{namespace}/configmaps/cm-{n}"))
    })
    .await?;

    let begin = Instant::now();
    let mut lists = 0;
    let mut times = Samples::default();
    while begin.elapsed() < span {
        let each = Instant::now();
        raw(client.clone(), format!("/api/v1/namespaces/{namespace}/configmaps")).await?;
        times.add(each.elapsed());
        lists += 1;
    }
    println!(
        "list                         {:>9.0} objects/s",
        (lists * count) as f64 / begin.elapsed().as_secs_f64()
    );
    times.print(&format!("  {count} objects each"));
    watch(args, client, namespace, &api).await?;
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    Ok(())
}

/// Runs `operation` on so many connections for so long.
async fn load<F>(connections: u32, span: Duration, name: &str, operation: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let begin = Instant::now();
    let worker = async || -> Result<Samples> {
        let mut samples = Samples::default();
        while begin.elapsed() < span {
            let each = Instant::now();
            operation().await?;
            samples.add(each.elapsed());
        }
        Ok(samples)
    };
    let workers = (0..connections).map(|_| worker());
    let mut all = Samples::default();
    for samples in futures::future::try_join_all(workers).await? {
        all.extend(samples);
    }
    println!("{name:<28} {:>9.0} /s", all.len() as f64 / begin.elapsed().as_secs_f64());
    all.print(&format!("  {connections} at once"));
    Ok(())
}

/// Reads an answer to its end without understanding it: the server is measured, not this program.
async fn raw(client: kube::Client, path: String) -> Result<()> {
    let request = http::Request::get(path).body(Vec::new())?;
    let mut body = std::pin::pin!(client.request_stream(request).await?);
    let mut buffer = vec![0; 64 * 1024];
    use futures::AsyncReadExt;
    while body.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// How long events take to so many watchers.
async fn watch(args: &Args, client: &kube::Client, namespace: &str, api: &Api<ConfigMap>) -> Result<()> {
    let epoch = Instant::now();
    let total = u64::from(args.events) * args.seconds;
    let mut watchers = Vec::new();
    for _ in 0..args.watchers {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps?watch=1&labelSelector=bench%3Dwatch");
        let request = http::Request::get(path).body(Vec::new())?;
        let mut lines = client.request_stream(request).await?.lines().boxed();
        watchers.push(tokio::spawn(async move {
            let mut samples = Samples::default();
            while (samples.len() as u64) < total {
                let Some(line) = lines.try_next().await? else { break };
                // The moment of creation is in the object: sent=<microseconds>.
                if let Some(sent) = line.split("\"sent\":\"").nth(1).and_then(|rest| rest.split('"').next()) {
                    samples.add(epoch.elapsed().saturating_sub(Duration::from_micros(sent.parse()?)));
                }
            }
            anyhow::Ok(samples)
        }));
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / args.events);
    for n in 0..total {
        tick.tick().await;
        let api = api.clone();
        let sent = epoch.elapsed().as_micros().to_string();
        let object = serde_json::from_value(json!({
            "metadata": {"name": format!("watch-{n}"), "labels": {"bench": "watch"}}, "data": {"sent": sent},
        }))?;
        tokio::spawn(async move { api.create(&PostParams::default(), &object).await });
    }
    let mut all = Samples::default();
    for watcher in watchers {
        all.extend(tokio::time::timeout(Duration::from_secs(30), watcher).await???);
    }
    all.print(&format!("watch: {} x {}/s", args.watchers, args.events));
    Ok(())
}
