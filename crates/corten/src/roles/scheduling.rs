//! The scheduler: how it is configured, when it leads, what it tells of itself.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use client::Informers;
use proxy::http::{self, Page};
use scheduler::{Config, Pages};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::leading::Leading;
use crate::cli::{LeaderArgs, SchedulerArgs};
use crate::parts::Parts;

/// Upstream's port of the scheduler.
const PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 10259);

/// A scheduler by itself, at any API server.
pub async fn alone(parts: &mut Parts, args: SchedulerArgs) -> Result<()> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let kubeconfig = args.kubeconfig.as_ref().or(config.kubeconfig.as_ref());
    let kubeconfig = kubeconfig.context(
        "which API server? name a kubeconfig by --kubeconfig, or as clientConnection.kubeconfig in --config",
    )?;
    let informers = Informers::new(client::from_kubeconfig(kubeconfig).await?);
    let leading = leading(args.leader, &config);
    start(parts, informers, &leading, config)
}

/// The file says how to lead, if it does; flags otherwise.
fn leading(flags: LeaderArgs, config: &Config) -> Leading {
    let file = &config.leader_election;
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Leading::alone(LeaderArgs {
        leader_elect: flags.leader_elect.or(file.leader_elect),
        leader_elect_lease_duration: file.lease_duration.unwrap_or(flags.leader_elect_lease_duration),
        leader_elect_renew_deadline: file.renew_deadline.unwrap_or(flags.leader_elect_renew_deadline),
        leader_elect_retry_period: file.retry_period.unwrap_or(flags.leader_elect_retry_period),
    })
    .under(given(&file.resource_namespace), given(&file.resource_name))
}

pub fn start(parts: &mut Parts, informers: Informers, leading: &Leading, config: Config) -> Result<()> {
    let pages = Pages::default();
    tokio::spawn(serve(pages.clone(), parts.shutdown()));
    leading.start(parts, "scheduler", "kube-scheduler", informers.client(), move |stop| {
        scheduler::run(informers.clone(), config.clone(), pages.clone(), stop)
    })
}

/// Whether the scheduler lives, and what it does; to this machine only, for nobody has to prove who he is.
async fn serve(pages: Pages, shutdown: CancellationToken) {
    let listener = match http::listen(PORT.into()).await {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "no metrics of the scheduler");
            return;
        }
    };
    let page = move |path: &str| match path {
        "/healthz" | "/livez" => Page::text(200, "ok".to_owned()),
        "/readyz" if pages.is_ready() => Page::text(200, "ok".to_owned()),
        "/readyz" => Page::text(503, "the watches have not told everything yet\n".to_owned()),
        "/metrics" | "/metrics/resources" => Page::text(200, pages.metrics.encode()),
        _ => Page::not_found(),
    };
    http::serve(listener, shutdown, page).await;
}
