//! The scheduler: how it is configured, when it leads, what it tells of itself.

use std::sync::Arc;

use anyhow::{Context, Result};
use client::Informers;
use exposition::Meters;
use scheduler::Config;
use serving::Component;
use serving::component::Check;

use super::leading::{LEADS, Leading};
use super::pages;
use crate::cli::{LeaderArgs, SchedulerArgs};
use crate::parts::Parts;

/// What the scheduler asks of the API server.
static REQUESTS: Meters = Meters::new(client::REQUESTS);

/// Upstream's port of the scheduler.
pub const PORT: u16 = 10259;

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
    let informers = Informers::new(client::from_kubeconfig(kubeconfig, "kube-scheduler").await?);
    let leading = leading(args.leader, &config);
    let pages = pages::Pages::alone(&args.secure, informers.client(), PORT).await?;
    start(parts, informers, &leading, config, pages)
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

pub fn start(
    parts: &mut Parts,
    informers: Informers,
    leading: &Leading,
    config: Config,
    pages: pages::Pages,
) -> Result<()> {
    let told = scheduler::Pages::default();
    let informers = informers.acting_as(client::metered(informers.client(), &REQUESTS));
    pages.start(parts, component(&config, told.clone()));
    leading.start(parts, "scheduler", "kube-scheduler", informers.client(), move |stop| {
        scheduler::run(informers.clone(), config.clone(), told.clone(), stop)
    })
}

/// Whether the scheduler lives, and what it does.
fn component(config: &Config, told: scheduler::Pages) -> Component {
    let (metrics, resources) = (told.metrics.clone(), told.clone());
    Component {
        name: "kube-scheduler",
        configuration: ("componentconfig", config.shown()),
        flags: pages::flags(),
        metrics: Arc::new(move || [metrics.encode(), REQUESTS.text(), LEADS.text()].concat()),
        more_metrics: vec![("/metrics/resources", Arc::new(move || resources.resources()))],
        checks: vec![Check::ready("informer-sync", move || told.is_ready())],
    }
}
