//! How fast a recommendation may be followed: stabilization windows and scaling policies. Free of IO.

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler};

const DEFAULT_TOLERANCE: f64 = 0.1;
/// Beyond this no window looks back.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_mins(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    Pods,
    Percent,
}

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub unit: Unit,
    pub value: i32,
    pub period: SignedDuration,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Select {
    /// The one that changes most.
    Max,
    /// The one that changes least.
    Min,
    /// None: this direction is closed.
    Disabled,
}

#[derive(Clone, Debug)]
pub struct Direction {
    pub window: SignedDuration,
    pub select: Select,
    pub policies: Vec<Policy>,
    pub tolerance: f64,
}

#[derive(Clone, Debug)]
pub struct Rules {
    pub up: Direction,
    pub down: Direction,
}

fn policy(unit: Unit, value: i32) -> Policy {
    Policy { unit, value, period: SignedDuration::from_secs(15) }
}

impl Rules {
    pub fn of(hpa: &HorizontalPodAutoscaler) -> Self {
        let behavior = hpa.spec.behavior.as_ref();
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
        Self {
            up: Direction::of(up, 0, vec![policy(Unit::Pods, 4), policy(Unit::Percent, 100)]),
            down: Direction::of(down, 300, vec![policy(Unit::Percent, 100)]),
        }
    }
}

impl Direction {
    fn of(told: Option<&HPAScalingRules>, window: i32, policies: Vec<Policy>) -> Self {
        let window = told.and_then(|told| told.stabilization_window_seconds).unwrap_or(window);
        let tolerance = told.and_then(|told| told.tolerance.as_ref());
        let tolerance = tolerance.and_then(|text| Quantity::parse(&text.0).ok());
        let given = told.and_then(|told| told.policies.as_ref()).filter(|policies| !policies.is_empty());
        Self {
            window: SignedDuration::from_secs(i64::from(window)).min(LONGEST_WINDOW),
            select: match told.and_then(|told| told.select_policy.as_deref()) {
                Some("Min") => Select::Min,
                Some("Disabled") => Select::Disabled,
                _ => Select::Max,
            },
            policies: given.map_or(policies, |given| given.iter().map(Policy::from).collect()),
            tolerance: tolerance
                .map_or(DEFAULT_TOLERANCE, |tolerance| tolerance.milli_value() as f64 / 1000.0),
        }
    }
}

impl From<&HPAScalingPolicy> for Policy {
    fn from(told: &HPAScalingPolicy) -> Self {
        Self {
            unit: if told.type_ == "Percent" { Unit::Percent } else { Unit::Pods },
            value: told.value,
            period: SignedDuration::from_secs(i64::from(told.period_seconds)),
        }
    }
}

/// What an autoscaler remembers: recommendations, and changes of size (negative when it shrank).
#[derive(Clone, Debug, Default)]
pub struct History {
    recommendations: Vec<(Timestamp, i32)>,
    changes: Vec<(Timestamp, i32)>,
}

#[derive(Debug, PartialEq)]
pub struct Stabilized {
    pub replicas: i32,
    recommended: i32,
}

impl Stabilized {
    /// Reason and message for `AbleToScale`.
    pub fn condition(&self) -> (&'static str, bool, &'static str, &'static str) {
        let (reason, message) = match self.replicas.cmp(&self.recommended) {
            std::cmp::Ordering::Less => (
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            ),
            std::cmp::Ordering::Greater => (
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            ),
            std::cmp::Ordering::Equal => ("ReadyForNewScale", "recommended size matches current size"),
        };
        ("AbleToScale", true, reason, message)
    }
}

/// Why a recommendation is not followed to the end.
#[expect(clippy::enum_variant_names, reason = "they are the reasons that conditions tell")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    None,
    ScaleUpLimit,
    ScaleDownLimit,
    TooManyReplicas,
    TooFewReplicas,
}

#[derive(Debug, PartialEq)]
pub struct Limited {
    pub replicas: i32,
    pub by: Limit,
}

impl History {
    pub fn scaled(&mut self, change: i32, now: Timestamp) {
        self.changes.retain(|(time, _)| now.duration_since(*time) <= LONGEST_WINDOW);
        self.changes.push((now, change));
    }

    /// Never above the lowest recommendation of the window for growing, nor below the highest of that for shrinking.
    pub fn stabilize(&mut self, rules: &Rules, current: i32, recommended: i32, now: Timestamp) -> Stabilized {
        let (mut lowest, mut highest) = (recommended, recommended);
        self.recommendations.retain(|(time, _)| now.duration_since(*time) <= LONGEST_WINDOW);
        if self.recommendations.is_empty() {
            // What there is at the first look is as good as recommended: nothing jumps at a restart.
            self.recommendations.push((now, current));
        }
        for &(time, replicas) in &self.recommendations {
            let age = now.duration_since(time);
            if age <= rules.up.window && !rules.up.window.is_zero() {
                lowest = lowest.min(replicas);
            }
            if age <= rules.down.window && !rules.down.window.is_zero() {
                highest = highest.max(replicas);
            }
        }
        self.recommendations.push((now, recommended));
        let mut replicas = current;
        replicas = replicas.max(lowest).min(highest);
        Stabilized { replicas, recommended }
    }

