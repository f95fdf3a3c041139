//! Lifecycle hooks: `postStart` and `preStop`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::cri::Cri;
use crate::probe::{http, port};

/// No hook of ours may hang forever on an HTTP server.
const HTTP: Duration = Duration::from_secs(30);

/// Runs a hook to its end. The error is the message of the event.
pub async fn run(
    cri: &Cri,
    handler: &LifecycleHandler,
    container: &Container,
    container_id: &str,
    pod_ip: &str,
    timeout: Option<Duration>,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let timeout = timeout.unwrap_or_default();
        let result = cri
            .exec_sync(container_id, command, timeout)
            .await
            .map_err(|error| format!("Exec lifecycle hook ([{shown}]) failed - error: {error}"))?;
        if result.exit_code != 0 {
            let stderr = String::from_utf8_lossy(&result.stderr);
            let stdout = String::from_utf8_lossy(&result.stdout);
            return Err(format!(
                "Exec lifecycle hook ([{shown}]) failed - error: command '{shown}' exited with {}: {stderr}, message: {:?}",
                result.exit_code,
                format!("{stdout}{stderr}")
            ));
        }
        return Ok(());
    }
    if let Some(get) = &handler.http_get {
        let port = port(&get.port, container)?;
        let request = http::Get::new(get, pod_ip, port);
        return match http::get(&request, timeout.unwrap_or(HTTP)).await {
            // That the container has heard of it is what counts.
            Ok(_) => Ok(()),
            Err(error) => Err(format!("HTTP lifecycle hook ({}) failed - error: {error}", request.path)),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("invalid handler: no action that this kubelet knows".into())
}
