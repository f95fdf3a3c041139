//! Where cluster IPs may come from beside the configured ranges: the ServiceCIDRs that are ready.

use std::collections::BTreeMap;

use api::status::GroupResource;
use serde_json::Value;

use super::cidr::Cidr;
use crate::admission::objects::items;
use crate::authz::follow::Derived;

pub const SERVICE_CIDRS: GroupResource<'static> = GroupResource::new("networking.k8s.io", "servicecidrs");

/// By the name of the ServiceCIDR: the order in which they are used.
#[derive(Default)]
pub struct Ranges(BTreeMap<String, Vec<Cidr>>);

impl Ranges {
    pub fn iter(&self) -> impl Iterator<Item = &Cidr> {
        self.0.values().flatten()
    }
}

impl Derived for Ranges {
    fn apply(&mut self, _: GroupResource<'static>, _: &str, name: &str, object: Option<&Value>) {
        self.0.remove(name);
        let Some(range) = object.filter(|range| is_ready(range)) else { return };
        let cidrs = items(&range["spec"]["cidrs"]).filter_map(|cidr| cidr.as_str()?.parse().ok());
        self.0.insert(name.to_owned(), cidrs.collect());
    }

    fn forget(&mut self, _: GroupResource<'static>) {
        self.0.clear();
    }
}

/// Not on its way in or out.
fn is_ready(range: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    range["metadata"]["deletionTimestamp"].is_null() && items(&range["status"]["conditions"]).any(ready)
}
