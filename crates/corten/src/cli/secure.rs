//! How the scheduler and the controllers serve health and metrics: flags of upstream's two.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use serving::{Options, Rules};

use super::store::duration;

#[derive(Args, Clone)]
#[command(next_help_heading = "Health and metrics")]
pub struct SecureArgs {
    /// Where health and metrics are served over HTTPS
    #[arg(long, default_value_t = Ipv4Addr::UNSPECIFIED.into(), value_name = "IP")]
    bind_address: IpAddr,
    /// [default: 10259 of the scheduler, 10257 of the controllers; 0 for none]
    #[arg(long, value_name = "PORT")]
    secure_port: Option<u16>,
    /// [default: a certificate that nobody vouches for]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Signs the certificates of clients [default: what the cluster says]
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Do not ask the cluster by what authority clients are known
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    authentication_skip_lookup: bool,
    /// By which the API server is asked about tokens [default: --kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// By which the API server is asked what users may [default: --authentication-kubeconfig]
    #[arg(long, value_name = "FILE")]
    authorization_kubeconfig: Option<PathBuf>,
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    authentication_token_webhook_cache_ttl: Duration,
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    authorization_webhook_cache_authorized_ttl: Duration,
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    authorization_webhook_cache_unauthorized_ttl: Duration,
    /// Paths that are served to everybody
    #[arg(long, value_delimiter = ',', default_values = ["/healthz", "/readyz", "/livez"], value_name = "PATHS")]
    authorization_always_allow_paths: Vec<String>,
}

impl SecureArgs {
    /// By which the API server is asked, where that is another than everything else.
    pub fn kubeconfig(&self) -> Option<&PathBuf> {
        self.authentication_kubeconfig.as_ref().or(self.authorization_kubeconfig.as_ref())
    }

    /// Nothing where nothing is to be served.
    pub fn options(&self, usual_port: u16) -> Option<Options> {
        let port = self.secure_port.unwrap_or(usual_port);
        (port != 0).then(|| Options {
            certificate: self.tls_cert_file.clone().zip(self.tls_private_key_file.clone()),
            client_ca: self.client_ca_file.clone(),
            lookup: !self.authentication_skip_lookup,
            always_allow: self.authorization_always_allow_paths.clone(),
            rules: Rules {
                token: self.authentication_token_webhook_cache_ttl,
                allowed: self.authorization_webhook_cache_authorized_ttl,
                denied: self.authorization_webhook_cache_unauthorized_ttl,
                ..Rules::default()
            },
            ..Options::new(SocketAddr::new(self.bind_address, port))
        })
    }
}
