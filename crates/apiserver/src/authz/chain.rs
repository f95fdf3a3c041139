//! Which authorizers are asked, in which order: by `--authorization-mode`, or by an AuthorizationConfiguration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::modes::{AuthorizationOptions, Mode};
use super::webhook::{self, Webhook};
use crate::admission::objects::items;

/// One authorizer.
#[derive(Clone)]
pub enum Step {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(Arc<Webhook>),
}

const MODE_TIMEOUT: Duration = Duration::from_secs(30);

/// By `--authorization-mode` and its kin.
pub fn of_modes(options: &AuthorizationOptions) -> Result<Vec<Step>, String> {
    let step = |mode: &Mode| {
        Ok(match mode {
            Mode::Node => Step::Node,
            Mode::Rbac => Step::Rbac,
            Mode::AlwaysAllow => Step::AlwaysAllow,
            Mode::AlwaysDeny => Step::AlwaysDeny,
            Mode::Webhook => {
                let given = options.webhook.as_ref();
                let given = given.ok_or("mode Webhook needs --authorization-webhook-config-file")?;
                let options = webhook::Options {
                    name: "webhook".to_owned(),
                    version: given.version.clone(),
                    authorized_ttl: given.authorized_ttl,
                    unauthorized_ttl: given.unauthorized_ttl,
                    timeout: MODE_TIMEOUT,
                    fails_closed: false,
                    conditions: Vec::new(),
                };
                let webhook = Webhook::new(&given.kubeconfig, options).map_err(|error| error.to_string())?;
                Step::Webhook(Arc::new(webhook))
            }
        })
    };
    options.modes.iter().map(step).collect()
}

/// By the text of an AuthorizationConfiguration.
pub fn parse(text: &[u8]) -> Result<Vec<Step>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let config: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let version = config["apiVersion"].as_str().unwrap_or_default();
    let known = ["v1", "v1beta1", "v1alpha1"].map(|version| format!("apiserver.config.k8s.io/{version}"));
    if config["kind"].as_str() != Some("AuthorizationConfiguration")
        || !known.iter().any(|known| known == version)
    {
        return Err(format!(
            "{version:?} {} is not an AuthorizationConfiguration of apiserver.config.k8s.io",
            config["kind"]
        ));
    }
    let mut names: Vec<&str> = Vec::new();
    let mut steps = Vec::new();
    for (index, entry) in items(&config["authorizers"]).enumerate() {
        let name = entry["name"].as_str().unwrap_or_default();
        if name.is_empty() || names.contains(&name) {
            return Err(format!("authorizers[{index}].name: {name:?} is empty or there twice"));
        }
        names.push(name);
        let kind = entry["type"].as_str().unwrap_or_default();
        let step = match Mode::from_name(kind) {
            Some(Mode::Webhook) => webhook(name, &entry["webhook"]),
            Some(_) if !entry["webhook"].is_null() => Err("webhook is for type Webhook only".to_owned()),
            Some(Mode::Node) => Ok(Step::Node),
            Some(Mode::Rbac) => Ok(Step::Rbac),
            Some(Mode::AlwaysAllow) => Ok(Step::AlwaysAllow),
            Some(Mode::AlwaysDeny) => Ok(Step::AlwaysDeny),
            None => Err(format!("type: {kind:?} is not a type of authorizers")),
        };
        steps.push(step.map_err(|reason| format!("authorizers[{index}]: {reason}"))?);
    }
    match steps.is_empty() {
        true => Err("authorizers: at least one is required".to_owned()),
        false => Ok(steps),
    }
}

fn webhook(name: &str, config: &Value) -> Result<Step, String> {
    let one_of = |field: &str, allowed: &[&str]| {
        let given = config[field].as_str().unwrap_or_default();
        match allowed.contains(&given) {
            true => Ok(given.to_owned()),
            false => Err(format!("webhook.{field}: {given:?} is not one of {}", allowed.join(", "))),
        }
    };
    let duration = |field: &str, default: Option<u64>| match (config[field].as_str(), default) {
        (Some(text), _) => crate::options::go_duration(text)
            .ok_or_else(|| format!("webhook.{field}: {text:?} is not a duration")),
        (None, Some(seconds)) => Ok(Duration::from_secs(seconds)),
        (None, None) => Err(format!("webhook.{field}: is required")),
    };
    let cached = |field: &str, ttl: Duration| match config[field].as_bool() {
        Some(false) => Duration::ZERO,
        _ => ttl,
    };
    let timeout = duration("timeout", None)?;
    if timeout.is_zero() || timeout > Duration::from_secs(30) {
        return Err("webhook.timeout: must be between 0 and 30s".to_owned());
    }
    let version = one_of("subjectAccessReviewVersion", &["v1", "v1beta1"])?;
    let fails_closed = one_of("failurePolicy", &["NoOpinion", "Deny"])? == "Deny";
    let connection = &config["connectionInfo"];
    let kubeconfig = match connection["type"].as_str() {
        Some("KubeConfigFile") => connection["kubeConfigFile"].as_str().unwrap_or_default(),
        other => {
            return Err(format!(
                "webhook.connectionInfo.type: {other:?} is not supported, KubeConfigFile is"
            ));
        }
    };
    let conditions: Vec<String> = items(&config["matchConditions"])
        .map(|condition| condition["expression"].as_str().unwrap_or_default().to_owned())
        .collect();
    if !conditions.is_empty() {
        one_of("matchConditionSubjectAccessReviewVersion", &["v1"])?;
    }
    let options = webhook::Options {
        name: name.to_owned(),
        version,
        authorized_ttl: cached("cacheAuthorizedRequests", duration("authorizedTTL", Some(300))?),
        unauthorized_ttl: cached("cacheUnauthorizedRequests", duration("unauthorizedTTL", Some(30))?),
        timeout,
        fails_closed,
        conditions,
    };
    let webhook =
        Webhook::new(Path::new(kubeconfig), options).map_err(|error| format!("webhook: {error}"))?;
    Ok(Step::Webhook(Arc::new(webhook)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("k");
        std::fs::write(
            &kubeconfig,
            "{current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: 'https://x'}}]}",
        )
        .unwrap();
        let check = |authorizers: &str, expected: Result<usize, &str>| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{authorizers}"
            );
            match (parse(text.as_bytes()), expected) {
                (Ok(steps), Ok(count)) => assert_eq!(steps.len(), count),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}, not {part}"),
                (got, expected) => panic!("{:?}, not {expected:?}", got.map(|steps| steps.len())),
            }
        };
        let webhook = |more: &str| {
            format!(
                "- {{type: Webhook, name: w, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, \
                 connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}{more}}}}}",
                kubeconfig.display()
            )
        };
        check("- {type: Node, name: node}\n- {type: RBAC, name: r}\n", Ok(2));
        check(&webhook(""), Ok(1));
        let condition = ", matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: ";
        check(&webhook(&format!("{condition} \"request.user == 'a'\"}}]")), Ok(1));
        check(&webhook(&format!("{condition} \"request.user\"}}]")), Ok(1));
        check(&webhook(&format!("{condition} \"1\"}}]")), Err("matchConditions[0]"));
        check(&webhook(", authorizedTTL: x"), Err("authorizedTTL"));
        check("- {type: RBAC, name: r}\n- {type: RBAC, name: r}\n", Err("twice"));
        check("- {type: ABAC, name: r}\n", Err("ABAC"));
        check("", Err("at least one"));
    }
}
