//! What an autoscaler tells: conditions, and the metrics as they are now. Free of IO.

use api::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus, MetricValueStatus, ObjectMetricStatus,
    PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::behavior::{Limit, Limited};
use crate::kit::meta;

pub struct Conditions(Vec<HorizontalPodAutoscalerCondition>);

impl Conditions {
    pub fn of(hpa: &HorizontalPodAutoscaler) -> Self {
        Self(hpa.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default())
    }

    /// The time changes only with the status.
    pub fn set(&mut self, type_: &str, status: bool, reason: &str, message: String) {
        let status = if status { "True" } else { "False" };
        let old = self.0.iter().find(|condition| condition.type_ == type_ && condition.status == status);
        let since = old.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(meta::now);
        let new = HorizontalPodAutoscalerCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since),
        };
        match self.0.iter_mut().find(|condition| condition.type_ == type_) {
            Some(old) => *old = new,
            None => self.0.push(new),
        }
    }

    pub fn set_told(&mut self, (type_, status, reason, message): (&str, bool, &str, &str)) {
        self.set(type_, status, reason, message.to_owned());
    }

    pub fn into_told(self) -> Option<Vec<HorizontalPodAutoscalerCondition>> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

pub fn limit_conditions(conditions: &mut Conditions, limited: &Limited) {
    let (reason, message) = match limited.by {
        Limit::None => ("DesiredWithinRange", "the desired count is within the acceptable range"),
        Limit::ScaleUpLimit => {
            ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
        }
        Limit::ScaleDownLimit => {
            ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
        }
        Limit::TooManyReplicas => {
            ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
        }
        Limit::TooFewReplicas => {
            ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
        }
    };
    conditions.set("ScalingLimited", limited.by != Limit::None, reason, message.to_owned());
}

/// What a metric is now. Amounts are in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Current {
    pub utilization: Option<i32>,
    pub average: Option<i64>,
    pub value: Option<i64>,
}

pub fn metric_status(spec: &MetricSpec, current: Current) -> MetricStatus {
    let text = |milli: Option<i64>| milli.map(|milli| Text(Quantity::millis(milli).to_string()));
    let current = MetricValueStatus {
        average_utilization: current.utilization,
        average_value: text(current.average),
        value: text(current.value),
    };
    let mut status = MetricStatus { type_: spec.type_.clone(), ..Default::default() };
    if let Some(source) = &spec.resource {
        status.resource = Some(ResourceMetricStatus { name: source.name.clone(), current });
    } else if let Some(source) = &spec.container_resource {
        status.container_resource = Some(ContainerResourceMetricStatus {
            container: source.container.clone(),
            name: source.name.clone(),
            current,
        });
    } else if let Some(source) = &spec.pods {
        status.pods = Some(PodsMetricStatus { metric: source.metric.clone(), current });
    } else if let Some(source) = &spec.object {
        status.object = Some(ObjectMetricStatus {
            described_object: source.described_object.clone(),
            metric: source.metric.clone(),
            current,
        });
    } else if let Some(source) = &spec.external {
        status.external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
    }
    status
}
