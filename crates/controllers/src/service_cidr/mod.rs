//! Keeps a range of Service addresses from going while addresses of it are in use that no other range covers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
/// API servers may still give out addresses of a range whose deletion they have not seen yet.
const GRACE: Duration = Duration::from_secs(10);

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let (due, seen) = (queue.clone(), world.clone());
    world.service_cidrs.on(move |change| {
        // What one range gives up or takes over, another may wait for.
        for range in seen.service_cidrs.list().iter().chain(change.new) {
            if change.new.is_some_and(|new| Arc::ptr_eq(new, range)) || meta::is_terminating(&**range) {
                due.add(Key::of(&**range));
            }
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.ip_addresses.on(move |change| {
        if change.is_update() {
            return;
        }
        for range in seen.service_cidrs.list().iter().filter(|range| meta::is_terminating(&***range)) {
            due.add(Key::of(&**range));
        }
    });
    loops.add(ServiceCidrs { world: world.clone() }, queue);
}

struct ServiceCidrs {
    world: Arc<World>,
}

impl Controller for ServiceCidrs {
    const NAME: &'static str = "service-cidr-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let view = &self.world.service_cidrs;
        let Some(mut range) = view.by_key(key) else { return Ok(None) };
        let held = meta::has_finalizer(&range.metadata, FINALIZER);
        let Some(since) = range.metadata.deletion_timestamp.clone() else {
            if !held {
                let mut updated = (*range).clone();
                updated.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
                range = view.replace(&updated).await?;
            }
            self.tell(&range, "True", "", "Kubernetes Service CIDR is ready").await?;
            return Ok(None);
        };
        if !held {
            return Ok(None);
        }
        if let Some(address) = stranded(&range, &self.world.ip_addresses.list(), &view.list()) {
            let message = format!(
                "There are still IPAddresses referencing the ServiceCIDR (such as {address}), please remove them or \
                 create a new ServiceCIDR"
            );
            self.tell(&range, "False", "Terminating", &message).await?;
            return Ok(None);
        }
        let passed = Duration::try_from(Timestamp::now().duration_since(since.0)).unwrap_or_default();
        let left = GRACE.saturating_sub(passed);
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let mut updated = (*range).clone();
        updated.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        match view.replace(&updated).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(None),
        }
    }
}

impl ServiceCidrs {
    async fn tell(
        &self,
        range: &ServiceCIDR,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), SyncError> {
        let mut told = range.clone();
        let conditions = told.status.get_or_insert_default().conditions.get_or_insert_default();
        let condition = Condition {
            type_: READY.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: meta::now(),
            observed_generation: None,
        };
        match conditions.iter_mut().find(|old| old.type_ == READY) {
            Some(old) if old.status == status && old.reason == reason => return Ok(()),
            Some(old) => *old = condition,
            None => conditions.push(condition),
        }
        self.world.service_cidrs.replace_status(&told).await.map(drop)
    }
}

fn nets(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// An address in use that only this range covers.
fn stranded(range: &ServiceCIDR, addresses: &[Arc<IPAddress>], all: &[Arc<ServiceCIDR>]) -> Option<IpAddr> {
    let ours = nets(range);
    let stay = all.iter().filter(|other| {
        meta::name(&***other) != meta::name(range) && other.metadata.deletion_timestamp.is_none()
    });
    let others: Vec<IpNet> = stay.flat_map(|other| nets(other)).collect();
    let covers = |nets: &[IpNet], address: &IpAddr| nets.iter().any(|net| net.contains(address));
    addresses
        .iter()
        .filter_map(|address| meta::name(&**address).parse().ok())
        .find(|address| covers(&ours, address) && !covers(&others, address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(name: &str, cidrs: &[&str], dying: bool) -> Arc<ServiceCIDR> {
        let mut value = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
        if dying {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_range_may_go_when_others_cover_its_addresses() {
        let dying = range("old", &["10.0.0.0/24", "fd00::/120"], true);
        let check = |addresses: &[&str], others: Vec<Arc<ServiceCIDR>>, expected: Option<&str>| {
            let addresses: Vec<Arc<IPAddress>> = addresses
                .iter()
                .map(|name| {
                    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {}})).unwrap())
                })
                .collect();
            let all: Vec<_> = others.into_iter().chain([dying.clone()]).collect();
            let found = stranded(&dying, &addresses, &all).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected);
        };
        check(&[], vec![], None);
        check(&["10.9.9.9"], vec![], None);
        check(&["10.0.0.7"], vec![], Some("10.0.0.7"));
        check(&["fd00::7"], vec![], Some("fd00::7"));
        check(&["10.0.0.7"], vec![range("wide", &["10.0.0.0/16"], false)], None);
        check(&["10.0.0.7"], vec![range("wide", &["10.0.0.0/16"], true)], Some("10.0.0.7"));
    }
}
