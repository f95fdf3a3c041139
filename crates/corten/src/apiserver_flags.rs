//! The flags of the API server, under upstream's names, and what they mean for its configuration.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::Config;
use apiserver::admission::plugins::Plugins;
use apiserver::audit::options::{AuditOptions, LogOptions, Mode as AuditMode, WebhookOptions};
use apiserver::authz::modes::{Mode, WebhookOptions as AuthorizationWebhook};
use apiserver::config::TokenWebhook;
use clap::{ArgAction, Args};
use serde_json::{Value, json};
use tracing::warn;

/// Who may come in, what is recorded, how much is served at once. Files are Kubernetes' own formats.
#[derive(Args, Clone)]
#[command(next_help_heading = "API server")]
pub struct ApiServerFlags {
    /// Whether requests without credentials are served as system:anonymous
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    anonymous_auth: Option<bool>,
    /// An AuthenticationConfiguration file, followed while the server runs
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    authentication_config: Option<PathBuf>,
    /// A CSV file of tokens, user names, uids and groups
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    /// A kubeconfig file of the webhook that reviews tokens
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    authentication_token_webhook_version: String,
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    authentication_token_webhook_cache_ttl: Duration,
    /// The issuer of OpenID Connect tokens; an authentication config can do more
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    #[arg(long, value_name = "ID")]
    oidc_client_id: Option<String>,
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    oidc_username_claim: String,
    /// [default: the issuer and '#', unless the claim is email; '-' for none]
    #[arg(long, value_name = "PREFIX")]
    oidc_username_prefix: Option<String>,
    #[arg(long, value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,
    #[arg(long, value_name = "PREFIX", default_value = "")]
    oidc_groups_prefix: String,
    /// A claim that tokens must have; may be repeated
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',')]
    oidc_required_claim: Vec<String>,
    /// Signs the certificates of clients [default: the cluster's own authority]
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Signs the certificates of front proxies [default: the cluster's own]
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    requestheader_allowed_names: Option<Vec<String>>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',')]
    requestheader_username_headers: Option<Vec<String>>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',')]
    requestheader_uid_headers: Option<Vec<String>>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',')]
    requestheader_group_headers: Option<Vec<String>>,
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    requestheader_extra_headers_prefix: Option<Vec<String>>,
    /// The issuer of service-account tokens; others after the first are accepted
    #[arg(long, value_name = "URL")]
    service_account_issuer: Vec<String>,
    /// The key that signs service-account tokens
    #[arg(long, value_name = "FILE")]
    service_account_signing_key_file: Option<PathBuf>,
    /// A key whose service-account tokens are accepted; may be repeated
    #[arg(long, value_name = "FILE")]
    service_account_key_file: Vec<PathBuf>,
    #[arg(long, value_name = "URL")]
    service_account_jwks_uri: Option<String>,
    /// Who tokens must be meant for [default: the issuer]
    #[arg(long, value_name = "AUDIENCES", value_delimiter = ',')]
    api_audiences: Vec<String>,
    /// Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny; asked in this order
    #[arg(
        long,
        value_name = "MODES",
        value_delimiter = ',',
        default_value = "Node,RBAC",
        conflicts_with = "authorization_config"
    )]
    authorization_mode: Vec<String>,
    /// An AuthorizationConfiguration file, followed while the server runs
    #[arg(long, value_name = "FILE")]
    authorization_config: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    authorization_webhook_version: String,
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    authorization_webhook_cache_authorized_ttl: Duration,
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    authorization_webhook_cache_unauthorized_ttl: Duration,
    /// An audit Policy file: without it, nothing is audited
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where audit events are written, '-' for standard output
    #[arg(long, value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    #[arg(long, value_name = "MODE", default_value = "blocking", value_parser = audit_mode)]
    audit_log_mode: AuditMode,
    /// Megabytes after which the audit log is set aside; 0 for never
    #[arg(long, value_name = "MB", default_value_t = 0)]
    audit_log_maxsize: u64,
    /// Days after which old audit logs are removed; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    audit_log_maxage: u64,
    /// Old audit logs that are kept; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    audit_log_maxbackup: usize,
    /// Compress old audit logs
    #[arg(long)]
    audit_log_compress: bool,
    /// A kubeconfig file of the server that audit events are posted to
    #[arg(long, value_name = "FILE")]
    audit_webhook_config_file: Option<PathBuf>,
    #[arg(long, value_name = "MODE", default_value = "batch", value_parser = audit_mode)]
    audit_webhook_mode: AuditMode,
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    audit_webhook_batch_buffer_size: usize,
    #[arg(long, value_name = "COUNT", default_value_t = 400)]
    audit_webhook_batch_max_size: usize,
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    audit_webhook_batch_max_wait: Duration,
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    audit_webhook_initial_backoff: Duration,
    /// Admission plugins that run besides those of every server, such as AlwaysPullImages
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Admission plugins that do not run
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// An AdmissionConfiguration file: what EventRateLimit, ImagePolicyWebhook, PodSecurity and PodTolerationRestriction are told
    #[arg(long, value_name = "FILE")]
    admission_control_config_file: Option<PathBuf>,
    /// An EncryptionConfiguration file: how Secrets and others are encrypted in the store
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    /// Signs the serving certificates of kubelets; without it they are not verified
    #[arg(long, value_name = "FILE")]
    kubelet_certificate_authority: Option<PathBuf>,
    /// Requests served at once, with those of --max-mutating-requests-inflight
    #[arg(long, value_name = "COUNT", default_value_t = Config::DEFAULT_MAX_IN_FLIGHT)]
    max_requests_inflight: usize,
    #[arg(long, value_name = "COUNT", default_value_t = Config::DEFAULT_MAX_MUTATING_IN_FLIGHT)]
    max_mutating_requests_inflight: usize,
    /// Whether requests beyond those wait their turn by FlowSchemas
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    enable_priority_and_fairness: Option<bool>,
    /// So long the server goes on when it is to stop, so that load balancers see that /readyz fails
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    shutdown_delay_duration: Duration,
    /// Accepted so that configurations of kube-apiserver work; features are as by default
    #[arg(long, value_name = "GATE=BOOL", value_delimiter = ',')]
    feature_gates: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    apiserver::options::go_duration(text).ok_or_else(|| "expected a duration such as 30s or 1m30s".to_owned())
}

