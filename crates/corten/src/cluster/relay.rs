//! The process that leads from this machine's ports to nodes: told on standard input what to listen on, it says on
//! standard output where it listens, and goes on until it is killed.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cluster::host::Identity;
use cluster::relay::Forward;
use tokio_util::sync::CancellationToken;

const READY: &str = "ready ";

pub async fn serve() -> Result<()> {
    let mut line = String::new();
    tokio::task::block_in_place(|| std::io::stdin().read_line(&mut line))
        .context("cannot read standard input")?;
    let forwards: Vec<Forward> = serde_json::from_str(&line).context("standard input is not understood")?;
    let (mut ports, mut addresses) = (Vec::new(), Vec::new());
    for forward in forwards {
        match forward.bind().await.and_then(|port| Ok((port.address()?, port))) {
            Ok((address, port)) => {
                addresses.push(address);
                ports.push(port);
            }
            Err(error) => {
                println!("cannot listen on {}: {error}", forward.listen);
                return Ok(());
            }
        }
    }
    println!("{READY}{}", serde_json::to_string(&addresses)?);
    let never = CancellationToken::new();
    for port in ports {
        tokio::spawn(port.serve(never.clone()));
    }
    std::future::pending().await
}

/// Starts the process. Returns where it listens, in the order of `forwards`.
pub fn start(forwards: &[Forward], log: &Path) -> Result<(Identity, Vec<SocketAddr>)> {
    let log = std::fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["cluster", "relay"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    command.arg0("corten").process_group(0).current_dir("/");
    let mut child = command.spawn().context("cannot start the relay")?;
    let identity = Identity::of(child.id().cast_signed()).context("the relay has ended")?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("the relay has no standard input");
    };
    writeln!(input, "{}", serde_json::to_string(forwards)?).context("cannot tell the relay")?;
    let mut answer = String::new();
    BufReader::new(output).read_line(&mut answer).context("the relay does not answer")?;
    let Some(addresses) = answer.strip_prefix(READY) else {
        let _ = child.wait();
        bail!("{}; choose another port", answer.trim_end());
    };
    Ok((identity, serde_json::from_str(addresses).context("the relay's answer is not understood")?))
}
