//! `/healthz` with its checks one by one, and `/metrics/slis`, which tells the same as metrics.
//!
//! A kubelet that answers at all is well: pods follow events, so there is no loop that could be late.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use exposition::{Page, float};
use http::{Response, StatusCode};

use super::metrics::answer;
use super::routes::{parameter, parameters};
use super::{Body, error, text};

const CHECKS: [&str; 3] = ["ping", "log", "syncloop"];

/// How often each check has been made.
#[derive(Default)]
pub struct Health([AtomicU64; CHECKS.len()]);

impl Health {
    /// `/healthz`, all of it or one check by its name.
    pub fn answer(&self, name: Option<&str>, query: &str) -> Response<Body> {
        let excluded = parameters(query, "exclude");
        if name.is_some_and(|name| !CHECKS.contains(&name)) {
            return error(StatusCode::NOT_FOUND, "404 page not found");
        }
        let mut verbose = String::new();
        for (check, count) in CHECKS.iter().zip(&self.0) {
            if name.is_some_and(|name| name != *check) {
                continue;
            }
            // Writing to a string cannot fail.
            let _ = if excluded.iter().any(|name| name == check) {
                writeln!(verbose, "[+]{check} excluded: ok")
            } else {
                count.fetch_add(1, Ordering::Relaxed);
                writeln!(verbose, "[+]{check} ok")
            };
        }
        if name.is_none() && parameter(query, "verbose").is_some() {
            return text(StatusCode::OK, verbose + "healthz check passed\n");
        }
        text(StatusCode::OK, "ok")
    }

    /// `/metrics/slis`: of checks that have been made.
    pub fn metrics(&self) -> Response<Body> {
        let mut page = Page::default();
        let made = || {
            let counts =
                CHECKS.iter().zip(&self.0).map(|(name, count)| (*name, count.load(Ordering::Relaxed)));
            counts.filter(|(_, count)| *count > 0)
        };
        let name = "kubernetes_healthcheck";
        page.family(name, "gauge", "This metric records the result of a single healthcheck.");
        for (check, _) in made() {
            page.sample(name, &[("name", check), ("type", "healthz")], 1.0);
        }
        let name = "kubernetes_healthchecks_total";
        page.family(name, "counter", "This metric records the results of all healthcheck.");
        for (check, count) in made() {
            let labels = [("name", check), ("status", "success"), ("type", "healthz")];
            page.sample(name, &labels, float(count));
        }
        answer(page)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body(response: Response<Body>) -> (u16, String) {
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn checks_are_told_and_counted() {
        let health = Health::default();
        let ask = async |name, query| body(health.answer(name, query)).await;
        assert_eq!(ask(None, "").await, (200, "ok".to_owned()));
        assert_eq!(ask(Some("log"), "").await, (200, "ok".to_owned()));
        assert_eq!(ask(Some("other"), "").await.0, 404);
        let told = "[+]ping excluded: ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n";
        assert_eq!(ask(None, "verbose&exclude=ping").await, (200, told.to_owned()));
        let (_, metrics) = body(health.metrics()).await;
        for line in [
            r#"kubernetes_healthcheck{name="syncloop",type="healthz"} 1"#,
            r#"kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 1"#,
            r#"kubernetes_healthchecks_total{name="log",status="success",type="healthz"} 3"#,
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
        }
    }
}