fn audit_mode(text: &str) -> Result<AuditMode, String> {
    match text {
        "batch" => Ok(AuditMode::Batch),
        "blocking" => Ok(AuditMode::Blocking),
        "blocking-strict" => Ok(AuditMode::BlockingStrict),
        _ => Err("expected batch, blocking or blocking-strict".to_owned()),
    }
}

impl ApiServerFlags {
    /// The configuration with what the flags say.
    pub fn apply(&self, mut config: Config) -> Result<Config> {
        for gate in &self.feature_gates {
            warn!(gate, "feature gates are not known here: features are as upstream has them by default");
        }
        self.apply_authentication(&mut config)?;
        self.apply_authorization(&mut config)?;
        config.audit = self.audit();
        config.admission = Plugins::new(&self.enable_admission_plugins, &self.disable_admission_plugins)?;
        config.admission_config.clone_from(&self.admission_control_config_file);
        // As upstream: kubelets that join have certificates of their own making.
        config.kubelet_ca.clone_from(&self.kubelet_certificate_authority);
        config.encryption_config.clone_from(&self.encryption_provider_config);
        config.max_requests_in_flight = self.max_requests_inflight;
        config.max_mutating_requests_in_flight = self.max_mutating_requests_inflight;
        config.shutdown_delay = self.shutdown_delay_duration;
        config.priority_and_fairness = self.enable_priority_and_fairness.unwrap_or(true);
        Ok(config)
    }

