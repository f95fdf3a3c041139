//! `corten token`: who may join.

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::token::{NAMESPACE, PREFIX, TYPE};
use super::{Invitation, Token};
use crate::cli::{TokenArgs, TokenCommand};
use crate::layout::Layout;

pub async fn run(layout: &Layout, args: TokenArgs) -> Result<()> {
    let kubeconfig = args.kubeconfig.unwrap_or_else(|| layout.admin_kubeconfig());
    let client = client::from_kubeconfig(&kubeconfig, "corten")
        .await
        .context("tokens are made on a server, or with an administrator's --kubeconfig")?;
    match args.command {
        TokenCommand::Create { token, ttl, description, print_join_command } => {
            let token = match token {
                Some(token) => token,
                None => Token::generate()?,
            };
            token.create(&client, Some(ttl).filter(|ttl| !ttl.is_zero()), &description).await?;
            if !print_join_command {
                println!("{}", token.as_str());
                return Ok(());
            }
            let info = super::discovery::cluster_info(&client).await?;
            let invitation = Invitation {
                servers: vec![info.server],
                token,
                pins: vec![pki::public_key_hash(&info.authority)?],
            };
            println!("corten node {}", invitation.flags().join(" "));
        }
        TokenCommand::List => list(&client).await?,
        TokenCommand::Delete { tokens } => {
            let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
            for token in tokens {
                // By its id or whole, as kubeadm takes it.
                let id = token.split('.').next().unwrap_or_default();
                if id.len() != 6 {
                    bail!("{id:?} is no token's id: six letters and digits");
                }
                secrets
                    .delete(&format!("{PREFIX}{id}"), &DeleteParams::default())
                    .await
                    .with_context(|| format!("cannot delete token {id}"))?;
                println!("deleted token {id}");
            }
        }
    }
    Ok(())
}

async fn list(client: &kube::Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let parameters = ListParams::default().fields(&format!("type={TYPE}"));
    println!("{:<25} {:<22} {:<24} DESCRIPTION", "TOKEN", "EXPIRES", "USAGES");
    for secret in secrets.list(&parameters).await.context("cannot list the tokens")? {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            let value = data.get(key).map(|ByteString(bytes)| String::from_utf8_lossy(bytes).into_owned());
            value.unwrap_or_default()
        };
        let usages = ["authentication", "signing"];
        let usages = usages.into_iter().filter(|usage| text(&format!("usage-bootstrap-{usage}")) == "true");
        let expires =
            Some(text("expiration")).filter(|time| !time.is_empty()).unwrap_or_else(|| "never".into());
        println!(
            "{:<25} {expires:<22} {:<24} {}",
            format!("{}.{}", text("token-id"), text("token-secret")),
            usages.collect::<Vec<_>>().join(","),
            text("description")
        );
    }
    Ok(())
}
