//! All metrics of one autoscaler: each is asked for and judged by itself, and the one that calls for the most replicas
//! wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use api::selector::LabelSelector;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::behavior::Rules;
use super::metrics::{self, Metric};
use super::ratio::{self, PerPod, Samples, Tolerance};
use super::status::{Conditions, Current, metric_status};
use crate::kit::{World, meta, pods};

/// What all metrics together call for.
pub struct Evaluation {
    pub replicas: i32,
    /// The metric that decides.
    pub metric: String,
    pub statuses: Vec<MetricStatus>,
    /// Metrics that could not be had, while the others suffice: reason and message.
    pub problems: Vec<(&'static str, String)>,
}

/// Why no size can be told.
pub struct Refusal {
    pub message: String,
    /// The metrics that could not be had.
    pub problems: Vec<(&'static str, String)>,
}

/// The workload as it is now.
pub struct Target<'a> {
    world: &'a World,
    hpa: &'a HorizontalPodAutoscaler,
    selector: &'a str,
    replicas: i32,
    told_replicas: i32,
    tolerance: Tolerance,
}

/// What one metric calls for.
struct Judged {
    replicas: i32,
    name: String,
    current: Current,
}

impl<'a> Target<'a> {
    pub fn new(world: &'a World, hpa: &'a HorizontalPodAutoscaler, scale: &'a Scale, rules: &Rules) -> Self {
        let status = scale.status.as_ref();
        Self {
            world,
            hpa,
            selector: status.and_then(|status| status.selector.as_deref()).unwrap_or_default(),
            replicas: scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0),
            told_replicas: status.map_or(0, |status| status.replicas),
            tolerance: Tolerance::of(rules),
        }
    }