    fn apply_authentication(&self, config: &mut Config) -> Result<()> {
        config.anonymous_auth = self.anonymous_auth.unwrap_or(true);
        config.authentication_config.clone_from(&self.authentication_config);
        config.token_auth_file.clone_from(&self.token_auth_file);
        config.oidc = self.oidc()?;
        config.token_webhook =
            self.authentication_token_webhook_config_file.clone().map(|kubeconfig| TokenWebhook {
                kubeconfig,
                version: self.authentication_token_webhook_version.clone(),
                cache_ttl: self.authentication_token_webhook_cache_ttl,
            });
        let replace = |place: &mut Option<PathBuf>, given: &Option<PathBuf>| {
            if given.is_some() {
                place.clone_from(given);
            }
        };
        replace(&mut config.client_ca, &self.client_ca_file);
        replace(&mut config.front_proxy_ca, &self.requestheader_client_ca_file);
        let headers = &mut config.request_header;
        for (place, given) in [
            (&mut headers.allowed_names, &self.requestheader_allowed_names),
            (&mut headers.user, &self.requestheader_username_headers),
            (&mut headers.uid, &self.requestheader_uid_headers),
            (&mut headers.group, &self.requestheader_group_headers),
            (&mut headers.extra_prefix, &self.requestheader_extra_headers_prefix),
        ] {
            if let Some(given) = given {
                *place = given.iter().filter(|name| !name.is_empty()).cloned().collect();
            }
        }
        if let Some((first, others)) = self.service_account_issuer.split_first() {
            config.issuer.clone_from(first);
            config.former_issuers = others.to_vec();
        }
        if let Some(key) = &self.service_account_signing_key_file {
            config.service_account_key.clone_from(key);
        }
        config.service_account_verification_keys.clone_from(&self.service_account_key_file);
        config.jwks_uri.clone_from(&self.service_account_jwks_uri);
        config.api_audiences.clone_from(&self.api_audiences);
        Ok(())
    }

