//! Which devices are in use, as a whole or in shares.

use std::collections::HashMap;

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult};

use super::DeviceId;
use super::capacity::{Amounts, parse};

/// The users of one device.
#[derive(Debug, Default)]
struct Users {
    whole: usize,
    /// By the ids of their shares.
    shares: Vec<(String, Amounts)>,
}

#[derive(Debug, Default)]
pub struct Taken(HashMap<DeviceId, Users>);

/// What an allocation takes; who only looks after a device takes nothing.
fn results(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
    results.filter(|result| result.admin_access != Some(true))
}

fn id(result: &DeviceRequestAllocationResult) -> DeviceId {
    DeviceId { driver: result.driver.clone(), pool: result.pool.clone(), name: result.device.clone() }
}

impl Taken {
    pub fn take(&mut self, allocation: &AllocationResult) {
        for result in results(allocation) {
            let users = self.0.entry(id(result)).or_default();
            match &result.share_id {
                None => users.whole += 1,
                Some(share) => {
                    let amounts = result.consumed_capacity.iter().flatten();
                    let amounts = amounts.filter_map(|(name, amount)| Some((name.clone(), parse(amount)?)));
                    users.shares.push((share.clone(), amounts.collect()));
                }
            }
        }
    }

    pub fn give_back(&mut self, allocation: &AllocationResult) {
        for result in results(allocation) {
            let id = id(result);
            let Some(users) = self.0.get_mut(&id) else { continue };
            match &result.share_id {
                None => users.whole = users.whole.saturating_sub(1),
                Some(share) => {
                    if let Some(at) = users.shares.iter().position(|(known, _)| known == share) {
                        users.shares.swap_remove(at);
                    }
                }
            }
            if users.whole == 0 && users.shares.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    /// Whether somebody has the device for himself.
    pub fn as_a_whole(&self, id: &DeviceId) -> bool {
        self.0.get(id).is_some_and(|users| users.whole > 0)
    }

    pub fn at_all(&self, id: &DeviceId) -> bool {
        self.0.contains_key(id)
    }

    pub fn shares(&self, id: &DeviceId) -> impl Iterator<Item = &Amounts> {
        self.0.get(id).into_iter().flat_map(|users| users.shares.iter().map(|(_, amounts)| amounts))
    }
}
