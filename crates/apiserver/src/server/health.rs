//! `/livez`, `/readyz` and `/healthz`: each check with a name, so that `?verbose` can tell, `?exclude=` pass over it and
//! `/livez/<name>` ask for it; and `/metrics/slis`, which tells the same as metrics.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use api::status::Status;
use http::StatusCode;

use super::respond::{self, Answer};
use crate::options::Query;
use crate::state::State;

const ROOTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// Parts of a start that others of upstream's checks are named after: all of them are done when this server is ready.
const HOOKS: [&str; 22] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/aggregator-reload-proxy-client-cert",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

/// How often checks have passed and failed, by root.
#[derive(Default)]
pub struct Counts([[AtomicU64; 2]; 3]);

struct Check {
    name: &'static str,
    passed: bool,
}

async fn checks(state: &State, root: &str) -> Vec<Check> {
    let check = |name, passed| Check { name, passed };
    let store = state.store.check().await.is_ok();
    let mut checks = vec![check("ping", true), check("log", true), check("etcd", store)];
    if root == "readyz" {
        checks.push(check("etcd-readiness", store));
        checks.push(check("informer-sync", true));
    }
    // A server that is not ready yet is alive all the same.
    checks.extend(HOOKS.map(|name| check(name, root != "readyz" || state.is_ready())));
    // Without its keys a server is of no use, but starting it anew does not bring them back.
    if let Some(health) = state.caches.encryption.health().filter(|_| root != "livez") {
        checks.push(check("kms-providers", health.is_ok()));
    }
    if root == "readyz" {
        checks.push(check("shutdown", !state.is_stopping()));
    }
    checks
}

/// Whether a path is one of these.
pub fn root_of(path: &str) -> Option<&'static str> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    ROOTS.into_iter().find(|root| *root == first)
}

pub async fn serve(state: &State, root: &'static str, path: &str, query: &Query) -> Result<Answer, Status> {
    let checks = checks(state, root).await;
    let rest = path.get(root.len() + 2..).unwrap_or_default();
    if !rest.is_empty() {
        let check = checks.iter().find(|check| check.name == rest).ok_or_else(Status::unknown_resource)?;
        return Ok(match check.passed {
            true => respond::text(StatusCode::OK, "ok"),
            false => respond::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {rest} failed\n"),
            ),
        });
    }
    let mut excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut good = true;
    for Check { name, passed } in checks {
        let before = excluded.len();
        excluded.retain(|other| *other != name);
        let line = match (excluded.len() < before, passed) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, true) => format!("[+]{name} ok\n"),
            (false, false) => {
                good = false;
                format!("[-]{name} failed: reason withheld\n")
            }
        };
        report.push_str(&line);
    }
    if !excluded.is_empty() {
        let all: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let all = all.join(", ");
        report.push_str(&format!("warn: some health checks cannot be excluded: no matches for {all}\n"));
    }
    state.health.count(root, good);
    if !good {
        report.push_str(&format!("{root} check failed\n"));
        return Ok(respond::text(StatusCode::INTERNAL_SERVER_ERROR, report));
    }
    // The parameter alone says yes.
    if query.get("verbose").is_some() || query.flag("verbose").unwrap_or(false) {
        report.push_str(&format!("{root} check passed\n"));
        return Ok(respond::text(StatusCode::OK, report));
    }
    Ok(respond::text(StatusCode::OK, "ok"))
}

impl Counts {
    fn count(&self, root: &str, good: bool) {
        let index = ROOTS.iter().position(|known| *known == root);
        if let Some(counts) = index.and_then(|index| self.0.get(index)) {
            counts[usize::from(good)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// `/metrics/slis`.
pub async fn slis(state: &State) -> String {
    let mut text = "# HELP kubernetes_healthcheck This metric records the result of a single healthcheck.\n\
                    # TYPE kubernetes_healthcheck gauge\n"
        .to_owned();
    // Writing to a string cannot fail.
    for root in ROOTS {
        for Check { name, passed } in checks(state, root).await {
            let passed = u8::from(passed);
            let _ = writeln!(text, "kubernetes_healthcheck{{name={name:?},type={root:?}}} {passed}");
        }
    }
    text.push_str(
        "# HELP kubernetes_healthchecks_total This metric records the results of all healthcheck.\n\
         # TYPE kubernetes_healthchecks_total counter\n",
    );
    for (root, counts) in ROOTS.iter().zip(&state.health.0) {
        for (status, count) in [("error", &counts[0]), ("success", &counts[1])] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(
                text,
                "kubernetes_healthchecks_total{{name=\"all\",status=\"{status}\",type={root:?}}} {count}"
            );
        }
    }
    text
}
