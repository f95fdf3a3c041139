//! Logs go to standard error, filtered by `CORTEN_LOG` (as `info` or `kubelet=debug,info`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::Command;

pub fn start(command: &Command) {
    // A command that a person waits for shows its own progress.
    let default = match command {
        Command::Image { .. } | Command::Build(_) | Command::Ctr { .. } | Command::Reset(_) => "warn",
        Command::Cluster { .. } | Command::Token(_) => "warn,kube_client=off",
        // Who asks an API server that does not answer says so, and what was asked for; its client does not know.
        _ => "info,kube_client=off",
    };
    let filter = EnvFilter::try_from_env("CORTEN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
