//! How fast pods come and go: one after the other, and many at once. Seen as any client sees it, by a watch.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench::{Samples, Target};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde_json::json;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    target: Target,
    /// The pods' image; pull it before
    #[arg(long, default_value = "busybox:1.36")]
    image: String,
    /// Pods created one after the other
    #[arg(long, default_value_t = 20)]
    serial: u32,
    /// Pods created at once
    #[arg(long, default_value_t = 100)]
    burst: u32,
}

const PATIENCE: Duration = Duration::from_secs(300);

struct Bench {
    pods: Api<Pod>,
    image: String,
    events: futures::stream::BoxStream<'static, Result<Event<Pod>, watcher::Error>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let client = bench::client(&args.target.kubeconfig).await?;
    let namespace = bench::namespace_for_pods(&client).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let events = watcher::watcher(pods.clone(), watcher::Config::default()).boxed();
    let mut bench = Bench { pods, image: args.image, events };
    let result = async {
        bench.serial(args.serial).await?;
        bench.burst(args.burst).await
    };
    let result = tokio::time::timeout(PATIENCE, result).await.context("the cluster takes too long").flatten();
    bench::remove_namespace(&client, &namespace).await?;
    result
}

impl Bench {
    fn pod(&self, name: &str) -> Result<Pod> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "containers": [{
                    "name": "main",
                    "image": self.image,
                    // Ends when asked to, as a well-made program does.
                    "command": ["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
                }],
            },
        }))?)
    }

    /// The next pod that became Ready, or that is gone.
    async fn next(&mut self) -> Result<(String, Seen)> {
        while let Some(event) = self.events.try_next().await? {
            match event {
                Event::Apply(pod) | Event::InitApply(pod) if is_ready(&pod) => {
                    return Ok((pod.name_any(), Seen::Ready));
                }
                Event::Delete(pod) => return Ok((pod.name_any(), Seen::Gone)),
                _ => {}
            }
        }
        bail!("the watch ended")
    }

    async fn wait(&mut self, name: &str, what: Seen) -> Result<()> {
        loop {
            if self.next().await? == (name.to_owned(), what) {
                return Ok(());
            }
        }
    }

    async fn serial(&mut self, count: u32) -> Result<()> {
        let (mut ready, mut gone) = (Samples::default(), Samples::default());
        for i in 0..count {
            let name = format!("serial-{i}");
            let begin = Instant::now();
            self.pods.create(&PostParams::default(), &self.pod(&name)?).await?;
            self.wait(&name, Seen::Ready).await?;
            ready.add(begin.elapsed());
            let begin = Instant::now();
            self.pods.delete(&name, &DeleteParams::default()).await?;
            self.wait(&name, Seen::Gone).await?;
            gone.add(begin.elapsed());
        }
        ready.print("serial create -> Ready");
        gone.print("serial delete -> gone");
        Ok(())
    }

    async fn burst(&mut self, count: u32) -> Result<()> {
        let names: Vec<String> = (0..count).map(|i| format!("burst-{i}")).collect();
        let begin = Instant::now();
        let pods = names.iter().map(|name| self.pod(name)).collect::<Result<Vec<_>>>()?;
        let api = self.pods.clone();
        let creating = tokio::spawn(async move {
            stream::iter(pods)
                .map(Ok)
                .try_for_each_concurrent(16, |pod| {
                    let api = api.clone();
                    async move { api.create(&PostParams::default(), &pod).await.map(drop) }
                })
                .await
        });
        let mut waiting: HashMap<String, ()> = names.iter().map(|n| (n.clone(), ())).collect();
        let mut each = Samples::default();
        while !waiting.is_empty() {
            let (name, seen) = self.next().await?;
            if seen == Seen::Ready && waiting.remove(&name).is_some() {
                each.add(begin.elapsed());
            }
        }
        creating.await??;
        println!("{count} pods Ready after          {:>9.2} s", begin.elapsed().as_secs_f64());
        each.print("  each, from the first create");
        let begin = Instant::now();
        self.pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let mut waiting: HashMap<String, ()> = names.into_iter().map(|n| (n, ())).collect();
        while !waiting.is_empty() {
            let (name, seen) = self.next().await?;
            if seen == Seen::Gone {
                waiting.remove(&name);
            }
        }
        println!("{count} pods gone after           {:>9.2} s", begin.elapsed().as_secs_f64());
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Ready,
    Gone,
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