    pub async fn evaluate(
        &self,
        client: &kube::Client,
        conditions: &mut Conditions,
    ) -> Result<Evaluation, Refusal> {
        let selector = self
            .parse_selector()
            .inspect_err(|message| {
                conditions.set("ScalingActive", false, "InvalidSelector", message.clone());
            })
            .map_err(|message| Refusal { message, problems: Vec::new() })?;
        let mut pods = self.world.pods.by_namespace(meta::namespace(self.hpa));
        pods.retain(|pod| {
            let none = meta::Labels::new();
            selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none))
        });

        let specs = self.hpa.spec.metrics.as_deref().unwrap_or_default();
        let mut best: Option<Judged> = None;
        let mut statuses = Vec::new();
        let mut problems: Vec<(&'static str, String)> = Vec::new();
        for spec in specs {
            match self.judge(client, spec, &pods).await {
                Ok(judged) => {
                    statuses.push(metric_status(spec, judged.current));
                    if best.as_ref().is_none_or(|best| judged.replicas > best.replicas) {
                        best = Some(judged);
                    }
                }
                Err(error) => problems.push((failure_reason(spec), error)),
            }
        }
        // A metric that is not known might have called for more: never shrink without it.
        let refused =
            problems.first().filter(|_| best.as_ref().is_none_or(|best| best.replicas < self.replicas));
        if let Some((reason, error)) = refused {
            let message = format!("the HPA was unable to compute the replica count: {error}");
            conditions.set("ScalingActive", false, reason, message);
            let failed = specs.iter().find(|spec| failure_reason(spec) == *reason).map(what_failed);
            let message = format!(
                "invalid metrics ({} invalid out of {}), first error is: {}: {error}",
                problems.len(),
                specs.len(),
                failed.unwrap_or_default(),
            );
            return Err(Refusal { message, problems });
        }
        let Some(best) = best else {
            let message = "no metrics are specified".to_owned();
            conditions.set("ScalingActive", false, "InvalidMetricSourceType", message.clone());
            return Err(Refusal { message, problems });
        };
        let message =
            format!("the HPA was able to successfully calculate a replica count from {}", best.name);
        conditions.set("ScalingActive", true, "ValidMetricFound", message);
        Ok(Evaluation { replicas: best.replicas, metric: best.name, statuses, problems })
    }

    fn parse_selector(&self) -> Result<LabelSelector, String> {
        if self.selector.is_empty() {
            return Err("the HPA target's scale is missing a selector".to_owned());
        }
        LabelSelector::parse(self.selector).map_err(|error| {
            format!("couldn't convert selector into a corresponding internal selector object: {error}")
        })
    }

    async fn judge(
        &self,
        client: &kube::Client,
        spec: &MetricSpec,
        pods: &[Arc<Pod>],
    ) -> Result<Judged, String> {
        if let Some(source) = &spec.resource {
            let judged = self.by_resource(client, pods, &source.name, None, &source.target).await;
            judged
                .map_err(|error| format!("failed to get {}: {error}", aimed_at(&source.name, &source.target)))
        } else if let Some(source) = &spec.container_resource {
            let (name, container) = (&source.name, Some(&*source.container));
            let judged = self.by_resource(client, pods, name, container, &source.target).await;
            judged.map_err(|error| format!("failed to get {}: {error}", aimed_at(name, &source.target)))
        } else if let Some(source) = &spec.pods {
            let metric = metric(&source.metric);
            let samples = metrics::of_pods(client, meta::namespace(self.hpa), self.selector, &metric)
                .await
                .map_err(|error| format!("unable to get metric {}: {error}", metric.name))?;
            let name = format!("pods metric {}", metric.name);
            self.by_pods(pods, samples, None, false, average(&source.target)?, name)
        } else if let Some(source) = &spec.object {
            let object = &source.described_object;
            let name = format!("{} metric {}", object.kind, source.metric.name);
            let resource = plural(object.api_version.as_deref(), &object.kind);
            let namespace = meta::namespace(self.hpa);
            let value =
                metrics::of_object(client, namespace, &resource, &object.name, &metric(&source.metric))
                    .await
                    .map_err(|error| {
                        let (metric, kind) = (&source.metric.name, &object.kind);
                        format!(
                            "unable to get metric {metric}: {kind} on {namespace} {}/{error}",
                            object.name
                        )
                    })?;
            Ok(self.by_value(value, &source.target, pods, name))
        } else if let Some(source) = &spec.external {
            let name = format!("external metric {}", source.metric.name);
            let (namespace, metric) = (meta::namespace(self.hpa), metric(&source.metric));
            let value = metrics::external(client, namespace, &metric).await.map_err(|error| {
                let selector = &metric.selector;
                format!("unable to get external metric {namespace}/{}/{selector}: {error}", metric.name)
            })?;
            Ok(self.by_value(value, &source.target, pods, name))
        } else {
            Err(format!("unknown metric source type {:?}", spec.type_))
        }
    }

    async fn by_resource(
        &self,
        client: &kube::Client,
        pods: &[Arc<Pod>],
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<Judged, String> {
        let namespace = meta::namespace(self.hpa);
        let samples = metrics::resource(client, namespace, self.selector, resource, container)
            .await
            .map_err(|error| format!("unable to get metrics for resource {resource}: {error}"))?;
        let what = if container.is_some() { "container resource" } else { "resource" };
        let is_cpu = resource == "cpu";
        if target.average_value.is_some() {
            let name = format!("{resource} {what}");
            return self.by_pods(pods, samples, None, is_cpu, average(target)?, name);
        }
        let percent = target.average_utilization.ok_or("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")?;
        let requests = requests(pods, resource, container)?;
        let name = format!("{resource} {what} utilization (percentage of request)");
        self.by_pods(pods, samples, Some(requests), is_cpu, i64::from(percent), name)
    }

    fn by_pods(
        &self,
        pods: &[Arc<Pod>],
        samples: Samples,
        requests: Option<BTreeMap<String, i64>>,
        is_cpu: bool,
        target: i64,
        name: String,
    ) -> Result<Judged, String> {
        let asked = PerPod { pods, samples, requests, is_cpu, target };
        let proposal = asked.propose(self.replicas, self.tolerance, Timestamp::now())?;
        let current =
            Current { utilization: proposal.utilization, average: Some(proposal.average), value: None };
        Ok(Judged { replicas: proposal.replicas, name, current })
    }

    fn by_value(&self, value: i64, target: &MetricTarget, pods: &[Arc<Pod>], name: String) -> Judged {
        if let Some(share) = milli(target.average_value.as_ref()) {
            let replicas = ratio::of_share(value, share, self.told_replicas, self.tolerance);
            let average = value / i64::from(self.told_replicas.max(1));
            return Judged {
                replicas,
                name,
                current: Current { average: Some(average), ..Default::default() },
            };
        }
        let ready = pods.iter().filter(|pod| pods::is_ready(pod) && pods::phase(pod) == "Running").count();
        let whole = milli(target.value.as_ref()).unwrap_or(0);
        let replicas = ratio::of_value(value, whole, self.replicas, ready, self.tolerance);
        Judged { replicas, name, current: Current { value: Some(value), ..Default::default() } }
    }
}

/// What of a resource a target is about.
fn aimed_at(resource: &str, target: &MetricTarget) -> String {
    let what = if target.average_value.is_some() { "usage" } else { "utilization" };
    format!("{resource} {what}")
}

