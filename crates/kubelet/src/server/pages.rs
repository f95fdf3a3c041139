//! `/statusz` and `/flagz`.

use std::collections::BTreeMap;

use api::zpages::{self, Form};
use http::{Response, StatusCode, header};
use jiff::Timestamp;

use super::{Body, error, text};
use crate::Options;
use crate::context::Context;

const NAME: &str = "kubelet";
const PATHS: &[&str] = &[
    "/checkpoint",
    "/configz",
    "/flagz",
    "/healthz",
    "/metrics",
    "/metrics/cadvisor",
    "/metrics/probes",
    "/metrics/resource",
    "/pods",
    "/runningpods",
    "/stats/summary",
    "/statusz",
];

pub fn status(ctx: &Context, accept: Option<&str>) -> Response<Body> {
    page(accept, "Statusz", |form| {
        let told = zpages::Status {
            name: NAME,
            started: ctx.started,
            version: api::version::GIT_VERSION,
            paths: PATHS,
        };
        zpages::status(&told, Timestamp::now(), form)
    })
}

pub fn flags(ctx: &Context, accept: Option<&str>) -> Response<Body> {
    page(accept, "Flagz", |form| zpages::flags(NAME, &given(&ctx.options), form))
}

/// What the kubelet was started with, beside its configuration file: `/configz` tells what is in that.
fn given(options: &Options) -> BTreeMap<String, String> {
    let ips: Vec<String> = options.node_ips.iter().map(ToString::to_string).collect();
    let dns: Vec<String> = options.cluster_dns.iter().map(ToString::to_string).collect();
    [
        ("cert-dir", options.cert_dir.display().to_string()),
        ("client-ca-file", options.client_ca.display().to_string()),
        ("cluster-dns", dns.join(",")),
        ("cluster-domain", options.cluster_domain.clone()),
        ("container-runtime-endpoint", format!("unix://{}", options.cri_socket.display())),
        ("hostname-override", options.node_name.clone()),
        ("node-ip", ips.join(",")),
        ("port", options.listen.port().to_string()),
        ("root-dir", options.root_dir.display().to_string()),
        ("tls-cert-file", options.tls_cert.display().to_string()),
        ("tls-private-key-file", options.tls_key.display().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn page(accept: Option<&str>, kind: &str, page: impl Fn(&Form) -> String) -> Response<Body> {
    let Some(form) = Form::asked(accept, kind) else {
        return error(StatusCode::NOT_ACCEPTABLE, "Not Acceptable");
    };
    let mut answer = text(StatusCode::OK, page(&form));
    if form != Form::Text {
        let json = header::HeaderValue::from_static("application/json");
        answer.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    answer
}
