//! What has to be well, and the paths at which that is asked: `/healthz`, `/livez`, `/readyz`, each check below them.

use std::sync::Arc;

use exposition::{Asked, Page};
use http::StatusCode;

/// One thing that has to be well.
#[derive(Clone)]
pub struct Check {
    pub name: &'static str,
    /// For `/readyz` alone.
    pub readiness: bool,
    pub judge: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Check {
    /// That somebody answers at all.
    fn ping() -> Self {
        Self { name: "ping", readiness: false, judge: Arc::new(|| true) }
    }

    pub fn ready(name: &'static str, judge: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { name, readiness: true, judge: Arc::new(judge) }
    }
}

/// All checks, and how they have come out so far.
pub(super) struct Health {
    checks: Vec<Check>,
    told: exposition::Health,
}

const KINDS: [&str; 3] = ["healthz", "livez", "readyz"];

impl Health {
    pub fn new(checks: Vec<Check>) -> Self {
        let checks = std::iter::once(Check::ping()).chain(checks).collect();
        Self { checks, told: exposition::Health::default() }
    }

    /// Nothing where the path is none of these.
    pub fn answer(&self, path: &str, query: &str) -> Option<(StatusCode, String)> {
        let (asked, one) = match path.trim_matches('/').split_once('/') {
            Some((asked, one)) => (asked, Some(one)),
            None => (path.trim_matches('/'), None),
        };
        let kind = KINDS.into_iter().find(|kind| *kind == asked)?;
        let checks = self.checks.iter().filter(|check| !check.readiness || kind == "readyz");
        let checks: Vec<exposition::Check> =
            checks.map(|check| exposition::Check { name: check.name, well: (check.judge)() }).collect();
        let options = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let asked = Asked {
            one,
            excluded: options().filter(|(name, _)| *name == "exclude").map(|(_, name)| name).collect(),
            verbose: options().any(|(name, _)| name == "verbose"),
        };
        let (well, page) = self.told.answer(kind, &checks, &asked)?;
        Some((if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, page))
    }

    /// What `/metrics/slis` tells.
    pub fn indicators(&self) -> Page {
        self.told.indicators()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_asked_by_their_paths() {
        let health = Health::new(vec![Check::ready("informer-sync", || false)]);
        let check = |path: &str, query: &str, status: u16, text: &str| {
            let (got, told) = health.answer(path, query).unwrap();
            assert_eq!((got.as_u16(), told.as_str()), (status, text), "{path}?{query}");
        };
        check("/healthz", "", 200, "ok");
        check("/livez", "verbose", 200, "[+]ping ok\nlivez check passed\n");
        check("/readyz", "exclude=informer-sync", 200, "ok");
        check("/readyz/ping", "", 200, "ok");
        for failing in ["/readyz", "/readyz/informer-sync"] {
            assert_eq!(health.answer(failing, "").unwrap().0.as_u16(), 500, "{failing}");
        }
        for unknown in ["/healthz/informer-sync", "/healthz/ping/x", "/metrics", "/"] {
            assert_eq!(health.answer(unknown, ""), None, "{unknown}");
        }
    }
}
