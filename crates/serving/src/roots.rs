//! By which authorities clients are known: the cluster says so in a ConfigMap, and may say something else later.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::tls::Tls;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Has `tls` trust what the ConfigMap names, until `shutdown`.
pub async fn follow(client: kube::Client, tls: Arc<Tls>, shutdown: CancellationToken) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut changes = watcher(api, config).default_backoff().applied_objects().boxed();
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.try_next() => change,
        };
        match change {
            Ok(Some(map)) => {
                if let Err(error) = trust(&tls, &map) {
                    warn!(%error, "clients are known as before: {NAMESPACE}/{NAME} cannot be used");
                }
            }
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "client certificates may not be known: cannot watch ConfigMap {NAMESPACE}/{NAME}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn trust(tls: &Tls, map: &ConfigMap) -> Result<(), String> {
    let pem = map.data.as_ref().and_then(|data| data.get("client-ca-file"));
    let Some(pem) = pem else { return tls.trust(Vec::new()).map_err(|error| error.to_string()) };
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let roots = roots.map_err(|error| format!("client-ca-file: {error}"))?;
    tls.trust(roots).map_err(|error| error.to_string())
}
