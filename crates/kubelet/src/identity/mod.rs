//! The kubelet's certificates: asked of the API's signers by CertificateSigningRequests, kept in files, renewed in time.
//!
//! [`bootstrap`] makes a kubeconfig of its own out of one that may do no more than ask. [`keep_client`] and
//! [`keep_serving`] renew when about four fifths of a certificate's life are over, as upstream's kubelet does, and in
//! its files: `kubelet-client-current.pem` and `kubelet-server-current.pem` are links to the newest certificate and key.

mod files;
mod request;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use pki::Leaf;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::meters;
pub use files::Pair;
use request::{Signer, sign};

const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// A kubelet has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read the bootstrap kubeconfig {path}: {reason}")]
    Bootstrap { path: PathBuf, reason: String },
    #[error("cannot write {path}: {reason}")]
    Write { path: PathBuf, reason: String },
    #[error(transparent)]
    Client(#[from] client::ConnectError),
    #[error("cannot get a client certificate: {0}")]
    Certificate(String),
}

fn node_leaf(node_name: &str) -> Leaf {
    Leaf::client(&format!("system:node:{node_name}"), Some("system:nodes"))
}

/// Makes the kubeconfig at `kubeconfig`, unless one is there whose certificate is still good: with the cluster of the
/// bootstrap kubeconfig, and a client certificate in `cert_dir` that its user asks for. Waits until somebody approves.
pub async fn bootstrap(
    bootstrap: &Path,
    kubeconfig: &Path,
    cert_dir: &Path,
    node_name: &str,
) -> Result<(), IdentityError> {
    let pair = Pair::client(cert_dir);
    if kubeconfig.exists() && (pair.is_valid() || !files::names(kubeconfig, &pair.current())) {
        return Ok(());
    }
    info!(kubeconfig = %bootstrap.display(), "asking for a client certificate");
    let asking = client::from_kubeconfig(bootstrap, "kubelet").await?;
    let mut wait = RETRY;
    loop {
        match sign(&asking, &node_leaf(node_name), Signer::Client, node_name).await {
            Ok(issued) => {
                pair.write(&issued).map_err(IdentityError::Certificate)?;
                break;
            }
            Err(error) => warn!(error, "cannot get a client certificate yet, trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RETRY);
    }
    files::write_kubeconfig(bootstrap, kubeconfig, &pair.current())
}

/// A serving certificate that nobody vouches for, where there is no other: made once.
pub fn self_signed(
    cert_dir: &Path,
    node_name: &str,
    ips: &[IpAddr],
) -> Result<(PathBuf, PathBuf), IdentityError> {
    let (certificate, key) = (cert_dir.join("kubelet.crt"), cert_dir.join("kubelet.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let failed =
        |error: pki::Error| IdentityError::Write { path: certificate.clone(), reason: error.to_string() };
    let issued = serving_leaf(node_name, ips).self_signed().map_err(failed)?;
    pki::write_private(&key, &issued.key).map_err(failed)?;
    pki::write_public(&certificate, &issued.certificate).map_err(failed)?;
    Ok((certificate, key))
}

fn serving_leaf(node_name: &str, ips: &[IpAddr]) -> Leaf {
    Leaf {
        dns_names: vec![node_name.to_owned()],
        addresses: ips.to_vec(),
        server: true,
        client: false,
        ..node_leaf(node_name)
    }
}

/// Renews the client certificate in `cert_dir` until `shutdown`. New connections use it at once.
pub async fn keep_client(ctx: Arc<Context>, cert_dir: PathBuf, shutdown: CancellationToken) {
    let leaf = node_leaf(&ctx.options.node_name);
    keep(&ctx, &Pair::client(&cert_dir), &leaf, Signer::Client, shutdown).await;
}

/// Asks for the serving certificate in `cert_dir`, and renews it, until `shutdown`.
pub async fn keep_serving(ctx: Arc<Context>, cert_dir: PathBuf, shutdown: CancellationToken) {
    let leaf = serving_leaf(&ctx.options.node_name, &ctx.options.node_ips);
    keep(&ctx, &Pair::serving(&cert_dir), &leaf, Signer::Serving, shutdown).await;
}

/// Says on the Node that the cluster has signed what its API is served with; tries until it is heard.
async fn tell(ctx: &Context, shutdown: &CancellationToken) {
    let Some(value) = crate::node::serving_certificate(ctx) else { return };
    let api: Api<Node> = Api::all(ctx.client.clone());
    let patch = serde_json::json!({"metadata": {"annotations": {crate::node::SERVING_CERTIFICATE: value}}});
    let mut wait = RETRY;
    loop {
        let told = api.patch(&ctx.options.node_name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        let Err(error) = told else { return };
        warn!(%error, "API servers do not know yet that the cluster has signed the serving certificate");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}

async fn keep(ctx: &Context, pair: &Pair, leaf: &Leaf, signer: Signer, shutdown: CancellationToken) {
    let mut retry = RETRY;
    loop {
        let wait = pair.renew_at().and_then(|at| at.duration_since(SystemTime::now()).ok());
        let wait = match wait {
            Some(wait) => wait,
            None => {
                let renew = async {
                    let issued = sign(&ctx.client, leaf, signer, &ctx.options.node_name).await?;
                    pair.write(&issued)
                };
                let renewed = tokio::select! {
                    () = shutdown.cancelled() => return,
                    renewed = renew => renewed,
                };
                match renewed {
                    Ok(()) => {
                        if signer == Signer::Serving {
                            tell(ctx, &shutdown).await;
                        }
                        info!(file = %pair.current().display(), "a certificate was renewed");
                        retry = RETRY;
                        continue;
                    }
                    Err(error) => {
                        meters::count(signer.errors(), &[]);
                        warn!(file = %pair.current().display(), error, "cannot renew a certificate, trying again");
                        retry = (retry * 2).min(LONGEST_RETRY);
                        retry
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Clocks are set: never sleep for months on end.
            () = tokio::time::sleep(wait.min(Duration::from_secs(3600))) => {}
        }
    }
}
