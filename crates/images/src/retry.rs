//! Asking a registry again that is busy: it answers 429 or 5xx.
//!
//! One that cannot be reached is not asked again here: there may be a mirror, and a kubelet has a back-off of its own.

use std::time::Duration;

use oci_client::errors::{OciDistributionError, OciErrorCode};
use tracing::debug;

/// So often in all.
const ATTEMPTS: u32 = 5;
/// Doubled each time. What a registry says in Retry-After is seconds; the client does not tell us.
const PAUSE: Duration = Duration::from_millis(500);

/// Does it, again after a pause where that may help.
pub async fn retrying<T, F: Future<Output = Result<T, OciDistributionError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, OciDistributionError> {
    let mut number = 0;
    loop {
        match attempt().await {
            Err(error) if number + 1 < ATTEMPTS && is_busy(&error) => {
                debug!(%error, "the registry is busy, asking again");
                tokio::time::sleep(pause(number)).await;
                number += 1;
            }
            result => return result,
        }
    }
}

/// Half a second, one, two, four, eight.
pub fn pause(attempt: u32) -> Duration {
    PAUSE * 2_u32.saturating_pow(attempt.min(4))
}

/// Whether the fault may pass.
pub fn is_busy(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ServerError { code, .. } => is_passing(*code),
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|e| e.code == OciErrorCode::Toomanyrequests)
        }
        OciDistributionError::RequestError(error) => match error.status() {
            Some(status) => is_passing(status.as_u16()),
            None => false,
        },
        _ => false,
    }
}

/// Whether the registry, and not the image, is at fault.
pub fn is_unavailable(error: &OciDistributionError) -> bool {
    let unreached = |e: &reqwest::Error| e.is_timeout() || e.is_connect() || e.is_request();
    is_busy(error) || matches!(error, OciDistributionError::RequestError(e) if unreached(e))
}

fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> OciDistributionError {
        OciDistributionError::ServerError { code, url: String::new(), message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again() {
        for (codes, expected) in
            [(&[][..], 1), (&[429], 2), (&[503, 502, 429], 4), (&[500; 9], 5), (&[404], 1)]
        {
            let mut calls = 0;
            let result = retrying(|| {
                calls += 1;
                let answer = codes.get(calls - 1).map_or(Ok(()), |code| Err(server(*code)));
                async move { answer }
            });
            assert_eq!(result.await.is_ok(), codes.len() < 5 && !codes.contains(&404), "{codes:?}");
            assert_eq!(calls, expected, "{codes:?}");
        }
    }
}
