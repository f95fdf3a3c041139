//! `/livez`, `/readyz` and `/healthz`: what has to be well, each with the name that upstream has for it; and
//! `/metrics/slis`, which tells the same as metrics.

use std::sync::atomic::{AtomicU32, Ordering};

use api::status::Status;
use exposition::{Asked, Check, Page};
use http::StatusCode;

use super::respond::{self, Answer};
use crate::options::Query;
use crate::state::State;

const ROOTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// The parts of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The caches hold what is stored.
    Loaded,
    Namespaces,
    Roles,
    PriorityClasses,
    /// How extension servers know who comes through this one.
    AuthenticationInfo,
    /// The ranges of Services' addresses, and the Service of the API servers.
    Services,
    Definitions,
    Aggregation,
    /// FlowSchemas and priority levels exist and are followed.
    FlowControl,
}

/// What upstream calls the parts of its own start, and what they are here.
const HOOKS: [(&str, Step); 22] = [
    ("poststarthook/start-apiserver-admission-initializer", Step::Loaded),
    ("poststarthook/generic-apiserver-start-informers", Step::Loaded),
    ("poststarthook/priority-and-fairness-config-consumer", Step::FlowControl),
    ("poststarthook/priority-and-fairness-filter", Step::FlowControl),
    ("poststarthook/storage-object-count-tracker-hook", Step::Loaded),
    ("poststarthook/start-apiextensions-informers", Step::Loaded),
    ("poststarthook/start-apiextensions-controllers", Step::Definitions),
    ("poststarthook/crd-informer-synced", Step::Definitions),
    ("poststarthook/start-system-namespaces-controller", Step::Namespaces),
    ("poststarthook/start-cluster-authentication-info-controller", Step::AuthenticationInfo),
    ("poststarthook/start-service-ip-repair-controllers", Step::Services),
    ("poststarthook/rbac/bootstrap-roles", Step::Roles),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", Step::PriorityClasses),
    ("poststarthook/priority-and-fairness-config-producer", Step::FlowControl),
    ("poststarthook/aggregator-reload-proxy-client-cert", Step::Aggregation),
    ("poststarthook/start-kube-aggregator-informers", Step::Loaded),
    ("poststarthook/apiservice-registration-controller", Step::Aggregation),
    ("poststarthook/apiservice-discovery-controller", Step::Aggregation),
    ("poststarthook/kube-apiserver-autoregistration", Step::Aggregation),
    ("autoregister-completion", Step::Aggregation),
    ("poststarthook/apiservice-openapi-controller", Step::Aggregation),
    ("poststarthook/apiservice-openapiv3-controller", Step::Aggregation),
];

/// How far the start has come, and how checks have come out.
#[derive(Default)]
pub struct Health {
    /// A bit for each step.
    done: AtomicU32,
    told: exposition::Health,
}

impl Health {
    pub fn done(&self, step: Step) {
        self.done.fetch_or(1 << step as u32, Ordering::AcqRel);
    }

    fn hooks(&self) -> impl Iterator<Item = Check> {
        let done = self.done.load(Ordering::Acquire);
        HOOKS.into_iter().map(move |(name, step)| Check { name, well: done & 1 << step as u32 != 0 })
    }

    /// `/metrics/slis`.
    pub fn indicators(&self) -> Page {
        self.told.indicators()
    }
}

async fn checks(state: &State, root: &str) -> Vec<Check> {
    let check = |name, well| Check { name, well };
    let store = state.store.check().await.is_ok();
    let mut checks = vec![check("ping", true), check("log", true), check("etcd", store)];
    if root == "readyz" {
        checks.push(check("etcd-readiness", store));
        checks.push(check("informer-sync", true));
    }
    // A server that is not ready yet is alive all the same.
    checks.extend(state.health.hooks().map(|hook| check(hook.name, hook.well || root != "readyz")));
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
    let one = path.get(root.len() + 2..).filter(|one| !one.is_empty());
    let asked = Asked {
        one,
        excluded: query.all("exclude").collect(),
        // The parameter alone says yes.
        verbose: query.all("verbose").next().is_some(),
    };
    let checks = checks(state, root).await;
    let answer = state.health.told.answer(root, &checks, &asked);
    let (well, page) = answer.ok_or_else(Status::unknown_resource)?;
    let code = if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok(respond::text(code, page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_start_is_told_on_its_own() {
        let health = Health::default();
        let well = || health.hooks().filter(|hook| hook.well).map(|hook| hook.name).collect::<Vec<_>>();
        assert_eq!(well(), [""; 0]);
        health.done(Step::Roles);
        assert_eq!(well(), ["poststarthook/rbac/bootstrap-roles"]);
        health.done(Step::Namespaces);
        assert_eq!(
            well(),
            ["poststarthook/start-system-namespaces-controller", "poststarthook/rbac/bootstrap-roles"]
        );
        for step in [Step::Loaded, Step::PriorityClasses, Step::AuthenticationInfo, Step::Services] {
            health.done(step);
        }
        assert_eq!(well().len(), HOOKS.len() - 12);
        for step in [Step::Definitions, Step::Aggregation, Step::FlowControl] {
            health.done(step);
        }
        assert_eq!(well().len(), HOOKS.len());
    }
}
