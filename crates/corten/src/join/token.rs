//! Bootstrap tokens, as kubeadm has them: `abcdef.0123456789abcdef`, kept as a Secret of kube-system.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

const ID: usize = 6;
const SECRET: usize = 16;
pub const NAMESPACE: &str = "kube-system";
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
pub const PREFIX: &str = "bootstrap-token-";
/// What kubeadm gives to nodes that join.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token. Shown by nothing but [`Token::as_str`]: who has it may join.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good =
            |part: &str, length| part.len() == length && part.bytes().all(|byte| LETTERS.contains(&byte));
        match text.split_once('.') {
            Some((id, secret)) if good(id, ID) && good(secret, SECRET) => Ok(Self(text.to_owned())),
            _ => Err("a token is six lower-case letters and digits, a dot, and sixteen more".to_owned()),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.…", self.id())
    }
}

impl Token {
    pub fn generate() -> Result<Self> {
        let mut random = File::open("/dev/urandom").context("cannot open /dev/urandom")?;
        let mut text = String::new();
        while text.len() < ID + SECRET {
            let mut byte = [0];
            random.read_exact(&mut byte).context("cannot read /dev/urandom")?;
            // So that no letter is likelier than another.
            if usize::from(byte[0]) < LETTERS.len() * (256 / LETTERS.len()) {
                text.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
            }
        }
        text.insert(ID, '.');
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn id(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// Makes the cluster know it; without `life`, for ever.
    pub async fn create(
        &self,
        client: &kube::Client,
        life: Option<Duration>,
        description: &str,
    ) -> Result<()> {
        let secret = self.0.split_once('.').map(|(_, secret)| secret).unwrap_or_default();
        let mut data = json!({
            "token-id": self.id(),
            "token-secret": secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": GROUP,
        });
        if !description.is_empty() {
            data["description"] = json!(description);
        }
        if let Some(life) = life {
            let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
            let end = Timestamp::now().saturating_add(SignedDuration::from_secs(seconds));
            data["expiration"] =
                json!(end.context("the token lives too long")?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        let secret: Secret = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": format!("{PREFIX}{}", self.id()), "namespace": NAMESPACE},
            "type": TYPE,
            "stringData": data,
        }))?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        secrets.create(&PostParams::default(), &secret).await.context("cannot make the token")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_form() {
        assert_eq!("abcdef.0123456789abcdef".parse::<Token>().unwrap().id(), "abcdef");
        for bad in
            ["", "abcdef", "abcde.0123456789abcdef", "Abcdef.0123456789abcdef", "abcdef.0123456789abcde."]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        let (one, two) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert!(one != two && one.as_str().parse::<Token>().is_ok());
        assert!(!format!("{one:?}").contains(one.as_str()));
    }
}
