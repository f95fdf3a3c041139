//! `grpc` probes: the standard health service, `grpc.health.v1.Health/Check`.

use std::time::Duration;

use tonic::Code;
use tonic::transport::Endpoint;

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, ask(host, port, service)).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "timeout: failed to connect service {:?} within {timeout:?}: context deadline exceeded",
            super::http::authority(host, port)
        )),
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<(), String> {
    let address = super::http::authority(host, port);
    let failed =
        |error: &dyn std::fmt::Display| format!("error: failed to connect service {address:?}: {error}");
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| failed(&error))?
        .connect()
        .await
        .map_err(|error| failed(&error))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| failed(&error))?;
    let path = ::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = HealthCheckRequest { service: service.to_owned() };
    match client.unary(tonic::Request::new(request), path, codec).await {
        Ok(answer) if answer.get_ref().status == 1 => Ok(()),
        Ok(answer) => Err(format!("service unhealthy (responded with {:?})", name(answer.get_ref().status))),
        Err(status) if status.code() == Code::Unimplemented => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                .into())
        }
        Err(status) => Err(format!("error: health rpc failed: {status}")),
    }
}

fn name(status: i32) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "INVALID",
    }
}
