//! The timing of one probe.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use super::{Unsuccessful, Warning, grpc, http, port, tcp};
use crate::cri::Cri;

/// Output of failed probes is cut to this, as upstream does.
const OUTPUT_MAX: usize = 1024;
const ATTEMPTS: u32 = 3;
const SLACK: Duration = Duration::from_secs(2);

/// What one probe of one running container needs to know.
#[derive(Clone)]
pub struct Probing {
    pub cri: Cri,
    pub probe: Probe,
    pub container: Arc<Container>,
    pub container_id: String,
    pub pod_ip: String,
    /// How long the container had been running when probing began.
    pub age: Duration,
}

/// Probes until the handle is dropped; `report` returns false to end it from inside.
pub fn start(
    probing: Probing,
    report: impl Fn(Result<Warning, Unsuccessful>, Duration) -> bool + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        let delay = seconds(probing.probe.initial_delay_seconds, 0).saturating_sub(probing.age);
        let period = seconds(probing.probe.period_seconds, 10).max(Duration::from_secs(1));
        let timeout = seconds(probing.probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let mut timer = tokio::time::interval_at(Instant::now() + delay, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let began = Instant::now();
            let result = insist(&probing, timeout).await;
            if !report(result, began.elapsed()) {
                return;
            }
        }
    }))
}

/// A container that could not be asked is asked again, a few times.
async fn insist(probing: &Probing, timeout: Duration) -> Result<Warning, Unsuccessful> {
    let mut result = once(probing, timeout).await;
    for _ in 1..ATTEMPTS {
        if !matches!(result, Err(Unsuccessful::Errored(_))) {
            break;
        }
        result = once(probing, timeout).await;
    }
    result
}

async fn once(probing: &Probing, timeout: Duration) -> Result<Warning, Unsuccessful> {
    let probe = &probing.probe;
    if let Some(exec) = &probe.exec {
        return run(probing, exec.command.clone().unwrap_or_default(), timeout).await;
    }
    if let Some(get) = &probe.http_get {
        let port = port(&get.port, &probing.container).map_err(Unsuccessful::Errored)?;
        let get = http::Get::new(get, &probing.pod_ip, port);
        return match http::get(&get, timeout).await {
            Ok(http::Answer { status: 200..300, .. }) => Ok(None),
            Ok(http::Answer { status: 300..400, body }) => {
                Ok(Some(format!("Probe terminated redirects, Response body: {body}")))
            }
            Ok(http::Answer { status, .. }) => {
                Err(Unsuccessful::Failed(format!("HTTP probe failed with statuscode: {status}")))
            }
            Err(error) => Err(Unsuccessful::Failed(error)),
        };
    }
    if let Some(socket) = &probe.tcp_socket {
        let port = port(&socket.port, &probing.container).map_err(Unsuccessful::Errored)?;
        let host = socket.host.as_deref().filter(|host| !host.is_empty());
        let connected = tcp::connect(host.unwrap_or(&probing.pod_ip), port, timeout).await;
        return connected.map(|()| None).map_err(Unsuccessful::Failed);
    }
    if let Some(action) = &probe.grpc {
        let port = port(
            &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(action.port),
            &probing.container,
        )
        .map_err(Unsuccessful::Errored)?;
        let service = action.service.as_deref().unwrap_or_default();
        let checked = grpc::check(&probing.pod_ip, port, service, timeout).await;
        return checked.map(|()| None).map_err(Unsuccessful::Failed);
    }
    Err(Unsuccessful::Errored("missing probe handler".into()))
}

async fn run(probing: &Probing, command: Vec<String>, timeout: Duration) -> Result<Warning, Unsuccessful> {
    let shown = command.join(" ");
    let timed_out = || {
        let limit = timeout.as_secs();
        Unsuccessful::Failed(format!("command timed out: \"{shown}\" timed out after {limit}s"))
    };
    // The runtime keeps the time; this is for one that does not.
    let run = probing.cri.exec_sync(&probing.container_id, command, timeout);
    let Ok(result) = tokio::time::timeout(timeout + SLACK, run).await else {
        return Err(timed_out());
    };
    match result {
        Ok(result) if result.exit_code == 0 => Ok(None),
        Ok(result) => {
            let mut output = result.stdout;
            output.extend(result.stderr);
            output.truncate(OUTPUT_MAX);
            Err(Unsuccessful::Failed(String::from_utf8_lossy(&output).into_owned()))
        }
        Err(error) if error.code == Code::DeadlineExceeded => Err(timed_out()),
        Err(error) => Err(Unsuccessful::Errored(error.to_string())),
    }
}