    /// As an entry of an AuthenticationConfiguration.
    fn oidc(&self) -> Result<Option<Value>> {
        let Some(url) = &self.oidc_issuer_url else { return Ok(None) };
        let mut issuer = json!({"url": url, "audiences": [self.oidc_client_id]});
        if let Some(path) = &self.oidc_ca_file {
            let pem = std::fs::read_to_string(path)
                .with_context(|| format!("--oidc-ca-file {}", path.display()))?;
            issuer["certificateAuthority"] = json!(pem);
        }
        let claim = &self.oidc_username_claim;
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if claim == "email" => String::new(),
            None => format!("{url}#"),
        };
        let mut mappings = json!({"username": {"claim": claim, "prefix": prefix}});
        if let Some(groups) = &self.oidc_groups_claim {
            mappings["groups"] = json!({"claim": groups, "prefix": self.oidc_groups_prefix});
        }
        let mut rules = Vec::new();
        for required in &self.oidc_required_claim {
            let Some((claim, value)) = required.split_once('=') else {
                bail!("--oidc-required-claim {required:?}: expected claim=value");
            };
            rules.push(json!({"claim": claim, "requiredValue": value}));
        }
        Ok(Some(json!({"issuer": issuer, "claimMappings": mappings, "claimValidationRules": rules})))
    }

    fn apply_authorization(&self, config: &mut Config) -> Result<()> {
        let options = &mut config.authorization;
        options.config.clone_from(&self.authorization_config);
        options.modes = self
            .authorization_mode
            .iter()
            .map(|name| {
                Mode::from_name(name).with_context(|| format!("--authorization-mode: unknown mode {name:?}"))
            })
            .collect::<Result<_>>()?;
        options.webhook =
            self.authorization_webhook_config_file.clone().map(|kubeconfig| AuthorizationWebhook {
                kubeconfig,
                version: self.authorization_webhook_version.clone(),
                authorized_ttl: self.authorization_webhook_cache_authorized_ttl,
                unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl,
            });
        Ok(())
    }

    fn audit(&self) -> AuditOptions {
        AuditOptions {
            policy_file: self.audit_policy_file.clone(),
            log: self.audit_log_path.as_ref().map(|path| LogOptions {
                mode: self.audit_log_mode,
                max_size: self.audit_log_maxsize,
                max_age: self.audit_log_maxage,
                max_backups: self.audit_log_maxbackup,
                compress: self.audit_log_compress,
                ..LogOptions::new(path.clone())
            }),
            webhook: self.audit_webhook_config_file.as_ref().map(|kubeconfig| {
                let mut options = WebhookOptions::new(kubeconfig.clone());
                options.mode = self.audit_webhook_mode;
                options.batching.buffer = self.audit_webhook_batch_buffer_size;
                options.batching.max_size = self.audit_webhook_batch_max_size;
                options.batching.max_wait = self.audit_webhook_batch_max_wait;
                options.initial_backoff = self.audit_webhook_initial_backoff;
                options
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: ApiServerFlags,
    }

    fn config(arguments: &[&str]) -> Result<Config> {
        let cli = Cli::try_parse_from([&["x"], arguments].concat())?;
        cli.flags.apply(Config::local(std::path::Path::new("/pki"), 6443))
    }

    #[test]
    fn defaults_are_upstreams() {
        let config = config(&[]).expect("no flags are fine");
        assert!(config.anonymous_auth && config.priority_and_fairness && config.oidc.is_none());
        assert_eq!(config.authorization.modes, [Mode::Node, Mode::Rbac]);
        assert_eq!(config.request_header.user, ["X-Remote-User"]);
        assert!(config.audit.policy_file.is_none());
    }

    #[test]
    fn flags_of_kube_apiserver() {
        let config = config(&[
            "--anonymous-auth=false",
            "--authorization-mode=RBAC,AlwaysDeny",
            "--audit-policy-file=/p",
            "--audit-log-path=/l",
            "--audit-log-maxsize=5",
            "--audit-log-mode=batch",
            "--oidc-issuer-url=https://i",
            "--oidc-client-id=c",
            "--oidc-required-claim=hd=x",
            "--requestheader-allowed-names=a,b",
            "--service-account-issuer=https://new",
            "--service-account-issuer=https://old",
            "--api-audiences=a,b",
            "--feature-gates=A=true,B=false",
            "--enable-admission-plugins=NodeRestriction,AlwaysPullImages",
            "--disable-admission-plugins=PodSecurity",
            "--authorization-webhook-cache-authorized-ttl=1m30s",
        ])
        .expect("good flags");
        assert!(!config.anonymous_auth);
        assert_eq!(config.authorization.modes, [Mode::Rbac, Mode::AlwaysDeny]);
        let runs = ["AlwaysPullImages", "PodSecurity"].map(|plugin| config.admission.run(plugin));
        assert_eq!(runs, [true, false]);
        let log = config.audit.log.expect("a log");
        assert_eq!((log.max_size, log.mode), (5, AuditMode::Batch));
        let oidc = config.oidc.expect("an issuer");
        assert_eq!(oidc["claimMappings"]["username"]["prefix"], "https://i#");
        assert_eq!(config.request_header.allowed_names, ["a", "b"]);
        assert_eq!((config.issuer.as_str(), config.former_issuers.len()), ("https://new", 1));
        assert_eq!(config.api_audiences, ["a", "b"]);
    }

    #[test]
    fn bad_flags() {
        for bad in [
            &["--authorization-mode=ABAC"][..],
            &["--audit-log-mode=never"],
            &["--oidc-issuer-url=https://i"],
            &["--oidc-issuer-url=https://i", "--oidc-client-id=c", "--oidc-required-claim=x"],
            &["--authorization-config=/a", "--authorization-mode=RBAC"],
            &["--audit-webhook-initial-backoff=soon"],
        ] {
            assert!(config(bad).is_err(), "{bad:?}");
        }
    }
}
