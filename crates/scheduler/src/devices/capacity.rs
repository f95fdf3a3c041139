//! How much of a device a request takes, where devices are shared.
//!
//! What is asked for is rounded up as the device's policy says; a device that cannot give so much is none for the
//! request. Of what is not asked for, the policy's default is taken, or all.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, CapacityRequirements, Device, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::Offered;

/// Amounts by the names that the device has for them.
pub type Amounts = BTreeMap<String, Quantity>;

/// Steps from the least to the most amount that are counted one by one at most; beyond, halves decide.
const NANOS: u32 = 63;

pub fn is_shared(device: &Device) -> bool {
    device.allow_multiple_allocations == Some(true)
}

/// What a request takes of the device. None: it cannot be had.
pub fn taken_by(offered: &Offered<'_>, wanted: Option<&CapacityRequirements>) -> Option<Amounts> {
    let requests = wanted.and_then(|wanted| wanted.requests.as_ref());
    let capacity = offered.device.capacity.iter().flatten();
    let named = |name: &str, asked: &str| asked == name || own(offered, asked) == Some(name);
    let has = |asked: &String| capacity.clone().any(|(name, _)| named(name, asked));
    if !requests.into_iter().flatten().all(|(asked, _)| has(asked)) {
        return None;
    }
    let mut taken = Amounts::new();
    for (name, capacity) in capacity {
        let asked = requests.into_iter().flatten().find(|(asked, _)| named(name, asked));
        taken.insert(name.clone(), amount(capacity, asked.map(|(_, amount)| amount))?);
    }
    Some(taken)
}

/// A name without the domain of its driver, in which it is.
fn own<'a>(offered: &Offered<'_>, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(offered.slice.spec.driver.as_str())?.strip_prefix('/')
}

fn amount(capacity: &DeviceCapacity, asked: Option<&Text>) -> Option<Quantity> {
    let most = parse(&capacity.value)?;
    let policy = capacity.request_policy.as_ref();
    let amount = match (asked, policy) {
        (None, None) => most,
        (None, Some(policy)) => policy.default.as_ref().map_or(Some(most), parse)?,
        (Some(asked), None) => parse(asked)?,
        (Some(asked), Some(policy)) => allowed(policy, parse(asked)?)?,
    };
    (amount <= most).then_some(amount)
}

/// The least amount that the policy has for as much as this.
fn allowed(policy: &CapacityRequestPolicy, asked: Quantity) -> Option<Quantity> {
    if let Some(values) = policy.valid_values.as_ref().filter(|values| !values.is_empty()) {
        return values.iter().filter_map(parse).filter(|value| *value >= asked).min_by(order);
    }
    let Some(range) = &policy.valid_range else { return Some(asked) };
    let least = parse(&range.min)?;
    let mut amount = if asked < least { least } else { asked };
    if let Some(step) = range.step.as_ref().and_then(parse).filter(|step| step.sign() > 0) {
        amount = least.plus(next_multiple(amount.minus(least), step));
    }
    let most = range.max.as_ref().and_then(parse);
    most.is_none_or(|most| amount <= most).then_some(amount)
}

/// The least multiple of `step` that is not less.
fn next_multiple(amount: Quantity, step: Quantity) -> Quantity {
    let (mut low, mut high) = (0_i64, 1_i64);
    let mut doubled = 0;
    while step.times(high) < amount && doubled < NANOS - 1 {
        (low, high, doubled) = (high, high.saturating_mul(2), doubled + 1);
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if step.times(middle) < amount { low = middle } else { high = middle }
    }
    if amount.sign() <= 0 { Quantity::ZERO } else { step.times(high) }
}

fn order(one: &Quantity, other: &Quantity) -> Ordering {
    one.partial_cmp(other).unwrap_or(Ordering::Equal)
}

pub fn parse(text: &Text) -> Option<Quantity> {
    Quantity::parse(&text.0).ok()
}

/// Whether that much is left of a device of which that much is taken.
pub fn is_left(device: &Device, taken: &[&Amounts], wanted: &Amounts) -> bool {
    wanted.iter().all(|(name, wanted)| {
        let all = device.capacity.as_ref().and_then(|capacity| parse(&capacity.get(name)?.value));
        let used =
            taken.iter().filter_map(|taken| taken.get(name)).fold(*wanted, |sum, more| sum.plus(*more));
        all.is_some_and(|all| used <= all)
    })
}

pub fn text(amounts: &Amounts) -> BTreeMap<String, Text> {
    amounts.iter().map(|(name, amount)| (name.clone(), Text(amount.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(capacity: Value, asked: Option<&str>, expected: Option<&str>) {
        let capacity: DeviceCapacity = serde_json::from_value(capacity).unwrap();
        let asked = asked.map(|text| Text(text.to_owned()));
        let found = amount(&capacity, asked.as_ref());
        assert_eq!(found.map(|amount| amount.to_string()).as_deref(), expected, "{capacity:?} {asked:?}");
    }

    #[test]
    fn requests_are_rounded_up_as_the_policy_says() {
        let plain = json!({"value": "40Gi"});
        check(plain.clone(), None, Some("40Gi"));
        check(plain.clone(), Some("10Gi"), Some("10Gi"));
        check(plain, Some("41Gi"), None);
        let values = json!({"value": "40Gi", "requestPolicy": {"default": "5Gi", "validValues": ["5Gi", "10Gi", "20Gi"]}});
        check(values.clone(), None, Some("5Gi"));
        check(values.clone(), Some("6Gi"), Some("10Gi"));
        check(values.clone(), Some("20Gi"), Some("20Gi"));
        check(values, Some("21Gi"), None);
        let range = json!({"value": "40", "requestPolicy": {"default": "1", "validRange": {"min": "2", "max": "11", "step": "3"}}});
        check(range.clone(), Some("1"), Some("2"));
        check(range.clone(), Some("3"), Some("5"));
        check(range.clone(), Some("5"), Some("5"));
        check(range.clone(), Some("11"), Some("11"));
        check(range, Some("12"), None);
        let open = json!({"value": "40", "requestPolicy": {"default": "1", "validRange": {"min": "100m"}}});
        check(open.clone(), Some("3500m"), Some("3500m"));
        check(open, Some("9223372036854775807"), None);
    }
}
