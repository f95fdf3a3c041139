//! `pods/eviction`: deletion that asks the disruption budgets first.

use api::gvk::GroupVersionKind;
use api::selector::LabelSelector;
use api::status::{Status, StatusCause};
use http::StatusCode;
use serde_json::{Value, json};

use super::binding::set_condition;
use crate::handlers::call::Call;
use crate::handlers::decode;
use crate::options::{DeleteOptions, FieldValidation, Query, WriteOptions};
use crate::server::respond::{self, Answer};
use crate::write::Writer;
use crate::write::meta;
use crate::write::update::Change;

/// Clients of before v1 say v1beta1, and mean the same.
fn said(call: &Call, body: &[u8]) -> Result<GroupVersionKind, Status> {
    let decoded = decode::decoded(call.content_type(), body, "Eviction")?;
    let version = if decoded.value["apiVersion"] == "policy/v1beta1" { "v1beta1" } else { "v1" };
    Ok(GroupVersionKind::new("policy", version, "Eviction"))
}

pub async fn evict(call: &Call, body: &[u8]) -> Result<Answer, Status> {
    let gvk = GroupVersionKind::new("policy", "v1", "Eviction");
    let mut eviction = decode::typed(call, body, &said(call, body)?, None, FieldValidation::Ignore)?;
    eviction["apiVersion"] = gvk.api_version().into();
    let given = meta::text(&eviction, "name");
    if !given.is_empty() && given != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let write = WriteOptions::parse(&call.query, "CreateOptions")?;
    let body = &eviction["deleteOptions"];
    let mut options = DeleteOptions::parse(&Query::default(), body.is_object().then_some(body))?;
    options.dry_run |= write.dry_run;
    super::admitted(call, &gvk, eviction, options.dry_run).await?;
    let pod = call.served.cache.get(&call.key()).ok_or_else(|| call.not_found())?.value();
    let running = matches!(pod["status"]["phase"].as_str(), Some("Running" | "Unknown"));
    if running && !pod["metadata"]["deletionTimestamp"].is_string() {
        take_disruption(call, &pod, options.dry_run).await?;
    }
    let writer =
        call.writer(&WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() }, "DeleteOptions");
    if running && !options.dry_run {
        let make = |pod: &Value| {
            let mut pod = pod.clone();
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "observedGeneration": pod["metadata"]["generation"],
            });
            set_condition(&mut pod, condition);
            Ok(pod)
        };
        let mark = Writer { subresource: "status", ..call.writer(&write, "UpdateOptions") };
        mark.update(&Change { make: &make, managed: false, whole: false }).await?;
    }
    let delete = Writer { subresource: "", options: options.to_value(), ..writer };
    delete.delete(&options).await?;
    let mut status = Status::success();
    status.code = 201;
    respond::value(StatusCode::CREATED, &status.to_value(), call.accept.format, call.pretty)
}

/// Counts the eviction against the pod's budget; 429 where the budget has nothing left.
async fn take_disruption(call: &Call, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let catalog = call.state.catalog();
    let Some(budgets) = catalog.get("policy", "v1", "poddisruptionbudgets") else {
        return Ok(());
    };
    let mut found = Vec::new();
    budgets.cache.scan(&call.info.namespace, "", |object| {
        found.push(object.clone());
        true
    });
    let selects = |budget: &Value| {
        LabelSelector::from_object(budget["spec"].get("selector"))
            .is_ok_and(|selector| selector.matches(&pod["metadata"]["labels"]))
    };
    let mut matching = found.iter().map(|object| object.value()).filter(selects);
    let Some(budget) = matching.next() else {
        return Ok(());
    };
    if matching.next().is_some() {
        return Err(Status::failure(
            500,
            "",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let ready = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let status = &budget["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    if !ready
        && (always || (count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy")))
    {
        return Ok(());
    }
    let name = meta::text(&budget, "name").to_owned();
    let write = WriteOptions { dry_run, ..WriteOptions::default() };
    let writer = Writer {
        served: budgets,
        name: &name,
        subresource: "status",
        ..call.writer(&write, "UpdateOptions")
    };
    let make = |budget: &Value| spend(budget, &call.info.name);
    writer.update(&Change { make: &make, managed: false, whole: false }).await?;
    Ok(())
}

/// The budget with one disruption less.
fn spend(budget: &Value, pod: &str) -> Result<Value, Status> {
    let name = meta::text(budget, "name");
    let status = &budget["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let refuse = |retry_after, why: String| {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Status::too_many_requests(message, retry_after).with_causes(vec![StatusCause {
            kind: "DisruptionBudget".to_owned(),
            message: why,
            ..StatusCause::default()
        }])
    };
    if count("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refuse(10, why));
    }
    let allowed = count("disruptionsAllowed");
    if allowed <= 0 {
        // Nobody knows when: clients that wait by themselves as long as they are told would be silent meanwhile.
        let (needs, has) = (count("desiredHealthy"), count("currentHealthy"));
        return Err(refuse(
            0,
            format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently"),
        ));
    }
    let mut budget = budget.clone();
    budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
    if !budget["status"]["disruptedPods"].is_object() {
        budget["status"]["disruptedPods"] = json!({});
    }
    budget["status"]["disruptedPods"][pod] = json!(meta::now());
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_spent() {
        let budget = json!({
            "metadata": {"name": "b", "generation": 1},
            "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3},
        });
        let spent = spend(&budget, "p").unwrap();
        assert_eq!(spent["status"]["disruptionsAllowed"], 0);
        assert!(spent["status"]["disruptedPods"]["p"].is_string());
        let refused = spend(&spent, "q").unwrap_err();
        assert_eq!((refused.code, refused.details.unwrap_or_default().retry_after_seconds), (429, 0));
    }
}
