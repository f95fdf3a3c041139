//! `corten cluster`: what crate [`cluster`] makes of namespaces and links, with Corten on it.

mod create;
mod etcd;
mod images;
mod logs;
mod nameservers;
mod programs;
mod ready;
mod relay;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cluster::record::{Node, Record, Records};
use cluster::{kubeconfig, node, remove};

use crate::cli::{
    ClusterCommand, DEFAULT_NAME, DeleteArgs, Directories, ExportCommand, GetCommand, LoadCommand,
};

/// The first process of a node; called before there are threads.
pub fn host() -> Result<()> {
    cluster::host::init::run().context("the host has ended")
}

pub async fn run(directories: &Directories, command: ClusterCommand) -> Result<()> {
    let records = Records::new(&directories.root_dir);
    if !rustix::process::geteuid().is_root() {
        bail!("namespaces, links and mounts are made by root only; say: sudo corten cluster ...");
    }
    match command {
        ClusterCommand::Create(args) => create::run(&records, args).await,
        ClusterCommand::List => list(&records),
        ClusterCommand::Delete(args) => tokio::task::block_in_place(|| delete(&records, &args)),
        ClusterCommand::Load { what: LoadCommand::Image { images, cluster, nodes } } => {
            let record = records.get(&cluster.name)?;
            tokio::task::block_in_place(|| images::load(&directories.layout(), &record, &nodes, &images))
        }
        ClusterCommand::Export { what: ExportCommand::Logs { directory, cluster } } => {
            logs::export(&records, &records.get(&cluster.name)?, &directory)
        }
        ClusterCommand::Get { what } => get(&records, what),
        ClusterCommand::Pause(name) => change(&records, &name.node, Change::Paused(true)),
        ClusterCommand::Resume(name) => change(&records, &name.node, Change::Paused(false)),
        ClusterCommand::Cut(name) => change(&records, &name.node, Change::Cut(true)),
        ClusterCommand::Join(name) => change(&records, &name.node, Change::Cut(false)),
        ClusterCommand::Exec { node, command } => exec(&records, &node, &command),
        ClusterCommand::Relay => relay::serve().await,
        ClusterCommand::Host => unreachable!("handled before threads were started"),
    }
}

fn list(records: &Records) -> Result<()> {
    println!("{:<20} {:>7} {:>6}  {:<8} API SERVER", "NAME", "SERVERS", "NODES", "STATUS");
    for record in records.all()? {
        let servers = record.nodes.iter().filter(|node| node.role == cluster::plan::Role::Server).count();
        let status = if record.is_running() { "Running" } else { "Stopped" };
        let api = record.api.map(|api| format!("https://{api}")).unwrap_or_default();
        println!("{:<20} {servers:>7} {:>6}  {status:<8} {api}", record.name, record.nodes.len());
    }
    Ok(())
}

fn delete(records: &Records, args: &DeleteArgs) -> Result<()> {
    let names: Vec<String> = if args.all {
        records.all()?.into_iter().map(|record| record.name).collect()
    } else {
        let name = args.cluster.as_ref().or(args.name.as_ref());
        vec![name.cloned().unwrap_or_else(|| DEFAULT_NAME.to_owned())]
    };
    // Before the lock, which would make a directory.
    for name in &names {
        records.get(name)?;
    }
    for name in names {
        let _lock = records.lock()?;
        remove::remove(records, &records.get(&name)?).with_context(|| format!("cluster {name:?}"))?;
        println!("Deleted cluster {name:?}.");
    }
    Ok(())
}

fn get(records: &Records, what: GetCommand) -> Result<()> {
    match what {
        GetCommand::Kubeconfig(cluster) => {
            records.get(&cluster.name)?;
            let path = create::admin_kubeconfig(records, &cluster.name);
            let text = std::fs::read_to_string(&path);
            print!("{}", text.with_context(|| format!("cannot read {}", path.display()))?);
        }
        GetCommand::Nodes(cluster) => {
            for node in records.get(&cluster.name)?.nodes {
                let alive = node.host.is_some_and(|host| host.is_alive());
                let state = match (alive, node.paused, node.cut) {
                    (false, ..) => "ended",
                    (_, true, _) => "paused",
                    (_, _, true) => "cut off",
                    _ => "running",
                };
                println!("{:<40} {:<16} {:?} {state}", node.name, node.main_ip(), node.role);
            }
        }
        GetCommand::Clusters => records.all()?.iter().for_each(|record| println!("{}", record.name)),
    }
    Ok(())
}

/// The cluster that has a node of that name: names of nodes begin with that of their cluster.
fn find(records: &Records, name: &str) -> Result<(Record, Node)> {
    let all = records.all()?;
    for record in all {
        if let Some(node) = record.nodes.iter().find(|node| node.name == name).cloned() {
            return Ok((record, node));
        }
    }
    bail!("no cluster has a node {name:?}; corten cluster get nodes --name CLUSTER shows those of a cluster")
}

enum Change {
    Paused(bool),
    Cut(bool),
}

fn change(records: &Records, name: &str, change: Change) -> Result<()> {
    let (record, _) = find(records, name)?;
    let said = match change {
        Change::Paused(paused) => {
            node::set_paused(records, &record.name, name, paused)?;
            if paused { "is paused" } else { "goes on" }
        }
        Change::Cut(cut) => {
            node::set_cut(records, &record.name, name, cut)?;
            if cut { "is cut off" } else { "is joined again" }
        }
    };
    println!("Node {name} {said}.");
    Ok(())
}

fn exec(records: &Records, name: &str, command: &[String]) -> Result<()> {
    let (_, found) = find(records, name)?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::inherit());
    let mut child = node::run(&found, command)?;
    let status = child.wait().context("cannot wait for the command")?;
    // As the command itself would have ended.
    std::process::exit(status.code().unwrap_or(255));
}

/// Names in the user's kubeconfig.
fn context(name: &str) -> String {
    kubeconfig::context(name)
}
