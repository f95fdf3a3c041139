//! What an API server is told when it starts.

use std::net::IpAddr;
use std::path::PathBuf;

/// Everything comes from the caller, so that several servers can run on one machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address other machines and pods reach this server at; put into the `kubernetes` EndpointSlice.
    pub advertise: IpAddr,
    pub port: u16,
    /// Where cluster IPs come from, such as `10.96.0.0/12`; its first address is the `kubernetes` Service's.
    pub service_cidr: String,
    /// First and last node port, both usable.
    pub node_port_range: (u16, u16),
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// Signs client certificates; without it none is accepted.
    pub client_ca: Option<PathBuf>,
    /// PKCS#8 PEM of the ECDSA P-256 key that signs service-account tokens.
    pub service_account_key: PathBuf,
    /// `iss` of service-account tokens and the address of their discovery document.
    pub issuer: String,
    /// With what this server identifies itself to kubelets.
    pub kubelet_client_cert: PathBuf,
    pub kubelet_client_key: PathBuf,
    /// Signs the serving certificates of kubelets; without it they are not verified.
    pub kubelet_ca: Option<PathBuf>,
    /// Signs the client certificates of front proxies; without it their headers mean nothing.
    pub front_proxy_ca: Option<PathBuf>,
    /// Whether a request without credentials is `system:anonymous` (else it is 401).
    pub anonymous_auth: bool,
    /// Requests in flight beyond these are answered 429; watches and long-running ones are not counted.
    pub max_requests_in_flight: usize,
    pub max_mutating_requests_in_flight: usize,
}

impl Config {
    /// Host and port as clients write them.
    pub fn address(&self) -> String {
        std::net::SocketAddr::new(self.advertise, self.port).to_string()
    }

    /// Kubernetes' own defaults for what is not a path.
    pub const DEFAULT_MAX_IN_FLIGHT: usize = 400;
    pub const DEFAULT_MAX_MUTATING_IN_FLIGHT: usize = 200;
}
