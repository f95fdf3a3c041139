//! What the server counts, under upstream's names.

pub mod access;
pub mod admission;
mod present;
pub mod storage;

use std::time::Duration;

use exposition::{Kind, Meters, Page};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::files;
use crate::request::RequestInfo;
use crate::state::State;
use access::Access;
use admission::Admission;
use storage::Storage;

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

/// As [`Timed`], of what is not only tried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

const TERMINATIONS: &str = "apiserver_request_terminations_total";
/// Clients could make up any number of names: these meters are bounded.
const TURNED_AWAY: &[exposition::Family] = &[exposition::Family {
    name: TERMINATIONS,
    kind: Kind::Counter,
    help: "Number of requests which apiserver terminated in self-defense.",
}];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Deprecated {
    group: String,
    version: String,
    resource: String,
    subresource: String,
    removed_release: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    group: String,
    version: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
    /// Those that last, such as watches.
    lasting: Family<Served, Gauge>,
    /// Without what clients wait for by their own number.
    indicators: Family<Served, Histogram, fn() -> Histogram>,
    terminations: Meters,
    sizes: Family<Served, Histogram, fn() -> Histogram>,
    deprecated: Family<Deprecated, Gauge>,
    watched: Family<Watched, Counter>,
    translated: Family<Code, Counter>,
    tunnelled: Family<Code, Counter>,
    pub access: Access,
    pub admission: Admission,
    pub storage: Storage,
}

/// How long a request has taken, and how much of that it waited for its turn.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    pub whole: Duration,
    pub waited: Duration,
}

/// Of a whole request, as upstream has them.
fn durations() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
        15.0, 20.0, 30.0, 45.0, 60.0,
    ])
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
        let durations: Family<Timed, Histogram, fn() -> Histogram> = Family::new_with_constructor(durations);
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
        let indicators: Family<Served, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(self::durations);
        registry.register(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution (not counting priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
            indicators.clone(),
        );
        let sizes: Family<Served, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(1000.0, 10.0, 7)));
        registry.register(
            "apiserver_response_sizes",
            "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
            sizes.clone(),
        );
        let deprecated = Family::default();
        registry.register(
            "apiserver_requested_deprecated_apis",
            "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release",
            deprecated.clone(),
        );
        let watched = Family::default();
        registry.register(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            watched.clone(),
        );
        let translated = Family::default();
        registry.register(
            "apiserver_stream_translator_requests",
            "Total number of requests that were handled by the StreamTranslatorProxy, which processes streaming RemoteCommand/V5",
            translated.clone(),
        );
        let tunnelled = Family::default();
        registry.register(
            "apiserver_stream_tunnel_requests",
            "Total number of requests that were handled by the StreamTunnelProxy, which processes streaming PortForward/V2",
            tunnelled.clone(),
        );
        let access = Access::new(&mut registry);
        let admission = Admission::new(&mut registry);
        let storage = Storage::new(&mut registry);
        Self {
            registry,
            requests,
            durations,
            lasting,
            indicators,
            terminations: Meters::new(TURNED_AWAY),
            sizes,
            deprecated,
            watched,
            translated,
            tunnelled,
            access,
            admission,
            storage,
        }
    }
}

impl Metrics {
    /// A request has been answered, with so many bytes where that is known.
    pub fn answered(&self, info: &RequestInfo, manner: Manner, code: u16, took: Took, length: Option<u64>) {
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
        let whole = !info.is_long_running();
        if whole {
            self.durations.get_or_create(&timed).observe(took.whole.as_secs_f64());
        }
        // The same labels again and again: moved, not copied.
        let Timed { verb, group, version, resource, subresource, scope, dry_run, component } = timed;
        let served = Served { verb, group, version, resource, subresource, scope, component };
        if whole && !manner.dry_run {
            let worked = took.whole.saturating_sub(took.waited);
            self.indicators.get_or_create(&served).observe(worked.as_secs_f64());
            if let (Some(length), "GET" | "LIST") = (length, served.verb.as_str()) {
                self.sizes.get_or_create(&served).observe(length as f64);
            }
        }
        let Served { verb, group, version, resource, subresource, scope, component } = served;
        let request =
            Request { verb, group, version, resource, subresource, scope, dry_run, component, code };
        self.requests.get_or_create(&request).inc();
    }

    /// A request was turned away because there were too many.
    pub fn terminated(&self, info: &RequestInfo, manner: Manner, code: u16) {
        let (verb, code) = (verb(info, manner), code.to_string());
        let labels = [
            ("code", code.as_str()),
            ("component", COMPONENT),
            ("group", info.group.as_str()),
            ("resource", info.resource.as_str()),
            ("scope", scope(info)),
            ("subresource", info.subresource.as_str()),
            ("verb", verb.as_str()),
            ("version", info.version.as_str()),
        ];
        self.terminations.count(TERMINATIONS, &labels);
    }

    /// Somebody asked for what will not be there for ever.
    pub fn deprecated(&self, info: &RequestInfo) {
        let labels = Deprecated {
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            // Nothing that is served has a release in which it goes.
            removed_release: "",
        };
        self.deprecated.get_or_create(&labels).set(1);
    }

    /// To be counted up with every event that a watch is sent.
    pub fn watched(&self, info: &RequestInfo) -> Counter {
        self.watched.get_or_create_owned(&Watched {
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
        })
    }

    /// A stream was translated for a kubelet, or failed with this code.
    pub fn translated(&self, port_forward: bool, code: u16) {
        let family = if port_forward { &self.tunnelled } else { &self.translated };
        family.get_or_create(&Code { code }).inc();
    }

    /// A request that lasts has begun.
    pub fn lasts(&self, info: &RequestInfo) -> Going {
        let gauge = self.lasting.get_or_create_owned(&Served {
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
    pub async fn text(&self, state: &State) -> String {
        let mut page = Page::default();
        if state.config.priority_and_fairness {
            state.flow_control.write_metrics(&mut page);
        }
        if let Some(audit) = &state.audit {
            audit.write_metrics(&mut page);
        }
        self.terminations.write(&mut page);
        self.access.write(&mut page);
        self.admission.write(&mut page);
        state.authenticator.write_metrics(&mut page);
        files::write_metrics(&mut page);
        present::write(state, &state.store.sizes().await, &mut page);
        exposition::write_common(&mut page, &api::version::LABELS);
        exposition::text(&self.registry) + &page.text()
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
