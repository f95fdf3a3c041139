//! A binding: where a policy applies, with which parameters, and what a violation leads to.

use api::selector::LabelSelector;
use serde_json::Value;

use super::spec::text;
use crate::admission::matching::Criteria;
use crate::admission::objects::items;

pub struct Binding {
    pub name: String,
    pub policy: String,
    pub criteria: Result<Criteria, String>,
    pub params: Option<ParamRef>,
    pub actions: Actions,
}

pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Result<LabelSelector, String>>,
    /// Where there are none, the request passes.
    pub none_allows: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Actions {
    pub deny: bool,
    pub warn: bool,
    pub audit: bool,
}

impl Actions {
    /// As audit annotations tell them.
    pub fn names(self) -> Vec<&'static str> {
        [(self.deny, "Deny"), (self.warn, "Warn"), (self.audit, "Audit")]
            .into_iter()
            .filter_map(|(is, name)| is.then_some(name))
            .collect()
    }
}

impl Binding {
    pub fn read(name: &str, object: &Value) -> Self {
        let spec = &object["spec"];
        let reference = &spec["paramRef"];
        let acts = |action: &str| items(&spec["validationActions"]).any(|given| given == action);
        let selector = reference.get("selector").filter(|selector| selector.is_object());
        Self {
            name: name.to_owned(),
            policy: text(&spec["policyName"]).to_owned(),
            criteria: Criteria::read(&spec["matchResources"]),
            params: reference.is_object().then(|| ParamRef {
                name: text(&reference["name"]).to_owned(),
                namespace: text(&reference["namespace"]).to_owned(),
                selector: selector.map(|selector| {
                    LabelSelector::from_object(Some(selector)).map_err(|error| error.to_string())
                }),
                none_allows: text(&reference["parameterNotFoundAction"]) == "Allow",
            }),
            actions: Actions { deny: acts("Deny"), warn: acts("Warn"), audit: acts("Audit") },
        }
    }
}
