//! Credential provider plugins: programs that know credentials for registries, such as those of a cloud.
//!
//! `--image-credential-provider-config` names them, `--image-credential-provider-bin-dir` is where they are. A provider is
//! run for images that it says it knows; its answer is kept for as long as it says. One with `tokenAttributes` is shown a
//! token of the pod's service account, and what it answers is for that account alone.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tracing::warn;

use super::credentials::{Credential, Source, fits};
use super::records::PullAccount;
use super::reference::repository;
use crate::config::{KubeletConfiguration, duration};
use crate::meters;
use crate::pod::ext::PodExt;
use crate::token_request;

const LONGEST: Duration = Duration::from_secs(60);
/// Larger answers are none.
const MOST: u64 = 1 << 20;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    providers: Vec<Provider>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Provider {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: String,
    api_version: String,
    args: Vec<String>,
    env: Vec<EnvVar>,
    token_attributes: Option<TokenAttributes>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct EnvVar {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TokenAttributes {
    service_account_token_audience: String,
    require_service_account: bool,
    required_service_account_annotation_keys: Vec<String>,
    optional_service_account_annotation_keys: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    api_version: &'a str,
    kind: &'static str,
    image: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    service_account_token: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_account_annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Response {
    kind: String,
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: BTreeMap<String, Auth>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    username: String,
    password: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

/// Provider, the part of the image that counts, and the account that was shown.
type Key = (String, String, Option<PullAccountKey>);
type PullAccountKey = (String, String, String);

struct Kept {
    auth: BTreeMap<String, Auth>,
    until: Instant,
}

pub struct Providers {
    client: kube::Client,
    bin_dir: PathBuf,
    all: Vec<Provider>,
    kept: tokio::sync::Mutex<HashMap<Key, Kept>>,
}

impl Providers {
    pub fn new(config: &KubeletConfiguration, client: kube::Client) -> Result<Self, String> {
        let path = &config.image_credential_provider_config;
        let mut all = Vec::new();
        if !path.as_os_str().is_empty() {
            let bad = |error: &dyn std::fmt::Display| {
                format!("cannot use the credential provider configuration {}: {error}", path.display())
            };
            let text = std::fs::read_to_string(path).map_err(|error| bad(&error))?;
            let read: Config = serde_saphyr::from_str(&text).map_err(|error| bad(&error))?;
            all = read.providers;
            for provider in &all {
                if provider.name.is_empty()
                    || provider.name.contains(['/', ' '])
                    || provider.name.starts_with('.')
                {
                    return Err(bad(&format!("{:?} is not the name of a program", provider.name)));
                }
            }
        }
        let bin_dir = config.image_credential_provider_bin_dir.clone();
        Ok(Self { client, bin_dir, all, kept: tokio::sync::Mutex::default() })
    }

    fn matching(&self, image: &str) -> impl Iterator<Item = &Provider> {
        let repository = repository(image);
        self.all.iter().filter(move |provider| {
            provider.match_images.iter().any(|pattern| matches_image(pattern, &repository))
        })
    }

    /// The pod's service account, if some provider would be shown its token.
    pub async fn account(&self, pod: &Pod, image: &str) -> Option<PullAccount> {
        let mut matching = self.matching(image);
        matching.find(|provider| provider.token_attributes.is_some())?;
        let account = self.service_account(pod).await.ok()?;
        Some(pull_account(pod, &account))
    }

    /// What the providers that know the image answer.
    pub async fn credentials(&self, pod: &Pod, image: &str) -> Vec<Credential> {
        let mut found = Vec::new();
        for provider in self.matching(image) {
            match self.ask(provider, pod, image).await {
                Ok((auth, source)) => {
                    // The most particular registry first.
                    let fitting = auth.into_iter().rev().filter(|(registry, _)| {
                        fits(registry, image) || matches_image(registry, &repository(image))
                    });
                    found.extend(fitting.map(|(_, auth)| Credential {
                        auth: cri::AuthConfig {
                            username: auth.username,
                            password: auth.password,
                            ..Default::default()
                        },
                        source: source.clone(),
                    }));
                }
                Err(error) => {
                    warn!(provider = provider.name, image, error, "a credential provider has failed")
                }
            }
        }
        found
    }

    async fn service_account(&self, pod: &Pod) -> Result<ServiceAccount, String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod.namespace());
        let name = pod.pod_spec().service_account_name.as_deref().unwrap_or("default");
        api.get(name).await.map_err(|error| format!("cannot get service account {name:?}: {error}"))
    }

    async fn ask(
        &self,
        provider: &Provider,
        pod: &Pod,
        image: &str,
    ) -> Result<(BTreeMap<String, Auth>, Source), String> {
        let mut account = None;
        if let Some(wanted) = &provider.token_attributes {
            let has_one = pod.pod_spec().service_account_name.as_deref().is_some_and(|name| !name.is_empty());
            if has_one {
                account = Some((wanted, self.service_account(pod).await?));
            } else if wanted.require_service_account {
                return Ok((BTreeMap::new(), Source::Node));
            }
        }
        let source = match &account {
            Some((_, account)) => Source::Account(pull_account(pod, account)),
            None => Source::Node,
        };
        let whose = match &source {
            Source::Account(account) => {
                Some((account.uid.clone(), account.namespace.clone(), account.name.clone()))
            }
            _ => None,
        };
        let repository = repository(image);
        let registry = repository.split('/').next().unwrap_or_default().to_owned();
        let keys =
            [repository, registry, String::new()].map(|part| (provider.name.clone(), part, whose.clone()));
        // One at a time: a hundred pods of one registry ask once.
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        kept.retain(|_, kept| kept.until > now);
        if let Some(known) = keys.iter().find_map(|key| kept.get(key)) {
            return Ok((known.auth.clone(), source));
        }
        let mut request = Request {
            api_version: &provider.api_version,
            kind: "CredentialProviderRequest",
            image,
            service_account_token: String::new(),
            service_account_annotations: BTreeMap::new(),
        };
        if let Some((wanted, account)) = account {
            request.service_account_annotations = annotations(wanted, &account)?;
            request.service_account_token = self.token(wanted, pod, &account).await?;
        }
        let response = self.run(provider, &request).await?;
        let life = response.cache_duration.as_deref().unwrap_or(&provider.default_cache_duration);
        let life = duration(life).unwrap_or_default();
        let [by_image, by_registry, global] = keys;
        let key = match response.cache_key_type.as_str() {
            "Image" => Some(by_image),
            "Registry" => Some(by_registry),
            "Global" => Some(global),
            _ => None,
        };
        if let Some(key) = key.filter(|_| !life.is_zero()) {
            kept.insert(key, Kept { auth: response.auth.clone(), until: now + life });
        }
        Ok((response.auth, source))
    }

    async fn token(
        &self,
        wanted: &TokenAttributes,
        pod: &Pod,
        account: &ServiceAccount,
    ) -> Result<String, String> {
        let name = account.metadata.name.clone().unwrap_or_default();
        let audiences = vec![wanted.service_account_token_audience.clone()];
        let request = token_request::bound_to(pod, Some(audiences), 600);
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod.namespace());
        let answer = api.create_token_request(&name, &PostParams::default(), &request).await;
        let answer =
            answer.map_err(|error| format!("cannot get a token of service account {name:?}: {error}"))?;
        answer.status.map(|status| status.token).unwrap_or_default().ok_or_else(|| "there is no token".into())
    }

    async fn run(&self, provider: &Provider, request: &Request<'_>) -> Result<Response, String> {
        let began = Instant::now();
        let result = self.run_program(provider, request).await;
        let labels = [("plugin_name", provider.name.as_str())];
        meters::observe("kubelet_credential_provider_plugin_duration", &labels, began.elapsed());
        if result.is_err() {
            meters::count("kubelet_credential_provider_plugin_errors", &labels);
        }
        result
    }

    async fn run_program(&self, provider: &Provider, request: &Request<'_>) -> Result<Response, String> {
        let path = self.bin_dir.join(&provider.name);
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut command = tokio::process::Command::new(&path);
        command.args(&provider.args).envs(provider.env.iter().map(|var| (&var.name, &var.value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let input = serde_json::to_vec(request).map_err(|error| failed(&error))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let talk = async {
            if let Some(mut stdin) = stdin {
                // One that does not read what it is asked may still answer.
                let _ = stdin.write_all(&input).await;
            }
            let mut answer = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(MOST).read_to_end(&mut answer).await?;
            }
            Ok::<_, std::io::Error>((answer, child.wait().await?))
        };
        let (answer, status) = tokio::time::timeout(LONGEST, talk)
            .await
            .map_err(|_| failed(&"it has not answered in a minute"))?
            .map_err(|error| failed(&error))?;
        if !status.success() {
            return Err(failed(&status));
        }
        let response: Response = serde_json::from_slice(&answer).map_err(|error| failed(&error))?;
        if response.kind != "CredentialProviderResponse" {
            return Err(failed(&format!("its answer is a {:?}", response.kind)));
        }
        Ok(response)
    }
}

fn pull_account(pod: &Pod, account: &ServiceAccount) -> PullAccount {
    PullAccount {
        uid: account.metadata.uid.clone().unwrap_or_default(),
        namespace: pod.namespace().to_owned(),
        name: account.metadata.name.clone().unwrap_or_default(),
    }
}

fn annotations(
    wanted: &TokenAttributes,
    account: &ServiceAccount,
) -> Result<BTreeMap<String, String>, String> {
    let all = account.metadata.annotations.clone().unwrap_or_default();
    if let Some(missing) =
        wanted.required_service_account_annotation_keys.iter().find(|key| !all.contains_key(*key))
    {
        return Err(format!("the service account has no annotation {missing:?}, which is required"));
    }
    let keys = || {
        let required = wanted.required_service_account_annotation_keys.iter();
        required.chain(&wanted.optional_service_account_annotation_keys)
    };
    Ok(all.into_iter().filter(|(key, _)| keys().any(|wanted| wanted == key)).collect())
}

/// `*.registry.io:8080/path`: as many parts of the host, each as the pattern says; the same port; the beginning of the path.
pub(super) fn matches_image(pattern: &str, repository: &str) -> bool {
    let pattern = pattern.strip_prefix("https://").or(pattern.strip_prefix("http://")).unwrap_or(pattern);
    let split = |text: &str| -> (String, String, String) {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = host.split_once(':').unwrap_or((host, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let (host, port, path) = split(pattern);
    let (other_host, other_port, other_path) = split(repository);
    let (parts, others) = (host.split('.').collect::<Vec<_>>(), other_host.split('.').collect::<Vec<_>>());
    port == other_port
        && other_path.starts_with(&path)
        && parts.len() == others.len()
        && parts.iter().zip(&others).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
}

/// Stars stand for anything. Goes back to the last star only, which is enough.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if Some(byte) == text.get(from) => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((back, begun)) => {
                    *begun += 1;
                    at = *back + 1;
                    from = *begun;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn patterns() {
        let check = |pattern: &str, image: &str, expected: bool| {
            assert_eq!(matches_image(pattern, &repository(image)), expected, "{pattern} {image}");
        };
        check("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/a:1", true);
        check("*.azurecr.io", "azurecr.io/a", false);
        check("*.azurecr.io", "a.b.azurecr.io/a", false);
        check("app*.registry.io/team", "apple.registry.io/team/x:1", true);
        check("app*.registry.io/team", "apple.registry.io/x:1", false);
        check("registry.io:8080/path", "registry.io/path/x", false);
        check("docker.io", "busybox", true);
    }

    #[test]
    fn stars() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*a*", "xax", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[tokio::test]
    async fn a_program_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("knows");
        let script = "#!/bin/sh\nread -r line\necho \"$line\" >>\"$0.asked\"\necho '{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"cacheKeyType\":\"Registry\",\"cacheDuration\":\"1h\",\"auth\":{\"reg.example\":{\"username\":\"u\",\"password\":\"'$SECRET'\"}}}'\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(
            &path,
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- {name: knows, matchImages: [reg.example], defaultCacheDuration: 1m, apiVersion: credentialprovider.kubelet.k8s.io/v1, env: [{name: SECRET, value: p}]}\n",
        )
        .unwrap();
        let config = KubeletConfiguration {
            image_credential_provider_config: path,
            image_credential_provider_bin_dir: dir.path().to_owned(),
            ..Default::default()
        };
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody is asked"))
        });
        let providers = Providers::new(&config, kube::Client::new(service, "default")).unwrap();
        let pod = Pod::default();
        let first = providers.credentials(&pod, "reg.example/a:1").await;
        assert_eq!((first.len(), first[0].auth.password.as_str()), (1, "p"));
        assert_eq!(first[0].source, Source::Node);
        assert_eq!(providers.credentials(&pod, "reg.example/b:1").await.len(), 1);
        assert!(providers.credentials(&pod, "other.example/b:1").await.is_empty());
        let asked = std::fs::read_to_string(dir.path().join("knows.asked")).unwrap();
        assert_eq!(asked.lines().count(), 1, "{asked}");
        assert!(asked.contains("\"image\":\"reg.example/a:1\""), "{asked}");
    }
}
