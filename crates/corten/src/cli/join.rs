//! Becoming a node of a cluster, and no longer being one; who may join.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::ResetArgs;
use crate::join::{Invitation, Token};

#[derive(Args, Clone)]
pub struct JoinArgs {
    /// A server of the cluster to join, as https://HOST:6443; several with commas between
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub server: Vec<String>,
    /// What corten token create has made on a server; needed until the node has a certificate of its own
    #[arg(long, value_name = "TOKEN", env = "CORTEN_TOKEN", hide_env_values = true, requires = "server")]
    pub token: Option<Token>,
    /// The hash of the public key of the cluster's authority, as sha256:HEX; may be repeated
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    pub discovery_token_ca_cert_hash: Vec<String>,
    /// Trust whoever answers as --server; only where nobody else can
    #[arg(long)]
    pub discovery_token_unsafe_skip_ca_verification: bool,
}

impl JoinArgs {
    /// What the flags invite to, if they do.
    pub fn invitation(&self) -> Result<Option<Invitation>> {
        Ok(self.token.as_ref().map(|token| Invitation {
            servers: self.server.clone(),
            token: token.clone(),
            pins: self.discovery_token_ca_cert_hash.clone(),
        }))
    }
}

fn parse_hash(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    match hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => Err("expected sha256: and 64 hexadecimal digits".to_owned()),
    }
}

#[derive(Subcommand, Clone)]
pub enum NodeCommand {
    /// Move the pods of this node elsewhere, as budgets allow, and let no others come
    Drain(DrainArgs),
    /// Let pods come again after a drain
    Uncordon(NodeClientArgs),
    /// Stop Corten, kill the node's pods, and remove everything it made on this machine
    Reset(ResetArgs),
}

#[derive(Args, Clone)]
pub struct NodeClientArgs {
    /// [default: this machine's]
    pub node: Option<String>,
    /// [default: the administrator's or the kubelet's, below the root directory]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct DrainArgs {
    #[command(flatten)]
    pub node: NodeClientArgs,
    /// Also pods that no controller makes again
    #[arg(long)]
    pub force: bool,
    /// Also pods with emptyDir volumes, whose data is lost
    #[arg(long)]
    pub delete_emptydir_data: bool,
    /// Seconds that pods have to end [default: their own]
    #[arg(long, value_name = "SECONDS")]
    pub grace_period: Option<i64>,
    /// Give up after so long; 0 for never
    #[arg(long, default_value = "0", value_name = "DURATION", value_parser = super::store::duration)]
    pub timeout: Duration,
}

#[derive(Args, Clone)]
pub struct TokenArgs {
    /// An administrator's [default: the one below the root directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Subcommand, Clone)]
pub enum TokenCommand {
    /// Make a token by which machines join
    Create {
        /// [default: a random one]
        token: Option<Token>,
        /// How long it is good for; 0 for ever
        #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = super::store::duration)]
        ttl: Duration,
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
        /// Print the whole command that joins a machine
        #[arg(long)]
        print_join_command: bool,
    },
    /// List the tokens
    #[command(alias = "ls")]
    List,
    /// Delete tokens, by their id or whole
    #[command(alias = "rm")]
    Delete {
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// `corten systemd`.
#[derive(Subcommand, Clone)]
pub enum SystemdCommand {
    /// Print a unit that runs `corten ROLE FLAGS`
    Print(UnitArgs),
    /// Write that unit, and start it now and whenever the machine starts
    Install(UnitArgs),
}

#[derive(Args, Clone)]
pub struct UnitArgs {
    /// up, server, node, or a single part
    pub role: String,
    /// Its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub flags: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_have_a_form() {
        let good = format!("sha256:{}", "A".repeat(64));
        assert_eq!(parse_hash(&good).unwrap(), format!("sha256:{}", "a".repeat(64)));
        for bad in ["", "sha256:", "sha1:aa", &format!("sha256:{}", "g".repeat(64))] {
            assert!(parse_hash(bad).is_err(), "{bad}");
        }
    }
}
