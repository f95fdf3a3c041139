//! Kubernetes in one binary.
//!
//! This crate is the command line: it reads arguments, wires the parts together for the role asked for, and knows
//! nothing of what the parts do.

mod apiserver_flags;
mod build;
mod called;
mod cli;
mod cluster;
mod ctr;
mod detach;
mod drain;
mod hidden;
mod image;
mod join;
mod kubelet_flags;
mod layout;
mod logging;
mod memory;
mod notify;
mod parts;
mod reset;
mod roles;
mod shim;
mod signals;
mod store;
mod systemd;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, ClusterCommand, Command, NodeCommand};

fn main() -> ExitCode {
    let Some(arguments) = called::arguments() else { return ExitCode::SUCCESS };
    let cli = Cli::parse_from(arguments);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// With its causes, but for those that it tells already.
fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn run(cli: Cli) -> Result<()> {
    if let Command::Up(up) = &cli.command
        && up.detach
    {
        return detach::up(&cli.directories);
    }
    if let Command::Down = &cli.command {
        return detach::down(&cli.directories);
    }
    if let Command::Cluster { command: ClusterCommand::Host } = &cli.command {
        return cluster::host();
    }
    logging::start(&cli.command);
    memory::use_small_pages();
    if !cli.command.serves_the_api() {
        memory::use_few_arenas();
    }
    // Every TLS connection of this process, whichever library makes it, uses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = tokio.block_on(async {
        let layout = cli.directories.layout();
        match cli.command {
            Command::Up(args) => roles::up(&layout, args).await,
            Command::Server(args) => roles::server(&layout, args).await,
            Command::Node(args) => match args.command.clone() {
                None => roles::node(&layout, args).await,
                Some(NodeCommand::Drain(args)) => drain::drain(&layout, args).await,
                Some(NodeCommand::Uncordon(args)) => drain::uncordon(&layout, args).await,
                Some(NodeCommand::Reset(args)) => reset::run(&cli.directories, args).await,
            },
            Command::Apiserver(args) => roles::apiserver(&layout, args).await,
            Command::Controllers(args) => roles::controllers(&layout, args).await,
            Command::Scheduler(args) => roles::scheduler(args).await,
            Command::Kubelet(args) => roles::kubelet(&layout, args).await,
            Command::Proxy(args) => roles::proxy(args).await,
            Command::Netpolicy(args) => roles::netpolicy(args).await,
            Command::Runtime(args) => roles::runtime(&layout, args).await,
            Command::Reset(args) => reset::run(&cli.directories, args).await,
            Command::Cluster { command } => cluster::run(&cli.directories, command).await,
            Command::Token(args) => join::tokens(&layout, args).await,
            Command::Systemd { command } => systemd::run(&cli.directories, command),
            Command::Store { command } => tokio::task::block_in_place(|| store::run(&layout, command)),
            Command::Image { command } => image::run(&layout, command).await,
            Command::Build(args) => build::run(&layout, args).await,
            Command::Ctr { args, command } => ctr::run(&layout, args, command).await,
            Command::Down => unreachable!("handled before threads were started"),
        }
    });
    // A part that is still in a system call must not keep the process.
    tokio.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::told;

    #[test]
    fn nothing_is_told_twice() {
        let error = anyhow!("refused").context("cannot open /x: refused").context("cannot start");
        assert_eq!(told(&error), "cannot start: cannot open /x: refused");
        assert_eq!(told(&anyhow!("alone")), "alone");
    }
}
