//! What an API server is told when it starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::admission::plugins::Plugins;
use crate::audit::options::AuditOptions;
use crate::authn::request_header::RequestHeader;
use crate::authz::modes::AuthorizationOptions;
use crate::outbound::Inside;

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
    /// PKCS#8 PEM of the ECDSA P-256 or RSA key that signs service-account tokens.
    pub service_account_key: PathBuf,
    /// More keys whose tokens are accepted: retired ones, or those of other servers.
    pub service_account_verification_keys: Vec<PathBuf>,
    /// `iss` of service-account tokens and the address of their discovery document.
    pub issuer: String,
    /// Issuers whose tokens are accepted as well: what `issuer` was before.
    pub former_issuers: Vec<String>,
    /// Where others find the public keys [default: on this server].
    pub jwks_uri: Option<String>,
    /// Who tokens must be meant for; `issuer` when empty.
    pub api_audiences: Vec<String>,
    /// With what this server identifies itself to kubelets.
    pub kubelet_client_cert: PathBuf,
    pub kubelet_client_key: PathBuf,
    /// Signs the serving certificates of kubelets; without it they are not verified.
    pub kubelet_ca: Option<PathBuf>,
    /// Verifies the certificates of those kubelets whose Nodes say that the cluster has signed them, where `kubelet_ca`
    /// does not verify all.
    pub kubelet_serving_ca: Option<PathBuf>,
    /// Signs the client certificates of front proxies; without it their headers mean nothing.
    pub front_proxy_ca: Option<PathBuf>,
    /// What the headers of front proxies are called.
    pub request_header: RequestHeader,
    /// With what this server identifies itself, as a front proxy, to the servers that it aggregates.
    pub proxy_client_cert: Option<PathBuf>,
    pub proxy_client_key: Option<PathBuf>,
    /// Aggregated APIs that other parts of this process serve.
    pub inside: Inside,
    /// Whether a request without credentials is `system:anonymous` (else it is 401).
    pub anonymous_auth: bool,
    /// An AuthenticationConfiguration, followed while the server runs.
    pub authentication_config: Option<PathBuf>,
    /// The same issuers as by an AuthenticationConfiguration, from `--oidc-*` flags.
    pub oidc: Option<serde_json::Value>,
    /// Tokens, users, uids and groups as CSV.
    pub token_auth_file: Option<PathBuf>,
    /// A kubeconfig of the webhook that tokens are reviewed by.
    pub token_webhook: Option<TokenWebhook>,
    pub authorization: AuthorizationOptions,
    pub audit: AuditOptions,
    /// The admission plugins that run.
    pub admission: Plugins,
    /// An AdmissionConfiguration: what some of them are told.
    pub admission_config: Option<PathBuf>,
    /// An EncryptionConfiguration, followed while the server runs.
    pub encryption_config: Option<PathBuf>,
    /// Requests served at once, by priority and fairness; watches and long-running ones are not counted.
    pub max_requests_in_flight: usize,
    pub max_mutating_requests_in_flight: usize,
    /// Whether requests beyond those wait their turn by FlowSchemas; else they are answered 429.
    pub priority_and_fairness: bool,
    /// So long the server goes on when it is to stop, while `/readyz` says that it is not ready.
    pub shutdown_delay: Duration,
    /// As `/flagz` tells how the server was started; without what is secret.
    pub flags: BTreeMap<String, String>,
}

/// A webhook that says whose a token is.
#[derive(Clone, Debug)]
pub struct TokenWebhook {
    pub kubeconfig: PathBuf,
    /// `v1` or `v1beta1` of `authentication.k8s.io`.
    pub version: String,
    pub cache_ttl: Duration,
}

impl Config {
    /// A server whose certificates and keys are in `directory` under the names that kubeadm made customary, with
    /// Kubernetes' own defaults for everything else.
    pub fn from_pki(directory: &Path, advertise: IpAddr, port: u16) -> Self {
        let file = |name: &str| directory.join(name);
        Self {
            advertise,
            port,
            service_cidr: "10.96.0.0/12".to_owned(),
            node_port_range: (30000, 32767),
            tls_cert: file("apiserver.crt"),
            tls_key: file("apiserver.key"),
            client_ca: Some(file("ca.crt")),
            service_account_key: file("sa.key"),
            service_account_verification_keys: Vec::new(),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            former_issuers: Vec::new(),
            jwks_uri: None,
            api_audiences: Vec::new(),
            kubelet_client_cert: file("apiserver-kubelet-client.crt"),
            kubelet_client_key: file("apiserver-kubelet-client.key"),
            kubelet_ca: Some(file("ca.crt")),
            kubelet_serving_ca: Some(file("ca.crt")),
            front_proxy_ca: Some(file("front-proxy-ca.crt")),
            request_header: RequestHeader::default(),
            proxy_client_cert: Some(file("front-proxy-client.crt")),
            proxy_client_key: Some(file("front-proxy-client.key")),
            inside: Inside::default(),
            anonymous_auth: true,
            authentication_config: None,
            oidc: None,
            token_auth_file: None,
            token_webhook: None,
            authorization: AuthorizationOptions::default(),
            audit: AuditOptions::default(),
            admission: Plugins::default(),
            admission_config: None,
            encryption_config: None,
            max_requests_in_flight: Self::DEFAULT_MAX_IN_FLIGHT,
            max_mutating_requests_in_flight: Self::DEFAULT_MAX_MUTATING_IN_FLIGHT,
            priority_and_fairness: true,
            shutdown_delay: Duration::ZERO,
            flags: BTreeMap::new(),
        }
    }

    /// As [`Self::from_pki`], for clients on this machine alone.
    pub fn local(directory: &Path, port: u16) -> Self {
        Self::from_pki(directory, Ipv4Addr::LOCALHOST.into(), port)
    }

    /// Host and port as clients write them.
    pub fn address(&self) -> String {
        std::net::SocketAddr::new(self.advertise, self.port).to_string()
    }

    /// Kubernetes' own defaults for what is not a path.
    pub const DEFAULT_MAX_IN_FLIGHT: usize = 400;
    pub const DEFAULT_MAX_MUTATING_IN_FLIGHT: usize = 200;
}
