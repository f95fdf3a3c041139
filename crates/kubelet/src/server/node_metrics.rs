//! What `/metrics` tells of the node's state at this moment: volumes, certificates, the build.

use std::collections::BTreeMap;
use std::time::SystemTime;

use exposition::{Page, float};

use crate::context::Context;
use crate::identity;
use crate::pod::ext::PodExt;
use crate::volumes;

pub fn add(ctx: &Context, page: &mut Page) {
    volumes_of_pods(ctx, page);
    certificates(ctx, page);
    ephemeral(ctx, page);
}

/// By plugin: the volumes that pods want, and those that are there.
fn volumes_of_pods(ctx: &Context, page: &mut Page) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let statics = ctx.statics.lock().clone();
    let pods = ctx.pods.list();
    let own = pods.iter().filter(|pod| !pod.is_mirror() && !matches!(pod.phase(), "Succeeded" | "Failed"));
    for pod in own.chain(&statics) {
        let dir = ctx.pod_dir(pod.uid());
        let exists = dir.is_dir();
        for volume in pod.pod_spec().volumes.iter().flatten() {
            let plugin = volumes::plugin(volume);
            *counts.entry((plugin, "desired_state_of_world")).or_default() += 1;
            let place = dir.join("volumes").join(plugin.replace('/', "~")).join(&volume.name);
            let known = (pod.uid().to_owned(), volume.name.clone());
            // Those of the node itself have no place of their own, and are there once their pod is.
            let there = if volumes::is_persistent(volume) {
                ctx.mounted.lock().contains_key(&known)
            } else {
                place.is_dir() || (exists && volume.host_path.is_some())
            };
            if there {
                *counts.entry((plugin, "actual_state_of_world")).or_default() += 1;
            }
        }
    }
    let name = "volume_manager_total_volumes";
    page.family(name, "gauge", "Number of volumes in Volume Manager");
    for ((plugin, state), count) in counts {
        page.sample(name, &[("plugin_name", plugin), ("state", state)], float(count));
    }
}

fn certificates(ctx: &Context, page: &mut Page) {
    let left = |until: Option<SystemTime>| match until {
        None => f64::INFINITY,
        Some(until) => match until.duration_since(SystemTime::now()) {
            Ok(left) => left.as_secs_f64().floor(),
            Err(over) => -over.duration().as_secs_f64().floor(),
        },
    };
    let options = &ctx.options;
    let client = options.bootstrapped.then(|| identity::Pair::client(&options.cert_dir).until()).flatten();
    let name = "kubelet_certificate_manager_client_ttl_seconds";
    page.family(name, "gauge", "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.");
    page.sample(name, &[], left(client));
    if options.config.server_tls_bootstrap {
        let name = "kubelet_certificate_manager_server_ttl_seconds";
        page.family(name, "gauge", "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.");
        page.sample(name, &[], left(identity::Pair::serving(&options.cert_dir).until()));
    }
}

fn ephemeral(ctx: &Context, page: &mut Page) {
    let pods = ctx.pods.list();
    let count =
        pods.iter().map(|pod| pod.pod_spec().ephemeral_containers.iter().flatten().count()).sum::<usize>();
    let name = "kubelet_managed_ephemeral_containers";
    page.family(name, "gauge", "Current number of ephemeral containers in pods managed by this kubelet.");
    page.sample(name, &[], float(count as u64));
}
