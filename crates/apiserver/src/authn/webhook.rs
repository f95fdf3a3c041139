//! Users by tokens that a webhook reviews.

use std::time::Duration;

use serde_json::{Value, json};

use super::remembered::{self, Remembered};
use super::{TokenUser, UserInfo};
use crate::access_review;
use crate::admission::objects::items;
use crate::config::TokenWebhook;
use crate::outbound::client::{CallError, Client, ClientError};

/// For one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 4;

/// A webhook with what it has said lately.
pub struct Webhook {
    client: Client,
    version: String,
    ttl: Duration,
    known: Remembered<Result<Reviewed, String>>,
}

#[derive(Clone)]
struct Reviewed {
    user: UserInfo,
    audiences: Vec<String>,
}

impl Webhook {
    pub fn new(options: &TokenWebhook) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::from_kubeconfig(&options.kubeconfig)?,
            version: options.version.clone(),
            ttl: options.cache_ttl,
            known: Remembered::default(),
        })
    }

    /// The user of a token that is meant for one of `wanted`; the error says why there is none.
    pub async fn user(&self, token: &str, wanted: &[String]) -> Result<TokenUser, String> {
        let spec = json!({"token": token, "audiences": wanted});
        let key = remembered::key(spec.to_string().as_bytes());
        let answer = match self.known.get(&key) {
            Some(answer) => answer,
            None => {
                let review = self.ask(&spec).await.map_err(|error| error.to_string())?;
                let answer = read(&review, wanted);
                self.known.put(key, answer.clone(), self.ttl);
                answer
            }
        };
        answer.map(|Reviewed { user, audiences }| TokenUser { user, audiences })
    }

    async fn ask(&self, spec: &Value) -> Result<Value, CallError> {
        let review = json!({
            "apiVersion": format!("authentication.k8s.io/{}", self.version), "kind": "TokenReview",
            "metadata": {}, "spec": spec,
        });
        self.client.post_repeatedly(&review, TIMEOUT, ATTEMPTS).await
    }
}

fn read(review: &Value, wanted: &[String]) -> Result<Reviewed, String> {
    let status = &review["status"];
    if status["authenticated"].as_bool() != Some(true) {
        let reason = status["error"].as_str().unwrap_or("the webhook does not know the token");
        return Err(reason.chars().take(1024).collect());
    }
    let mut user = access_review::user(&status["user"]);
    if user.name.is_empty() {
        return Err("the webhook named no user".to_owned());
    }
    user.add_authenticated();
    // A webhook that knows nothing of audiences speaks for this server.
    let named: Vec<String> =
        items(&status["audiences"]).filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences: Vec<String> = match named.is_empty() {
        true => wanted.to_vec(),
        false => wanted.iter().filter(|audience| named.contains(audience)).cloned().collect(),
    };
    match audiences.is_empty() {
        true => Err("the webhook says that the token is for others".to_owned()),
        false => Ok(Reviewed { user, audiences }),
    }
}
