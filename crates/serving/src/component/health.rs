//! Health as load balancers and people ask for it: `/healthz`, `/livez`, `/readyz`, each check below them by name,
//! `?verbose` and `?exclude=`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;

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

#[derive(Clone, Copy, Default)]
struct Tally {
    well: bool,
    success: u64,
    error: u64,
}

/// All checks, and how they have come out so far.
pub(super) struct Health {
    checks: Vec<Check>,
    tallies: Mutex<BTreeMap<(&'static str, &'static str), Tally>>,
}

const KINDS: [&str; 3] = ["healthz", "livez", "readyz"];

impl Health {
    pub fn new(checks: Vec<Check>) -> Self {
        let checks = std::iter::once(Check::ping()).chain(checks).collect();
        Self { checks, tallies: Mutex::default() }
    }

    /// Nothing where the path is none of these.
    pub fn answer(&self, path: &str, query: &str) -> Option<(StatusCode, String)> {
        let mut parts = path.trim_matches('/').split('/');
        let asked = parts.next()?;
        let kind = KINDS.into_iter().find(|kind| *kind == asked)?;
        let checks = self.checks.iter().filter(|check| !check.readiness || kind == "readyz");
        let one = parts.next();
        if parts.next().is_some() {
            return None;
        }
        if let Some(one) = one {
            let check = checks.clone().find(|check| check.name == one)?;
            return Some(if self.run(kind, check) {
                (StatusCode::OK, "ok".to_owned())
            } else {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {one} is not well\n"))
            });
        }
        let options = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let excluded = |name: &str| options().any(|option| option == ("exclude", name));
        let (mut told, mut all) = (String::new(), true);
        for check in checks {
            let name = check.name;
            // Writing to a string does not fail.
            let _ = if excluded(name) {
                writeln!(told, "[+]{name} excluded: ok")
            } else if self.run(kind, check) {
                writeln!(told, "[+]{name} ok")
            } else {
                all = false;
                writeln!(told, "[-]{name} failed: reason withheld")
            };
        }
        let verbose = options().any(|(name, _)| name == "verbose");
        Some(match (all, verbose) {
            (true, false) => (StatusCode::OK, "ok".to_owned()),
            (true, true) => (StatusCode::OK, format!("{told}{kind} check passed\n")),
            (false, _) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{told}{kind} check failed\n")),
        })
    }

    fn run(&self, kind: &'static str, check: &Check) -> bool {
        let well = (check.judge)();
        let mut tallies = self.tallies.lock();
        let tally = tallies.entry((check.name, kind)).or_default();
        tally.well = well;
        *(if well { &mut tally.success } else { &mut tally.error }) += 1;
        well
    }

    /// What `/metrics/slis` tells.
    pub fn indicators(&self) -> String {
        let (mut last, mut total) = (String::new(), String::new());
        for ((name, kind), tally) in &*self.tallies.lock() {
            // Writing to a string does not fail.
            let _ = writeln!(
                last,
                "kubernetes_healthcheck{{name=\"{name}\",type=\"{kind}\"}} {}",
                u8::from(tally.well)
            );
            for (status, count) in [("error", tally.error), ("success", tally.success)] {
                if count > 0 {
                    let _ = writeln!(
                        total,
                        "kubernetes_healthchecks_total{{name=\"{name}\",status=\"{status}\",type=\"{kind}\"}} {count}"
                    );
                }
            }
        }
        format!(
            "# HELP kubernetes_healthcheck How a health check came out last: 1 is well\n\
             # TYPE kubernetes_healthcheck gauge\n{last}\
             # HELP kubernetes_healthchecks_total How often health checks came out how\n\
             # TYPE kubernetes_healthchecks_total counter\n{total}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_in_detail_to_who_asks() {
        let health = Health::new(vec![Check::ready("informer-sync", || false)]);
        let check = |path: &str, query: &str, status: u16, text: &str| {
            let (got, told) = health.answer(path, query).unwrap();
            assert_eq!((got.as_u16(), told.as_str()), (status, text), "{path}?{query}");
        };
        check("/healthz", "", 200, "ok");
        check("/livez", "verbose", 200, "[+]ping ok\nlivez check passed\n");
        check(
            "/readyz",
            "",
            500,
            "[+]ping ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n",
        );
        check("/readyz", "exclude=informer-sync", 200, "ok");
        check("/readyz/ping", "", 200, "ok");
        assert_eq!(health.answer("/readyz/informer-sync", "").unwrap().0.as_u16(), 500);
        for unknown in ["/healthz/informer-sync", "/healthz/ping/x", "/metrics", "/"] {
            assert_eq!(health.answer(unknown, ""), None, "{unknown}");
        }
        let told = health.indicators();
        assert!(told.contains("kubernetes_healthcheck{name=\"informer-sync\",type=\"readyz\"} 0"), "{told}");
        assert!(told.contains("{name=\"ping\",status=\"success\",type=\"livez\"} 1"), "{told}");
    }
}
