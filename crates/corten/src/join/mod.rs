//! Joining a cluster: a machine that knows where a server is and has a token becomes one of its nodes.
//!
//! As with kubeadm, trust goes both ways. The server knows the machine by the bootstrap token; the machine knows the
//! cluster's authority by the hash of its public key, which came with the token: whoever answers, `cluster-info` is only
//! believed as far as the authorities in it have that hash. What the nodes of a cluster must agree on, servers publish
//! ([`published`]). From then on the kubelet has a certificate of its own, and reaches whichever servers live by a relay
//! on this machine ([`servers`]).

mod discovery;
mod published;
mod servers;
mod token;
mod tokens;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use discovery::Invitation;
pub use published::publish;
pub use servers::{follow, relay};
pub use token::Token;
pub use tokens::run as tokens;

use crate::cli::{JoinArgs, NetworkArgs};
use crate::layout::Layout;

/// What servers of a cluster must share: whoever has these may do anything.
pub const SHARED: [&str; 6] =
    ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub"];
/// A name that is in the certificate of every API server, of ours and of upstream's.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// What a machine knows of the cluster that it belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The API servers, as last heard.
    pub servers: Vec<SocketAddr>,
    pub network: Network,
}

/// What the nodes of a cluster agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub cluster_cidr: String,
    pub cluster_dns: std::net::IpAddr,
    pub cluster_domain: String,
}

/// The files of a node that has joined.
pub struct Files {
    directory: PathBuf,
}

impl Files {
    pub fn of(layout: &Layout) -> Self {
        Self { directory: layout.root.join("node") }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubelet.conf")
    }

    pub fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.directory.join("bootstrap-kubelet.conf")
    }

    pub fn authority(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    fn membership(&self) -> PathBuf {
        self.directory.join("membership.json")
    }

    fn read(&self) -> Result<Option<Membership>> {
        let path = self.membership();
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                let membership = serde_json::from_str(&text);
                Ok(Some(membership.with_context(|| format!("{} is damaged", path.display()))?))
            }
        }
    }

    pub fn write(&self, membership: &Membership) -> Result<()> {
        Ok(pki::write_private(&self.membership(), &serde_json::to_string_pretty(membership)?)?)
    }
}

/// Makes this machine a member of the cluster of `args.server`, unless it is one. The kubelet's own certificate is asked
/// for later, with the bootstrap kubeconfig that this leaves.
pub async fn join(layout: &Layout, args: &JoinArgs, shutdown: CancellationToken) -> Result<Membership> {
    let files = Files::of(layout);
    let invitation = args.invitation()?;
    if let Some(membership) = files.read()? {
        if let Some(invitation) = &invitation {
            check_same_cluster(&files, invitation)?;
            // The old one may have expired before there was a certificate.
            let authority = read(&files.authority())?;
            write_bootstrap(&files, &authority, invitation.token.as_str())?;
        }
        return Ok(membership);
    }
    let Some(invitation) = invitation else {
        bail!(
            "--server needs --token where the machine has not joined yet: corten token create, on a server, makes one"
        )
    };
    info!(servers = ?invitation.servers, "joining the cluster");
    let joined = tokio::select! {
        () = shutdown.cancelled() => bail!("stopped while joining the cluster"),
        joined = discovery::ask(&invitation, args.discovery_token_unsafe_skip_ca_verification) => joined?,
    };
    pki::write_public(&files.authority(), &joined.authority)?;
    write_bootstrap(&files, &joined.authority, invitation.token.as_str())?;
    let membership = Membership { servers: joined.servers, network: joined.network };
    files.write(&membership)?;
    Ok(membership)
}

fn check_same_cluster(files: &Files, invitation: &Invitation) -> Result<()> {
    let hash = pki::public_key_hash(&read(&files.authority())?)?;
    if !invitation.pins.is_empty() && !invitation.pins.contains(&hash) {
        bail!("this machine belongs to another cluster; let it leave that first: corten node reset");
    }
    Ok(())
}

/// With the API servers behind the relay.
fn write_bootstrap(files: &Files, authority: &str, token: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{}", servers::LISTEN),
            "tls-server-name": SERVER_NAME,
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": "bootstrap", "user": {"token": token}}],
        "contexts": [{"name": "bootstrap", "context": {"cluster": "cluster", "user": "bootstrap"}}],
        "current-context": "bootstrap",
    });
    Ok(pki::write_private(&files.bootstrap_kubeconfig(), &format!("{config:#}\n"))?)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Network {
    /// What the cluster has said counts more than flags.
    pub fn apply(&self, args: &mut NetworkArgs) {
        args.cluster_cidr.clone_from(&self.cluster_cidr);
        args.cluster_dns = self.cluster_dns;
        args.cluster_domain.clone_from(&self.cluster_domain);
    }
}
