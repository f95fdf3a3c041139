//! What the proxy tells over plain HTTP: health on port 10256, measurements and configuration on 10249.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use serving::component::version::{self, GIT_VERSION};
use serving::component::zpages::{self, Form};
use serving::plain::{self, Asked, Page};
use serving::tls::listen;
use tokio_util::sync::CancellationToken;

use crate::status::Status;
use crate::{Config, Error, Metrics};

const NAME: &str = "kube-proxy";
const PATHS: [&str; 6] = ["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode", "/statusz"];

/// Serves what `config` asks for, until `shutdown`.
pub(crate) async fn serve(
    config: &Config,
    metrics: &Metrics,
    status: &Arc<Status>,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    if let Some(address) = config.healthz {
        let (status, metrics) = (status.clone(), metrics.clone());
        let page = move |asked: Asked<'_>| match asked.path {
            "/healthz" => metrics.health_told(&metrics.healthz, status.healthz()),
            "/livez" => metrics.health_told(&metrics.livez, status.livez()),
            _ => Page::not_found(),
        };
        tokio::spawn(plain::serve(listen(address).await?, shutdown.clone(), page));
    }
    if let Some(address) = config.metrics {
        let metrics = metrics.clone();
        let configz = json!({"kubeproxy.config.k8s.io": config.shown});
        let flags = config.flags.clone();
        let started = Timestamp::now();
        let text = |body| Page::text(200, body);
        let page = move |asked: Asked<'_>| match asked.path {
            "/metrics" => text(metrics.text() + &exposition::common(&version::LABELS)),
            "/proxyMode" => text("nftables".to_owned()),
            "/healthz" => text("ok".to_owned()),
            "/configz" => Page::json(200, &configz),
            "/statusz" => zpage(&asked, "Statusz", |form| status_page(started, form)),
            "/flagz" => zpage(&asked, "Flagz", |form| flags_page(&flags, form)),
            _ => Page::not_found(),
        };
        tokio::spawn(plain::serve(listen(address).await?, shutdown.clone(), page));
    }
    Ok(())
}

fn status_page(started: Timestamp, form: &Form) -> String {
    let told = zpages::Status { name: NAME, started, version: GIT_VERSION, paths: &PATHS };
    zpages::status(&told, Timestamp::now(), form)
}

fn flags_page(flags: &BTreeMap<String, String>, form: &Form) -> String {
    zpages::flags(NAME, flags, form)
}

fn zpage(asked: &Asked<'_>, kind: &str, page: impl Fn(&Form) -> String) -> Page {
    match Form::asked(asked.accept, kind) {
        Some(Form::Text) => Page::text(200, page(&Form::Text)),
        Some(form) => Page { content_type: "application/json", ..Page::text(200, page(&form)) },
        None => Page::text(406, "Not Acceptable\n".to_owned()),
    }
}
