//! Health, metrics and configuration of the scheduler and the controllers, over HTTPS.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use serving::{Component, Options};
use tracing::warn;

use crate::cli::SecureArgs;
use crate::parts::Parts;

/// Where the pages of a component are, and by whom the API server is asked who may see them.
pub struct Pages {
    options: Option<Options>,
    client: kube::Client,
    /// It is what the process is for: a port that is taken ends it.
    alone: bool,
}

impl Pages {
    /// In one process with the API server: for this machine, as kubeadm has it.
    pub fn beside(client: kube::Client, port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { options: Some(Options::new(address)), client, alone: false }
    }

    /// As the flags of a process of its own say.
    pub async fn alone(args: &SecureArgs, client: kube::Client, port: u16) -> Result<Self> {
        let client = match args.kubeconfig() {
            Some(kubeconfig) => client::from_kubeconfig(kubeconfig, "corten")
                .await
                .context("cannot reach the API server that knows who may see metrics")?,
            None => client,
        };
        Ok(Self { options: args.options(port), client, alone: true })
    }

    pub fn start(self, parts: &mut Parts, component: Component) {
        let Some(options) = self.options else { return };
        let name = component.name;
        let serving = serving::component::serve(component, options, self.client, parts.shutdown());
        if self.alone {
            parts.start(name, serving);
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                warn!(%error, "no metrics of the {name}");
            }
        });
    }
}

/// The flags of this process, but for what is secret.
pub fn flags() -> BTreeMap<String, String> {
    parse(std::env::args().skip(1))
}

fn parse(arguments: impl Iterator<Item = String>) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut last: Option<String> = None;
    for argument in arguments {
        let Some(flag) = argument.strip_prefix("--") else {
            if let Some(flag) = last.take() {
                flags.insert(flag, argument);
            }
            continue;
        };
        match flag.split_once('=') {
            Some((flag, value)) => {
                last = None;
                flags.insert(flag.to_owned(), value.to_owned());
            }
            None => {
                flags.insert(flag.to_owned(), "true".to_owned());
                last = Some(flag.to_owned());
            }
        }
    }
    for (flag, value) in &mut flags {
        if flag == "token" || flag.contains("password") {
            "REDACTED".clone_into(value);
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_and_secrets_are_not() {
        let line = "scheduler --leader-elect=false --kubeconfig /k --verbose --token abc --last";
        let flags = parse(line.split(' ').map(str::to_owned));
        let told: Vec<_> = flags.iter().map(|(flag, value)| format!("{flag}={value}")).collect();
        assert_eq!(
            told,
            ["kubeconfig=/k", "last=true", "leader-elect=false", "token=REDACTED", "verbose=true"]
        );
    }
}