fn what_failed(spec: &MetricSpec) -> String {
    if let Some(source) = &spec.resource {
        format!("failed to get {} resource metric value", source.name)
    } else if let Some(source) = &spec.container_resource {
        format!("failed to get {} container metric value", source.name)
    } else if spec.pods.is_some() {
        "failed to get pods metric value".to_owned()
    } else if spec.object.is_some() {
        "failed to get object metric value".to_owned()
    } else {
        let name = spec.external.as_ref().map(|source| &*source.metric.name);
        format!("failed to get {} external metric value", name.unwrap_or_default())
    }
}

fn failure_reason(spec: &MetricSpec) -> &'static str {
    match spec.type_.as_str() {
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "Pods" => "FailedGetPodsMetric",
        "Object" => "FailedGetObjectMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    }
}

fn milli(text: Option<&Text>) -> Option<i64> {
    Quantity::parse(&text?.0).ok().map(|quantity| quantity.milli_value())
}

fn average(target: &MetricTarget) -> Result<i64, String> {
    milli(target.average_value.as_ref())
        .ok_or_else(|| "the metric has no average value as its target".to_owned())
}

fn metric(told: &MetricIdentifier) -> Metric<'_> {
    let selector = told.selector.as_ref().map(query).unwrap_or_default();
    Metric { name: &told.name, selector }
}

/// A label selector as a query spells it.
fn query(selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector) -> String {
    let mut parts: Vec<String> =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    for requirement in selector.match_expressions.iter().flatten() {
        let (key, values) = (&requirement.key, requirement.values.as_deref().unwrap_or_default().join(","));
        parts.push(match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        });
    }
    parts.join(",")
}

/// The `plural.group` of a kind, guessed as the API's conventions have it: the adapter knows nothing but names.
fn plural(api_version: Option<&str>, kind: &str) -> String {
    let lower = kind.to_lowercase();
    let plural = match lower.as_bytes() {
        [.., b's'] => format!("{lower}es"),
        [.., b'y'] => format!("{}ies", lower.trim_end_matches('y')),
        _ => format!("{lower}s"),
    };
    match api_version.and_then(|version| version.split_once('/')) {
        Some((group, _)) => format!("{plural}.{group}"),
        None => plural,
    }
}

/// What each pod requests of a resource, in thousandths.
fn requests(pods: &[Arc<Pod>], resource: &str, only: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let mut requests = BTreeMap::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let name = meta::name(&**pod);
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        if let Some(whole) = milli(whole.and_then(|whole| whole.get(resource))).filter(|_| only.is_none()) {
            requests.insert(name.to_owned(), whole);
            continue;
        }
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.iter().chain(sidecars);
        let mut sum = 0_i64;
        for container in containers.filter(|container| only.is_none_or(|only| container.name == only)) {
            let request = request(container, resource).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {name}", container.name)
            })?;
            sum = sum.saturating_add(request);
        }
        requests.insert(name.to_owned(), sum);
    }
    Ok(requests)
}

fn request(container: &Container, resource: &str) -> Option<i64> {
    let requests = container.resources.as_ref()?.requests.as_ref()?;
    milli(requests.get(resource))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_have_resources() {
        let check =
            |version: Option<&str>, kind: &str, expected: &str| assert_eq!(plural(version, kind), expected);
        check(Some("networking.k8s.io/v1"), "Ingress", "ingresses.networking.k8s.io");
        check(Some("v1"), "Service", "services");
        check(None, "NetworkPolicy", "networkpolicies");
    }

    #[test]
    fn every_container_must_request_what_is_compared() {
        let pod = |containers: serde_json::Value| {
            vec![Arc::new(
                serde_json::from_value::<Pod>(
                    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}),
                )
                .unwrap(),
            )]
        };
        let asks = json!({"requests": {"cpu": "100m"}});
        let both = pod(json!([{"name": "a", "resources": asks}, {"name": "b", "resources": asks}]));
        assert_eq!(requests(&both, "cpu", None).unwrap()["p"], 200);
        assert_eq!(requests(&both, "cpu", Some("b")).unwrap()["p"], 100);
        let one = pod(json!([{"name": "a", "resources": asks}, {"name": "b"}]));
        assert!(requests(&one, "cpu", None).unwrap_err().contains("missing request for cpu in container b"));
        assert!(requests(&one, "cpu", Some("a")).is_ok());
    }

    #[test]
    fn selectors_become_queries() {
        let selector = serde_json::from_value(json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]}))
        .unwrap();
        assert_eq!(query(&selector), "a=b,c in (d,e),!f");
    }
}
