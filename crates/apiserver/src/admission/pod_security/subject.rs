//! A pod as the checks look at it.

use serde_json::Value;

use crate::admission::objects::items;

/// Pod or pod template.
pub struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

impl<'a> Pod<'a> {
    pub fn new(object: &'a Value) -> Self {
        Self { metadata: &object["metadata"], spec: &object["spec"] }
    }

    /// Containers of all kinds.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| items(&spec[list]))
    }

    pub fn volumes(&self) -> impl Iterator<Item = &'a Value> {
        items(&self.spec["volumes"])
    }

    /// The pod's own security context.
    pub fn context(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    pub fn is_windows(&self) -> bool {
        self.spec["os"]["name"].as_str() == Some("windows")
    }

    /// Names of the containers that something is wrong with.
    pub fn containers_with(&self, wrong: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| wrong(container))
            .map(|container| container["name"].as_str().unwrap_or_default())
            .collect()
    }
}

/// `"a", "b"`
pub fn quoted<S: AsRef<str>>(texts: &[S]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{:?}", text.as_ref())).collect();
    quoted.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub fn named(kind: &str, names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{kind}{plural} {}", quoted(names))
}

/// `what (detail)`, unless there is nothing to tell.
pub fn violation(what: &str, details: Vec<String>) -> Option<String> {
    (!details.is_empty()).then(|| format!("{what} ({})", details.join("; ")))
}

/// Each text once, in order.
pub fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts.dedup();
    texts
}
