//! EncryptionConfiguration files: which providers encrypt which resources.

use std::collections::HashSet;

use serde_json::Value;

use super::kms::Kms;
use super::provider::Provider;
use crate::admission::objects::items;

/// Groups of resources with their providers; the first that fits a resource holds.
#[derive(Default)]
pub struct Rules(Vec<Rule>);

struct Rule {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

impl Rules {
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
        // The parser shows what it could not read, and that may be a key: only the place is told.
        let config: Value = serde_saphyr::from_str(text).map_err(|_| "it is not YAML".to_owned())?;
        if config["kind"].as_str() != Some("EncryptionConfiguration")
            || config["apiVersion"].as_str() != Some("apiserver.config.k8s.io/v1")
        {
            return Err("it is not an EncryptionConfiguration of apiserver.config.k8s.io/v1".to_owned());
        }
        let rules: Vec<Rule> = items(&config["resources"])
            .enumerate()
            .map(|(index, entry)| rule(entry).map_err(|reason| format!("resources[{index}].{reason}")))
            .collect::<Result<_, _>>()?;
        if rules.is_empty() {
            return Err("resources: at least one is required".to_owned());
        }
        let rules = Self(rules);
        let mut names = HashSet::new();
        if let Some(plugin) = rules.plugins().find(|plugin| !names.insert(plugin.name())) {
            return Err(format!("kms.name: {:?} is there twice", plugin.name()));
        }
        Ok(rules)
    }

    /// The KMS plugins.
    pub fn plugins(&self) -> impl Iterator<Item = &Kms> {
        self.0.iter().flat_map(|rule| &rule.providers).filter_map(Provider::kms)
    }

    /// The providers of a resource; none where it is not mentioned.
    pub fn of(&self, group: &str, plural: &str) -> &[Provider] {
        let fits =
            |rule: &&Rule| rule.resources.iter().any(|resource| resource_fits(resource, group, plural));
        self.0.iter().find(fits).map_or(&[], |rule| &rule.providers)
    }
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` for the core group, `*.*` for all.
fn resource_fits(resource: &str, group: &str, plural: &str) -> bool {
    let (of_plural, of_group) = resource.split_once('.').unwrap_or((resource, ""));
    match (of_plural, of_group) {
        ("*", "*") => true,
        ("*", of_group) => of_group == group,
        _ => of_plural == plural && of_group == group,
    }
}

fn rule(entry: &Value) -> Result<Rule, String> {
    let resources: Vec<String> =
        items(&entry["resources"]).filter_map(Value::as_str).map(str::to_owned).collect();
    if resources.is_empty() {
        return Err("resources: at least one is required".to_owned());
    }
    let mut providers = Vec::new();
    for (index, provider) in items(&entry["providers"]).enumerate() {
        let read = Provider::read(provider).map_err(|reason| format!("providers[{index}].{reason}"))?;
        providers.extend(read);
    }
    match providers.is_empty() {
        true => Err("providers: at least one provider is required".to_owned()),
        false => Ok(Rule { resources, providers }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources() {
        let check = |resource: &str, group: &str, plural: &str, expected: bool| {
            assert_eq!(resource_fits(resource, group, plural), expected, "{resource} {plural}.{group}");
        };
        check("secrets", "", "secrets", true);
        check("secrets", "example.com", "secrets", false);
        check("deployments.apps", "apps", "deployments", true);
        check("pandas.a.b.c", "a.b.c", "pandas", true);
        check("*.apps", "apps", "deployments", true);
        check("*.", "", "pods", true);
        check("*.", "apps", "deployments", false);
        check("*.*", "apps", "deployments", true);
    }
}