    fn changed(&self, period: SignedDuration, now: Timestamp) -> i32 {
        let recent = self.changes.iter().filter(|(time, _)| now.duration_since(*time) <= period);
        recent.map(|(_, change)| *change).sum()
    }

    /// Holds a size within the policies and within `bounds`.
    pub fn limit(
        &self,
        rules: &Rules,
        current: i32,
        desired: i32,
        bounds: (i32, i32),
        now: Timestamp,
    ) -> Limited {
        let (least, most) = bounds;
        if desired > current {
            let fastest = self.fastest_growth(&rules.up, current, now).max(current);
            let (allowed, by) =
                if most > fastest { (fastest, Limit::ScaleUpLimit) } else { (most, Limit::TooManyReplicas) };
            if desired > allowed {
                return Limited { replicas: allowed, by };
            }
        } else if desired < current {
            let fastest = self.fastest_shrinking(&rules.down, current, now).min(current);
            let (allowed, by) = if least < fastest {
                (fastest, Limit::ScaleDownLimit)
            } else {
                (least, Limit::TooFewReplicas)
            };
            if desired < allowed {
                return Limited { replicas: allowed, by };
            }
        }
        Limited { replicas: desired, by: Limit::None }
    }

    fn fastest_growth(&self, rules: &Direction, current: i32, now: Timestamp) -> i32 {
        let targets = rules.policies.iter().map(|policy| {
            let start = current - self.changed(policy.period, now);
            match policy.unit {
                Unit::Pods => start.saturating_add(policy.value),
                Unit::Percent => whole((f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil()),
            }
        });
        match rules.select {
            Select::Disabled => current,
            Select::Max => targets.max().unwrap_or(current),
            Select::Min => targets.min().unwrap_or(current),
        }
    }

    fn fastest_shrinking(&self, rules: &Direction, current: i32, now: Timestamp) -> i32 {
        let targets = rules.policies.iter().map(|policy| {
            let start = current - self.changed(policy.period, now);
            match policy.unit {
                Unit::Pods => start.saturating_sub(policy.value),
                Unit::Percent => whole((f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)).trunc()),
            }
        });
        match rules.select {
            Select::Disabled => current,
            Select::Max => targets.min().unwrap_or(current),
            Select::Min => targets.max().unwrap_or(current),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and sizes are far below the limits")]
fn whole(number: f64) -> i32 {
    number as i32
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(behavior: Value) -> Rules {
        let hpa = serde_json::from_value(json!({"metadata": {}, "spec": {"maxReplicas": 100,
            "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "behavior": behavior}}))
        .unwrap();
        Rules::of(&hpa)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn policies_bound_the_speed() {
        let check = |behavior: Value,
                     changes: &[(i64, i32)],
                     current: i32,
                     desired: i32,
                     expected: i32,
                     by: Limit| {
            let mut history = History::default();
            changes.iter().for_each(|(time, change)| history.scaled(*change, at(*time)));
            let found = history.limit(&rules(behavior.clone()), current, desired, (1, 50), at(1000));
            assert_eq!(found, Limited { replicas: expected, by }, "{behavior} {current} -> {desired}");
        };
        let default = || json!({});
        check(default(), &[], 1, 10, 5, Limit::ScaleUpLimit);
        check(default(), &[], 10, 15, 15, Limit::None);
        check(default(), &[], 10, 90, 20, Limit::ScaleUpLimit);
        check(default(), &[], 40, 90, 50, Limit::TooManyReplicas);
        check(default(), &[(995, 10)], 20, 90, 20, Limit::ScaleUpLimit);
        check(default(), &[(900, 10)], 20, 90, 40, Limit::ScaleUpLimit);
        check(default(), &[], 20, 0, 1, Limit::TooFewReplicas);
        let slow = json!({"scaleDown": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60},
            {"type": "Percent", "value": 50, "periodSeconds": 60}], "selectPolicy": "Min"}});
        check(slow.clone(), &[], 20, 1, 18, Limit::ScaleDownLimit);
        check(slow, &[(960, -2)], 18, 1, 18, Limit::ScaleDownLimit);
        let closed = json!({"scaleDown": {"selectPolicy": "Disabled"}});
        check(closed, &[], 20, 1, 20, Limit::ScaleDownLimit);
    }

    #[test]
    fn windows_smooth_recommendations() {
        let mut history = History::default();
        let rules = rules(json!({}));
        let mut look = |time: i64, current: i32, recommended: i32| {
            let found = history.stabilize(&rules, current, recommended, at(time));
            (found.replicas, found.condition().2)
        };
        assert_eq!(look(0, 5, 8), (8, "ReadyForNewScale"), "growing waits for nothing");
        assert_eq!(look(15, 8, 3), (8, "ScaleDownStabilized"));
        assert_eq!(look(290, 8, 3), (8, "ScaleDownStabilized"));
        assert_eq!(look(320, 8, 3), (3, "ReadyForNewScale"), "the window has passed");
    }

    #[test]
    fn tolerance_can_be_set() {
        assert_eq!(rules(json!({})).up.tolerance, 0.1);
        let rules = rules(json!({"scaleUp": {"tolerance": "50m"}}));
        assert_eq!((rules.up.tolerance, rules.down.tolerance), (0.05, 0.1));
    }
}
