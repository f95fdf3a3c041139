//! Measurements, under the names that CoreDNS has given them: dashboards and alerts know those.
//!
//! Labels are what CoreDNS has with the configuration that clusters usually give it: one server for all zones.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serving::plain::{self, Asked, Page};
use tokio_util::sync::CancellationToken;

use crate::wire::{self, Query, Transport, code, kind};

const SERVER: &str = "dns://:53";
const ZONE: &str = ".";

/// Who has found the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Plugin {
    Kubernetes,
    Cache,
    Forward,
}

impl Plugin {
    const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Cache => "cache",
            Self::Forward => "forward",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
    proto: &'static str,
    family: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
    rcode: &'static str,
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Server {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
}

const THE_SERVER: Server = Server { server: SERVER, zone: ZONE, view: "" };

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sizes {
    server: &'static str,
    zone: &'static str,
    view: &'static str,
    proto: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cached {
    server: &'static str,
    r#type: &'static str,
    zones: &'static str,
    view: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asking {
    server: &'static str,
    zones: &'static str,
    view: &'static str,
}

const ASKING: Asking = Asking { server: SERVER, zones: ZONE, view: "" };

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exchange {
    proxy_name: &'static str,
    to: String,
    rcode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToWith {
    to: String,
    rcode: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    // From far below what CoreDNS counts from: most answers here take microseconds.
    Histogram::new([0.000_01, 0.000_05, 0.000_1].into_iter().chain(exponential_buckets(0.000_25, 2.0, 16)))
}

fn bytes() -> Histogram {
    Histogram::new([
        0.0, 100.0, 200.0, 300.0, 400.0, 511.0, 1023.0, 2047.0, 4095.0, 8291.0, 16e3, 32e3, 48e3, 64e3,
    ])
}

/// The measurements of one resolver. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    requests: Family<Request, Counter>,
    durations: Histograms<Server>,
    request_sizes: Histograms<Sizes>,
    response_sizes: Histograms<Sizes>,
    signed: Family<Server, Counter>,
    responses: Family<Response, Counter>,
    cache_asked: Family<Asking, Counter>,
    cache_hits: Family<Cached, Counter>,
    cache_misses: Family<Asking, Counter>,
    cache_entries: Family<Cached, Gauge<i64, AtomicI64>>,
    forwarded: Family<To, Counter>,
    forwarded_answers: Family<ToWith, Counter>,
    forward_durations: Histograms<ToWith>,
    exchange_durations: Histograms<Exchange>,
    too_many: Counter,
    panics: Counter,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Inner {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            request_sizes: Family::new_with_constructor(bytes),
            response_sizes: Family::new_with_constructor(bytes),
            signed: Family::default(),
            responses: Family::default(),
            cache_asked: Family::default(),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            cache_entries: Family::default(),
            forwarded: Family::default(),
            forwarded_answers: Family::default(),
            forward_durations: Family::new_with_constructor(seconds),
            exchange_durations: Family::new_with_constructor(seconds),
            too_many: Counter::default(),
            panics: Counter::default(),
        }))
    }
}

impl Metrics {
    /// A client's question has been answered.
    pub fn answered(&self, query: &Query, asked: &Asker, answer: &[u8], plugin: Plugin) {
        let m = &self.0;
        let proto = match asked.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        m.requests
            .get_or_create(&Request {
                server: SERVER,
                zone: ZONE,
                view: "",
                proto,
                family: if asked.client.is_ipv4() { "1" } else { "2" },
                r#type: type_name(query.kind),
            })
            .inc();
        if query.edns.is_some_and(|edns| edns.dnssec) {
            m.signed.get_or_create(&THE_SERVER).inc();
        }
        m.durations.get_or_create(&THE_SERVER).observe(asked.since.elapsed().as_secs_f64());
        let sizes = Sizes { server: SERVER, zone: ZONE, view: "", proto };
        m.request_sizes.get_or_create(&sizes).observe(asked.length as f64);
        m.response_sizes.get_or_create(&sizes).observe(answer.len() as f64);
        let rcode = code_name(wire::code_of(answer));
        let response = Response { server: SERVER, zone: ZONE, view: "", rcode, plugin: plugin.name() };
        m.responses.get_or_create(&response).inc();
    }

