//! What a claim asks for, its alternatives in the order in which it would have them.

use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClass, DeviceRequest, DeviceSelector, DeviceTaint, DeviceToleration,
    ResourceClaim,
};

use super::Devices;

/// One way to satisfy a request.
pub struct Alternative<'a> {
    /// `request`, or `request/subrequest`.
    pub name: String,
    pub class: &'a DeviceClass,
    pub selectors: &'a [DeviceSelector],
    pub tolerations: &'a [DeviceToleration],
    /// None: all that there are.
    pub count: Option<usize>,
    pub admin: bool,
    /// How much of a device, at least.
    pub capacity: Option<&'a CapacityRequirements>,
}

impl Devices {
    /// For each request its alternatives, or why they cannot be told.
    pub(super) fn requests<'a>(
        &'a self,
        claim: &'a ResourceClaim,
    ) -> Result<Vec<Vec<Alternative<'a>>>, String> {
        let requests = claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten());
        requests.map(|request| self.alternatives(claim, request)).collect()
    }

    fn alternatives<'a>(
        &'a self,
        claim: &ResourceClaim,
        request: &'a DeviceRequest,
    ) -> Result<Vec<Alternative<'a>>, String> {
        let class = |name: &str| {
            self.classes.get(name).map(|class| &**class).ok_or_else(|| {
                let claim = claim.metadata.name.as_deref().unwrap_or_default();
                format!(
                    "request {}: device class {name} does not exist for resourceclaim {claim}",
                    request.name
                )
            })
        };
        if let Some(exactly) = &request.exactly {
            return Ok(vec![Alternative {
                name: request.name.clone(),
                class: class(&exactly.device_class_name)?,
                selectors: exactly.selectors.as_deref().unwrap_or_default(),
                tolerations: exactly.tolerations.as_deref().unwrap_or_default(),
                count: count(exactly.allocation_mode.as_deref(), exactly.count),
                admin: exactly.admin_access == Some(true),
                capacity: exactly.capacity.as_ref(),
            }]);
        }
        let subrequests = request.first_available.iter().flatten();
        let alternatives = subrequests.map(|sub| {
            Ok(Alternative {
                name: format!("{}/{}", request.name, sub.name),
                class: class(&sub.device_class_name)?,
                selectors: sub.selectors.as_deref().unwrap_or_default(),
                tolerations: sub.tolerations.as_deref().unwrap_or_default(),
                count: count(sub.allocation_mode.as_deref(), sub.count),
                admin: false,
                capacity: sub.capacity.as_ref(),
            })
        });
        alternatives.collect()
    }
}

fn count(mode: Option<&str>, count: Option<i64>) -> Option<usize> {
    match mode {
        Some("All") => None,
        _ => Some(usize::try_from(count.unwrap_or(1)).unwrap_or(1)),
    }
}

/// Whether a list of request names means this alternative. None means all.
pub fn names(requests: Option<&Vec<String>>, alternative: &str) -> bool {
    let main = alternative.split_once('/').map_or(alternative, |(main, _)| main);
    match requests.map(Vec::as_slice) {
        None | Some([]) => true,
        Some(names) => names.iter().any(|name| name == alternative || name == main),
    }
}

/// Whether new users are kept off by a taint that they do not tolerate.
pub fn is_repelled(taints: &[DeviceTaint], tolerations: &[DeviceToleration]) -> bool {
    let hard = taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    let tolerated = |taint: &DeviceTaint| {
        tolerations.iter().any(|toleration| {
            let given = |text: &Option<String>| text.clone().unwrap_or_default();
            let (key, effect) = (given(&toleration.key), given(&toleration.effect));
            let exists = given(&toleration.operator) == "Exists";
            (effect.is_empty() || effect == taint.effect)
                && (key == taint.key || (key.is_empty() && exists))
                && (exists || given(&toleration.value) == given(&taint.value))
        })
    };
    hard.into_iter().any(|taint| !tolerated(taint))
}
