//! `/healthz` with its checks one by one, and `/metrics/slis`, which tells the same as metrics.
//!
//! A kubelet that answers at all is well: pods follow events, so there is no loop that could be late.

use exposition::{Asked, Check};
use http::{Response, StatusCode};

use super::metrics::answer;
use super::routes::{parameter, parameters};
use super::{Body, error, text};

const CHECKS: [Check; 3] = [
    Check { name: "ping", well: true },
    Check { name: "log", well: true },
    Check { name: "syncloop", well: true },
];

/// How often each check has been made.
#[derive(Default)]
pub struct Health(exposition::Health);

impl Health {
    /// `/healthz`, all of it or one check by its name.
    pub fn answer(&self, name: Option<&str>, query: &str) -> Response<Body> {
        let excluded = parameters(query, "exclude");
        let asked = Asked {
            one: name,
            excluded: excluded.iter().map(String::as_str).collect(),
            verbose: parameter(query, "verbose").is_some(),
        };
        match self.0.answer("healthz", &CHECKS, &asked) {
            Some((_, page)) => text(StatusCode::OK, page),
            None => error(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    /// `/metrics/slis`: of checks that have been made.
    pub fn metrics(&self) -> Response<Body> {
        answer(self.0.indicators())
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
