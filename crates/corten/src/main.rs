//! Kubernetes in one binary.
//!
//! This crate is the command line: it reads arguments, wires the parts together for the role asked for, and knows
//! nothing of what the parts do.

mod apiserver_flags;
mod cli;
mod detach;
mod image;
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

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    logging::start(&cli.command);
    memory::use_small_pages();
    // Every TLS connection of this process, whichever library makes it, uses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = tokio.block_on(async {
        let layout = cli.directories.layout();
        match cli.command {
            Command::Up(args) => roles::up(&layout, args).await,
            Command::Server(args) => roles::server(&layout, args).await,
            Command::Node(args) => roles::node(&layout, args).await,
            Command::Apiserver(args) => roles::apiserver(&layout, args).await,
            Command::Controllers(args) => roles::controllers(&layout, args).await,
            Command::Scheduler(args) => roles::scheduler(args).await,
            Command::Kubelet(args) => roles::kubelet(&layout, args).await,
            Command::Proxy(args) => roles::proxy(args).await,
            Command::Runtime(args) => roles::runtime(&layout, args).await,
            Command::Reset(args) => reset::run(&cli.directories, args).await,
            Command::Store { command } => tokio::task::block_in_place(|| store::run(&layout, command)),
            Command::Image { command } => image::run(&layout, command).await,
            Command::Down => unreachable!("handled before threads were started"),
        }
    });
    // A part that is still in a system call must not keep the process.
    tokio.shutdown_background();
    result
}
