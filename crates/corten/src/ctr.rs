//! `corten ctr`: the containers of a runtime.

use anyhow::Result;
use ctr::{Ctr, Network, RunOptions};

use crate::cli::{CtrArgs, CtrCommand, CtrNetwork, CtrRunArgs};
use crate::layout::Layout;

pub async fn run(layout: &Layout, args: CtrArgs, command: CtrCommand) -> Result<()> {
    let socket = args.socket.unwrap_or_else(|| layout.cri_socket());
    // As crictl and upstream's kubelet write it.
    let socket =
        socket.strip_prefix("unix:").map(|p| std::path::Path::new("/").join(p)).unwrap_or(socket.clone());
    let mut ctr = Ctr::connect(&socket).await?;
    match command {
        CtrCommand::Ps { all, quiet } => print!("{}", ctr.ps(all, quiet).await?),
        CtrCommand::Run(args) => exit(ctr.run(options(layout, args)).await?),
        CtrCommand::Exec { interactive, tty, container, command } => {
            exit(ctr.exec(&container, command, interactive, tty).await?);
        }
        CtrCommand::Inspect { container } => print!("{}", ctr.inspect(&container).await?),
        CtrCommand::Logs { follow, tail, container } => ctr.logs(&container, follow, tail).await?,
        CtrCommand::Stop { timeout, containers } => {
            for container in containers {
                ctr.stop(&container, timeout).await?;
            }
        }
        CtrCommand::Rm { force, containers } => {
            for container in containers {
                ctr.rm(&container, force).await?;
            }
        }
        CtrCommand::Prune => print!("{}", ctr.prune().await?),
        CtrCommand::Stats { json } => print!("{}", ctr.stats(json).await?),
    }
    Ok(())
}

/// With the process's own code: scripts ask for it.
fn exit(code: i32) {
    if code != 0 {
        std::process::exit(code);
    }
}

fn options(layout: &Layout, args: CtrRunArgs) -> RunOptions {
    RunOptions {
        image: args.image,
        command: args.command,
        name: args.name,
        detach: args.detach,
        remove: args.rm,
        stdin: args.interactive,
        tty: args.tty,
        environment: args.env,
        volumes: args.volumes,
        network: match args.network {
            CtrNetwork::Auto => Network::Auto,
            CtrNetwork::Pod => Network::Pod,
            CtrNetwork::Host => Network::Host,
        },
        user: args.user,
        working_dir: args.workdir,
        privileged: args.privileged,
        memory: args.memory,
        logs: layout.root.join("ctr"),
    }
}