    /// The cache has been asked.
    pub fn looked_up(&self, answer: Option<&[u8]>) {
        let m = &self.0;
        m.cache_asked.get_or_create(&ASKING).inc();
        match answer {
            Some(answer) => {
                let r#type = if wire::denies(answer) { "denial" } else { "success" };
                m.cache_hits.get_or_create(&Cached { server: SERVER, r#type, zones: ZONE, view: "" }).inc();
            }
            None => {
                m.cache_misses.get_or_create(&ASKING).inc();
            }
        }
    }

    /// So many answers are remembered.
    pub fn remembered(&self, count: usize) {
        let label = Cached { server: SERVER, r#type: "success", zones: ZONE, view: "" };
        self.0.cache_entries.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Another resolver has answered.
    pub fn forwarded(&self, to: SocketAddr, rcode: u16, took: Duration) {
        let m = &self.0;
        let (to, rcode, took) = (to.to_string(), code_name(rcode), took.as_secs_f64());
        m.forwarded.get_or_create(&To { to: to.clone() }).inc();
        let with = ToWith { to: to.clone(), rcode };
        m.forwarded_answers.get_or_create(&with).inc();
        m.forward_durations.get_or_create(&with).observe(took);
        m.exchange_durations.get_or_create(&Exchange { proxy_name: "forward", to, rcode }).observe(took);
    }

    /// A question was not passed on, because too many are.
    pub fn refused(&self) {
        self.0.too_many.inc();
    }

    fn text(&self) -> String {
        let mut registry = Registry::default();
        let m = &*self.0;
        let all = registry.sub_registry_with_prefix("coredns");
        let built = Info::new([
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", "corten"),
            ("goversion", "none"),
        ]);
        all.register("build", "What answers here", built);
        all.register("panics", "Always 0", m.panics.clone());
        all.register("dns_requests", "Questions of clients", m.requests.clone());
        all.register("dns_request_duration_seconds", "From a question to its answer", m.durations.clone());
        all.register("dns_request_size_bytes", "Length of questions", m.request_sizes.clone());
        all.register("dns_response_size_bytes", "Length of answers", m.response_sizes.clone());
        all.register("dns_do_requests", "Questions that ask for signatures", m.signed.clone());
        all.register("dns_responses", "Answers to clients", m.responses.clone());
        all.register("cache_requests", "Questions to the cache", m.cache_asked.clone());
        all.register("cache_hits", "Answers from the cache", m.cache_hits.clone());
        all.register("cache_misses", "What was not in the cache", m.cache_misses.clone());
        all.register("cache_entries", "Answers in the cache", m.cache_entries.clone());
        all.register("forward_requests", "Questions passed on", m.forwarded.clone());
        all.register("forward_responses", "Answers of other resolvers", m.forwarded_answers.clone());
        all.register(
            "forward_request_duration_seconds",
            "How long other resolvers took",
            m.forward_durations.clone(),
        );
        all.register("forward_max_concurrent_rejects", "Questions not passed on", m.too_many.clone());
        all.register(
            "proxy_request_duration_seconds",
            "How long other resolvers took",
            m.exchange_durations.clone(),
        );
        exposition::text(&registry)
    }
}

/// A client and its question, on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub client: std::net::IpAddr,
    pub transport: Transport,
    pub length: usize,
    pub since: std::time::Instant,
}

impl Asker {
    pub fn new(client: std::net::IpAddr, transport: Transport, length: usize) -> Self {
        Self { client, transport, length, since: std::time::Instant::now() }
    }
}

/// Serves `/metrics` until `shutdown`; without, where the port is taken.
pub(crate) async fn serve(address: SocketAddr, metrics: Metrics, shutdown: CancellationToken) {
    let listener = match serving::tls::listen(address).await {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%error, "no metrics of the cluster DNS"),
    };
    let page = move |asked: Asked<'_>| match asked.path {
        "/metrics" => Page::text(200, metrics.text()),
        _ => Page::not_found(),
    };
    plain::serve(listener, shutdown, page).await;
}

const fn type_name(of: u16) -> &'static str {
    match of {
        kind::A => "A",
        kind::AAAA => "AAAA",
        kind::CNAME => "CNAME",
        kind::NS => "NS",
        kind::PTR => "PTR",
        kind::SOA => "SOA",
        kind::SRV => "SRV",
        kind::TXT => "TXT",
        kind::ANY => "ANY",
        15 => "MX",
        35 => "NAPTR",
        43 => "DS",
        48 => "DNSKEY",
        65 => "HTTPS",
        _ => "other",
    }
}

const fn code_name(of: u16) -> &'static str {
    match of {
        code::NO_ERROR => "NOERROR",
        code::FORMAT => "FORMERR",
        code::SERVER_FAILURE => "SERVFAIL",
        code::NO_SUCH_NAME => "NXDOMAIN",
        code::NOT_IMPLEMENTED => "NOTIMP",
        code::REFUSED => "REFUSED",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Answer;

    #[test]
    fn names_are_those_that_dashboards_use() {
        let metrics = Metrics::default();
        let packet = wire::ask(1, "a.example", kind::AAAA);
        let query = wire::parse(&packet).expect("question");
        let answer = Answer::new(&query, code::NO_SUCH_NAME, true, Transport::Udp).finish();
        let asker = Asker::new([127, 0, 0, 1].into(), Transport::Udp, packet.len());
        metrics.answered(&query, &asker, &answer, Plugin::Kubernetes);
        metrics.looked_up(Some(&answer));
        metrics.looked_up(None);
        metrics.remembered(3);
        let to = "192.0.2.1:53".parse().expect("address");
        metrics.forwarded(to, code::NO_ERROR, Duration::from_millis(3));
        let text = metrics.text();
        let server = r#"server="dns://:53",zone=".",view="""#;
        let cache = r#"server="dns://:53",type="#;
        for line in [
            format!(r#"coredns_dns_requests_total{{{server},proto="udp",family="1",type="AAAA"}} 1"#),
            format!(r#"coredns_dns_responses_total{{{server},rcode="NXDOMAIN",plugin="kubernetes"}} 1"#),
            format!("coredns_dns_request_duration_seconds_count{{{server}}} 1"),
            format!(r#"coredns_cache_hits_total{{{cache}"denial",zones=".",view=""}} 1"#),
            format!(r#"coredns_cache_entries{{{cache}"success",zones=".",view=""}} 3"#),
            r#"coredns_cache_misses_total{server="dns://:53",zones=".",view=""} 1"#.to_owned(),
            r#"coredns_forward_requests_total{to="192.0.2.1:53"} 1"#.to_owned(),
            "coredns_forward_max_concurrent_rejects_total 0".to_owned(),
            "coredns_panics_total 0".to_owned(),
            "coredns_build_info{".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
