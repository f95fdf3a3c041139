//! Graceful node shutdown: when logind says that the machine goes down, the pods end first, by priority.
//!
//! A lock of logind's delays the shutdown for as long as the configuration says. When it comes, the node is not ready any
//! more and takes no pods; group after group is ended ([`groups`]), and then the lock is let go. A shutdown that is called
//! off makes the node ready again; the pods that have ended stay so.

mod groups;
mod logind;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::Delta;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::ShutdownPeriod;
use crate::context::Context;
use crate::pod::admission::Rejection;
use crate::pod::ext::PodExt;
use crate::pod::machine::Input;
use logind::{Logind, Place};

/// What pods that the node's shutdown ends are told.
pub const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
const LONGEST: Duration = Duration::from_secs(60);

type Kills = mpsc::UnboundedSender<(String, Input)>;

/// Whether the machine is going down.
#[derive(Default)]
pub struct Shutdown {
    now: AtomicBool,
    /// It was not before, or is not any more.
    pub changed: Notify,
    /// When the last one began and ended, for metrics.
    pub times: Mutex<(Option<Timestamp>, Option<Timestamp>)>,
}

impl Shutdown {
    pub fn is_now(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    fn set(&self, now: bool) {
        self.now.store(now, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub fn admit(&self) -> Result<(), Rejection> {
        if !self.is_now() {
            return Ok(());
        }
        Err(Rejection {
            reason: "NodeShutdown".into(),
            message: "Pod was rejected as the node is shutting down.".into(),
        })
    }
}

/// Follows logind until `shutdown`, which is the kubelet's.
pub async fn keep(ctx: Arc<Context>, kills: Kills, shutdown: CancellationToken) {
    let periods = groups::periods(&ctx.options.config);
    if periods.is_empty() {
        return;
    }
    let place = Place::default();
    let mut wait = Duration::from_secs(1);
    loop {
        let followed = tokio::select! {
            () = shutdown.cancelled() => return,
            followed = follow(&ctx, &place, &periods, &kills) => followed,
        };
        if let Err(error) = followed {
            warn!(%error, "the machine's shutdown is not watched: pods will not end in peace");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST);
    }
}

async fn follow(
    ctx: &Context,
    place: &Place,
    periods: &[ShutdownPeriod],
    kills: &Kills,
) -> Result<(), dbus::Error> {
    let mut logind = Logind::open(place).await?;
    logind.allow(groups::whole(periods)).await?;
    let mut lock = Some(logind.inhibit().await?);
    info!("the machine's shutdown waits for the pods");
    let node = &ctx.options.node_name;
    loop {
        let down = logind.next().await?;
        let what = if down { "event" } else { "cancellation" };
        ctx.events.node(node, false, "NodeShutdown", &format!("Shutdown manager detected shutdown {what}"));
        ctx.shutdown.set(down);
        if down {
            *ctx.shutdown.times.lock() = (Some(Timestamp::now()), None);
            end_pods(ctx, periods, kills).await;
            ctx.shutdown.times.lock().1 = Some(Timestamp::now());
            // Now it may go on.
            drop(lock.take());
        } else {
            lock = Some(logind.inhibit().await?);
        }
    }
}

async fn end_pods(ctx: &Context, periods: &[ShutdownPeriod], kills: &Kills) {
    let active = |pod: &Pod| !pod.is_mirror() && !has_ended(pod);
    let mut pods = ctx.pods.filter(active);
    pods.extend(ctx.statics.lock().iter().cloned());
    for (seconds, pods) in groups::groups(periods, pods) {
        info!(pods = pods.len(), seconds, "the machine goes down: a group of pods ends");
        for pod in &pods {
            let kill = Input::Kill {
                reason: REASON.into(),
                message: MESSAGE.into(),
                grace: Some(pod.grace().min(seconds)),
            };
            // Without a manager the kubelet is about to end.
            let _ = kills.send((pod.uid().to_owned(), kill));
        }
        let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if tokio::time::timeout(limit, all_ended(ctx, &pods)).await.is_err() {
            warn!(seconds, "some pods have not ended in the time that they had");
        }
    }
}

fn has_ended(pod: &Pod) -> bool {
    matches!(pod.phase(), "Succeeded" | "Failed")
}

/// Until the API knows of all of them that they have ended.
async fn all_ended(ctx: &Context, pods: &[Arc<Pod>]) {
    let mut left: std::collections::BTreeSet<&str> = pods.iter().map(|pod| pod.uid()).collect();
    let mut news = ctx.pods.subscribe();
    let mut synced = false;
    while !left.is_empty() {
        match news.recv().await {
            Some(Delta::Synced) => {
                synced = true;
                // Whoever is not there has gone. Static pods are known by their mirrors.
                let known = ctx.pods.list();
                left.retain(|uid| known.iter().any(|pod| pod.runtime_uid() == *uid && !has_ended(pod)));
            }
            Some(Delta::Deleted(pod)) => drop(left.remove(pod.runtime_uid())),
            Some(Delta::Added(pod) | Delta::Updated { new: pod, .. }) if synced && has_ended(&pod) => {
                left.remove(pod.runtime_uid());
            }
            Some(_) => {}
            None => return,
        }
    }
}
