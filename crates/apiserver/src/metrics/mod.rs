//! What the server counts, under upstream's names.

pub mod admission;
mod process;

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::request::RequestInfo;
use crate::state::State;
use admission::Admission;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: &'static str,
    component: &'static str,
}

/// Those that last, such as watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lasting {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
    lasting: Family<Lasting, Gauge>,
    pub admission: Admission,
}

/// What of a request is not in its attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    pub dry_run: bool,
    /// Server-side apply.
    pub applies: bool,
}

/// A request that lasts, for as long as this is held.
pub struct Going(Gauge);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register(
            // The encoder adds `_total`.
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, scope, and HTTP response code",
            requests.clone(),
        );
        let durations: Family<Timed, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
            ])
        });
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope",
            durations.clone(),
        );
        let lasting = Family::default();
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component",
            lasting.clone(),
        );
        let admission = Admission::new(&mut registry);
        Self { registry, requests, durations, lasting, admission }
    }
}

impl Metrics {
    /// A request has been answered.
    pub fn answered(&self, info: &RequestInfo, manner: Manner, code: u16, took: Duration) {
        // What does not exist is not counted by name: clients could make up any number of them.
        let named = info.is_resource && code != 404 && code != 403;
        let label = |text: &str| if named { text.to_owned() } else { String::new() };
        let timed = Timed {
            verb: verb(info, manner),
            group: label(&info.group),
            version: label(&info.version),
            resource: label(&info.resource),
            subresource: label(&info.subresource),
            scope: scope(info),
            dry_run: if manner.dry_run { "All" } else { "" },
            component: COMPONENT,
        };
        if !info.is_long_running() {
            self.durations.get_or_create(&timed).observe(took.as_secs_f64());
        }
        let Timed { verb, group, version, resource, subresource, scope, dry_run, component } = timed;
        let request =
            Request { verb, group, version, resource, subresource, scope, dry_run, component, code };
        self.requests.get_or_create(&request).inc();
    }

    /// A request that lasts has begun.
    pub fn lasts(&self, info: &RequestInfo) -> Going {
        let gauge = self.lasting.get_or_create_owned(&Lasting {
            verb: verb(info, Manner::default()),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope: scope(info),
            component: COMPONENT,
        });
        gauge.inc();
        Going(gauge)
    }

    /// The Prometheus text.
    pub fn text(&self, state: &State) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        if let Some(end) = text.rfind("# EOF") {
            text.truncate(end);
        }
        if state.config.priority_and_fairness {
            text.push_str(&state.flow_control.metrics());
        }
        text.push_str(&state.authenticator.metrics());
        if let Some(audit) = &state.audit {
            text.push_str(&audit.metrics());
        }
        let (reading, writing) = state.in_flight.now();
        let _ = writeln!(
            text,
            "# HELP apiserver_current_inflight_requests Maximal number of currently used inflight request limit of this apiserver per request kind in last second\n\
             # TYPE apiserver_current_inflight_requests gauge\n\
             apiserver_current_inflight_requests{{request_kind=\"readOnly\"}} {reading}\n\
             apiserver_current_inflight_requests{{request_kind=\"mutating\"}} {writing}\n\
             # HELP apiserver_storage_objects Number of stored objects at the time of last check split by kind\n\
             # TYPE apiserver_storage_objects gauge"
        );
        let resources = state.caches.resources();
        let mut counts: Vec<(String, usize)> = resources
            .iter()
            .flat_map(|(group, of_group)| of_group.iter().map(move |(plural, cache)| (group, plural, cache)))
            .map(|(group, plural, cache)| {
                let name = if group.is_empty() { plural.to_string() } else { format!("{plural}.{group}") };
                (name, cache.len())
            })
            .collect();
        counts.sort();
        for (name, count) in &counts {
            let _ = writeln!(text, "apiserver_storage_objects{{resource={name:?}}} {count}");
        }
        text.push_str(
            "# HELP apiserver_resource_objects Number of stored objects at the time of last check split by kind\n\
             # TYPE apiserver_resource_objects gauge\n",
        );
        for (name, count) in &counts {
            let (resource, group) = name.split_once('.').unwrap_or((name, ""));
            let _ =
                writeln!(text, "apiserver_resource_objects{{group={group:?},resource={resource:?}}} {count}");
        }
        let version = crate::server::version();
        let of = |field: &str| version[field].as_str().unwrap_or_default();
        let _ = writeln!(
            text,
            "# HELP kubernetes_build_info A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.\n\
             # TYPE kubernetes_build_info gauge\n\
             kubernetes_build_info{{build_date={:?},compiler={:?},git_commit={:?},git_tree_state={:?},git_version={:?},go_version={:?},major={:?},minor={:?},platform={:?}}} 1",
            of("buildDate"),
            of("compiler"),
            of("gitCommit"),
            of("gitTreeState"),
            of("gitVersion"),
            of("goVersion"),
            of("major"),
            of("minor"),
            of("platform"),
        );
        text.push_str(&process::text());
        text
    }
}

/// Upstream's other server of the same process calls itself something else.
const COMPONENT: &str = "apiserver";

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

/// Known verbs only.
fn verb(info: &RequestInfo, manner: Manner) -> String {
    match info.verb.as_str() {
        "patch" if manner.applies => "APPLY".to_owned(),
        _ if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") => {
            "CONNECT".to_owned()
        }
        "deletecollection" => "DELETECOLLECTION".to_owned(),
        "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "post" | "put" | "head"
        | "options" => match info.verb.as_str() {
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            verb => verb.to_ascii_uppercase(),
        },
        _ => "other".to_owned(),
    }
}
