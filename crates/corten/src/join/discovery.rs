//! Finding out which cluster it is, and what its nodes agree on.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;
use tracing::warn;

use super::{Network, SERVER_NAME, Token, published};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Of attempts that fail, so many are not worth a line in the log: servers that start at the same time.
const QUIET: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a machine needs to know to join.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// `https://host:port`; one that answers is enough.
    pub servers: Vec<String>,
    pub token: Token,
    /// `sha256:` and the hash of an authority's public key.
    pub pins: Vec<String>,
}

impl Invitation {
    /// For the command line of `corten node`.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--server={}", self.servers.join(","))];
        flags.push(format!("--token={}", self.token.as_str()));
        flags.extend(self.pins.iter().map(|pin| format!("--discovery-token-ca-cert-hash={pin}")));
        flags
    }
}

/// What `cluster-info` says.
pub struct Info {
    pub server: String,
    pub authority: String,
}

/// What there is to know before one has an identity.
pub struct Joined {
    pub authority: String,
    pub servers: Vec<SocketAddr>,
    pub network: Network,
}

/// Asks until a server has answered, and let the token in. What cannot become good by waiting is an error.
pub async fn ask(invitation: &Invitation, trust_anybody: bool) -> Result<Joined> {
    if invitation.pins.is_empty() && !trust_anybody {
        bail!(
            "the token alone does not say which cluster is meant: give --discovery-token-ca-cert-hash, which corten token create prints, or accept anybody with --discovery-token-unsafe-skip-ca-verification"
        );
    }
    let mut addresses = Vec::new();
    for server in &invitation.servers {
        addresses.extend(resolve(server)?);
    }
    let mut wait = FIRST_RETRY;
    for attempt in 0_u32.. {
        for server in &invitation.servers {
            match ask_one(server, invitation).await {
                Ok((authority, network)) => return Ok(Joined { authority, servers: addresses, network }),
                Err(Failure::Final(error)) => {
                    return Err(error.context(format!("{server} is not to be trusted")));
                }
                Err(Failure::Passing(error)) if attempt >= QUIET => {
                    warn!(%server, error = format!("{error:#}"), "cannot join yet, trying again");
                }
                Err(Failure::Passing(_)) => {}
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(LONGEST_RETRY);
    }
    bail!("no server has answered")
}

enum Failure {
    Passing(anyhow::Error),
    /// It will not get better.
    Final(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Passing(error.into())
    }
}

async fn ask_one(server: &str, invitation: &Invitation) -> Result<(String, Network), Failure> {
    let url: http::Uri = server.parse().map_err(|error| Failure::Final(anyhow::Error::new(error)))?;
    let mut config = kube::Config::new(url);
    config.connect_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    config.accept_invalid_certs = true;
    // Whoever this is: of what he says only what has the right hash is used.
    let info = cluster_info(&kube::Client::try_from(config.clone())?).await?;
    let authority = pinned(&info.authority, &invitation.pins).map_err(Failure::Final)?;
    config.accept_invalid_certs = false;
    config.root_cert = Some(pki::certificates(&authority).map_err(|error| Failure::Final(error.into()))?);
    config.tls_server_name = Some(SERVER_NAME.to_owned());
    config.auth_info.token = Some(invitation.token.as_str().to_owned().into());
    // And only he who has the key of it is told the token.
    let network = published::network(&kube::Client::try_from(config)?).await?;
    Ok((authority, network))
}

/// Reads `cluster-info`, which everybody may.
pub async fn cluster_info(client: &kube::Client) -> Result<Info> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let map = maps.get("cluster-info").await.context("cannot read the ConfigMap kube-public/cluster-info")?;
    let text = map.data.as_ref().and_then(|data| data.get("kubeconfig"));
    parse_info(text.map(String::as_str).unwrap_or_default())
        .context("kube-public/cluster-info is not understood")
}

fn parse_info(kubeconfig: &str) -> Result<Info> {
    let config: Value = serde_saphyr::from_str(kubeconfig).context("its kubeconfig is not YAML")?;
    let cluster = &config["clusters"][0]["cluster"];
    let field = |name: &str| cluster[name].as_str().with_context(|| format!("its kubeconfig has no {name}"));
    let authority =
        STANDARD.decode(field("certificate-authority-data")?).context("the authority is not base64")?;
    Ok(Info {
        server: field("server")?.to_owned(),
        authority: String::from_utf8(authority).context("the authority is not PEM")?,
    })
}

/// Of the authorities those that have one of these hashes; all, where there are no hashes to compare.
fn pinned(authorities: &str, pins: &[String]) -> Result<String> {
    if pins.is_empty() {
        return Ok(authorities.to_owned());
    }
    let mut trusted = String::new();
    for certificate in pki::split_pem(authorities) {
        if pins.contains(&pki::public_key_hash(&certificate)?) {
            trusted.push_str(&certificate);
        }
    }
    if trusted.is_empty() {
        bail!("the cluster's authority has another hash than --discovery-token-ca-cert-hash says");
    }
    Ok(trusted)
}

fn resolve(server: &str) -> Result<Vec<SocketAddr>> {
    let malformed = || format!("{server:?} is no server: expected https://HOST:PORT");
    let url: http::Uri = server.parse().with_context(malformed)?;
    if url.scheme_str() != Some("https") {
        bail!(malformed());
    }
    let host = url.host().with_context(malformed)?.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(6443);
    Ok((host, port).to_socket_addrs().with_context(|| format!("cannot find {host}"))?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_pinned_is_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            pki::Authority::ensure(directory.path(), name, name).unwrap().certificate().to_owned()
        };
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let pin = pki::public_key_hash(&ours).unwrap();
        assert!(pin.starts_with("sha256:") && pin.len() == 7 + 64, "{pin}");
        let both = format!("{theirs}{ours}");
        assert_eq!(pinned(&both, std::slice::from_ref(&pin)).unwrap().trim(), ours.trim());
        assert!(pinned(&theirs, &[pin]).is_err());
        assert_eq!(pinned(&theirs, &[]).unwrap(), theirs);
        let info = format!(
            "clusters:\n- cluster: {{server: 'https://s:6443', certificate-authority-data: {}}}\n",
            STANDARD.encode(&ours)
        );
        assert_eq!(parse_info(&info).unwrap().authority, ours);
        for bad in
            ["", "x", "clusters: []", "clusters: [{cluster: {server: s, certificate-authority-data: '*'}}]"]
        {
            assert!(parse_info(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn servers_have_addresses() {
        assert_eq!(resolve("https://127.0.0.1:6443").unwrap(), ["127.0.0.1:6443".parse().unwrap()]);
        assert_eq!(resolve("https://[::1]").unwrap(), ["[::1]:6443".parse().unwrap()]);
        for bad in ["127.0.0.1", "http://127.0.0.1", "https://"] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
    }
}
