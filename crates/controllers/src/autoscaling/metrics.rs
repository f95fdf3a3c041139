//! Asks for metrics: the APIs that metrics servers and adapters register with the API server.

use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Request};
use serde_json::Value;

use super::ratio::{Sample, Samples};
use api::quantity::Quantity;

/// What an adapter that does not say is taken to have averaged over.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Which metric, as the autoscaler names it.
pub struct Metric<'a> {
    pub name: &'a str,
    /// Labels that narrow the metric, in the form of a query.
    pub selector: String,
}

async fn get(client: &kube::Client, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
    let mut uri = path.to_owned();
    let mut separator = '?';
    for (key, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        uri.push(separator);
        uri.push_str(&format!("{key}={}", escape(value)));
        separator = '&';
    }
    // A read as kube makes it, of a path that it does not know.
    let mut request = Request::new("/").list(&ListParams::default()).map_err(|error| error.to_string())?;
    *request.uri_mut() = uri.parse().map_err(|error| format!("{uri:?} is no path: {error}"))?;
    client.request(request).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    })
}

/// Percent-encodes all but what may stand anywhere in a URL.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn milli(value: &Value) -> Option<i64> {
    Quantity::parse(value.as_str()?).ok().map(|quantity| quantity.milli_value())
}

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["items"].as_array().into_iter().flatten()
}

fn timestamp(item: &Value) -> Timestamp {
    item["timestamp"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(Timestamp::now)
}

/// What the pods use of a resource, all containers together or one of them.
pub async fn resource(
    client: &kube::Client,
    namespace: &str,
    pods: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Samples, String> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", escape(namespace));
    let answer = get(client, &path, &[("labelSelector", pods)])
        .await
        .map_err(|error| format!("unable to fetch metrics from resource metrics API: {error}"))?;
    if items(&answer).next().is_none() {
        return Err("no metrics returned from resource metrics API".to_owned());
    }
    Ok(items(&answer).filter_map(|item| of_pod(item, resource, container)).collect())
}

/// A pod of which one container is not measured is not known.
fn of_pod(item: &Value, resource: &str, container: Option<&str>) -> Option<(String, Sample)> {
    let containers = item["containers"].as_array()?.iter();
    let mut asked = containers.filter(|told| container.is_none_or(|name| told["name"] == name)).peekable();
    asked.peek()?;
    let used: Option<Vec<i64>> = asked.map(|told| milli(&told["usage"][resource])).collect();
    let window = item["window"].as_str().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_WINDOW);
    let sample =
        Sample { milli: used?.into_iter().fold(0, i64::saturating_add), timestamp: timestamp(item), window };
    Some((item["metadata"]["name"].as_str()?.to_owned(), sample))
}

/// A metric that adapters have for each of the pods.
pub async fn of_pods(
    client: &kube::Client,
    namespace: &str,
    pods: &str,
    metric: &Metric<'_>,
) -> Result<Samples, String> {
    let path = format!("{}/pods/*/{}", custom(namespace), escape(metric.name));
    let query = [("labelSelector", pods), ("metricLabelSelector", &metric.selector)];
    let answer = get(client, &path, &query).await.map_err(custom_error)?;
    let samples: Samples = items(&answer)
        .filter_map(|item| {
            let window = item["windowSeconds"].as_i64().map_or(DEFAULT_WINDOW, SignedDuration::from_secs);
            let sample = Sample { milli: milli(&item["value"])?, timestamp: timestamp(item), window };
            Some((item["describedObject"]["name"].as_str()?.to_owned(), sample))
        })
        .collect();
    if samples.is_empty() {
        return Err("no metrics returned from custom metrics API".to_owned());
    }
    Ok(samples)
}

/// A metric of one object; `resource` is its `plural.group`.
pub async fn of_object(
    client: &kube::Client,
    namespace: &str,
    resource: &str,
    name: &str,
    metric: &Metric<'_>,
) -> Result<i64, String> {
    let path = if resource == "namespaces" {
        format!("{}/metrics/{}", custom(name), escape(metric.name))
    } else {
        format!("{}/{}/{}/{}", custom(namespace), escape(resource), escape(name), escape(metric.name))
    };
    let answer =
        get(client, &path, &[("metricLabelSelector", &metric.selector)]).await.map_err(custom_error)?;
    let value = items(&answer).next().and_then(|item| milli(&item["value"]));
    value.ok_or_else(|| "no metrics returned from custom metrics API".to_owned())
}

fn custom(namespace: &str) -> String {
    format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}", escape(namespace))
}

fn custom_error(error: String) -> String {
    format!("unable to fetch metrics from custom metrics API: {error}")
}

/// A metric of something outside of the cluster; several values count together.
pub async fn external(client: &kube::Client, namespace: &str, metric: &Metric<'_>) -> Result<i64, String> {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}",
        escape(namespace),
        escape(metric.name)
    );
    let answer = get(client, &path, &[("labelSelector", &metric.selector)])
        .await
        .map_err(|error| format!("unable to fetch metrics from external metrics API: {error}"))?;
    let values: Vec<i64> = items(&answer).filter_map(|item| milli(&item["value"])).collect();
    if values.is_empty() {
        return Err("no metrics returned from external metrics API".to_owned());
    }
    Ok(values.into_iter().fold(0, i64::saturating_add))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples_of_containers_add_up() {
        let item = json!({"metadata": {"name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "1m30s", "containers": [
            {"name": "a", "usage": {"cpu": "250m", "memory": "1Ki"}}, {"name": "b", "usage": {"cpu": "1000000n"}}]});
        let check = |resource: &str, container: Option<&str>, expected: Option<i64>| {
            assert_eq!(of_pod(&item, resource, container).map(|(_, sample)| sample.milli), expected);
        };
        check("cpu", None, Some(251));
        check("cpu", Some("a"), Some(250));
        check("memory", Some("a"), Some(1_024_000));
        check("memory", None, None);
        check("cpu", Some("c"), None);
        assert_eq!(of_pod(&item, "cpu", None).unwrap().1.window, SignedDuration::from_secs(90));
    }

    #[test]
    fn nothing_in_a_name_is_a_path() {
        assert_eq!(escape("a/../b?c=d e"), "a%2F..%2Fb%3Fc%3Dd%20e");
    }
}
