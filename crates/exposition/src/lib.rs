//! Metrics in Prometheus' text format, version 0.0.4: what upstream's components answer with.
//!
//! The client library writes OpenMetrics, which looks alike and names families otherwise: a counter's samples end in
//! `_total` there, its `TYPE` and `HELP` do not, so that a reader of the text format has the samples without a type.

mod health;
mod histogram;
mod meters;
mod page;
mod process;

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use health::{Asked, Check, Health};
pub use histogram::{Histogram, float};
pub use meters::{Family, Kind, Meters};
pub use page::Page;

/// What every component tells: of which build it is, by these labels, and what its process uses.
pub fn write_common(page: &mut Page, build: &[(&str, &str)]) {
    page.family(
        "kubernetes_build_info",
        "gauge",
        "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
    );
    page.sample("kubernetes_build_info", build, 1.0);
    process::write(page);
}

/// As [`write_common`], for those who have a text already.
pub fn common(build: &[(&str, &str)]) -> String {
    let mut page = Page::default();
    write_common(&mut page, build);
    page.text()
}

/// What such text is sent as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric of the registry.
pub fn text(registry: &Registry) -> String {
    let mut open_metrics = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut open_metrics, registry);
    translated(&open_metrics)
}

fn translated(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // It goes by the name that the type decides.
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some(help) = help.take() {
                // The library ends each with a full stop of its own.
                let help = help.strip_suffix("..").map_or_else(|| help.to_owned(), |help| format!("{help}."));
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn families_go_by_the_names_of_their_samples() {
        let mut registry = Registry::default();
        let count: Counter = Counter::default();
        registry.register("requests", "Counter of requests.", count.clone());
        count.inc();
        let gauge: Gauge = Gauge::default();
        registry.register_with_unit("held", "What is held", Unit::Bytes, gauge.clone());
        let histogram = Histogram::new([1.0]);
        registry.register("took_seconds", "How long it took", histogram.clone());
        histogram.observe(0.5);
        registry.register("build", "Version", Info::new([("version", "1")]));
        assert_eq!(
            text(&registry),
            "\
# HELP requests_total Counter of requests.
# TYPE requests_total counter
requests_total 1
# HELP held_bytes What is held.
# TYPE held_bytes gauge
held_bytes 0
# HELP took_seconds How long it took.
# TYPE took_seconds histogram
took_seconds_sum 0.5
took_seconds_count 1
took_seconds_bucket{le=\"1.0\"} 1
took_seconds_bucket{le=\"+Inf\"} 1
# HELP build_info Version.
# TYPE build_info gauge
build_info{version=\"1\"} 1
"
        );
    }
}
