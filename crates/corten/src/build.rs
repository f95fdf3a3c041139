//! `corten build`: an image of a Dockerfile, into the store of this machine.
//!
//! Commands run in a container runtime of the build's own, with the same images: a kubelet that has this machine's runtime
//! knows nothing of builds, and a build needs no node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use build::{Event, Options, Printer};
use images::{Registries, Store};
use tokio_util::sync::CancellationToken;

use crate::cli::BuildArgs;
use crate::layout::Layout;
use crate::{shim, signals};

pub async fn run(layout: &Layout, args: BuildArgs) -> Result<()> {
    let checkout = match args.context.to_str().and_then(build::git::parse) {
        Some(repository) => Some(repository.fetch(false).await.map_err(anyhow::Error::msg)?),
        None => None,
    };
    let context = checkout.as_ref().map_or_else(|| args.context.clone(), build::git::Checkout::path);
    let store = Store::open(&layout.images()).context("cannot open the image store")?;
    let runtime = PrivateRuntime::new(layout)?;
    let quiet = args.quiet;
    let options = options(layout, args, context, runtime.config.socket.clone())?;
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(runtime::run(runtime.config.clone(), shutdown.clone()));
    runtime.ready(&served).await?;
    let interrupted = signals::shutdown()?;
    let built = tokio::select! {
        built = build::build(&store, options, printer(quiet)) => built.map_err(anyhow::Error::from),
        () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    shutdown.cancel();
    let ended = served.await.context("the build's runtime failed")?;
    runtime.clear().await?;
    ended.context("the build's runtime failed")?;
    let image = built?;
    println!("{}", image.repo_tags.first().filter(|_| !quiet).unwrap_or(&image.id));
    Ok(())
}

/// A runtime for one build; its directories are named by this process.
struct PrivateRuntime {
    config: runtime::Config,
}

impl PrivateRuntime {
    fn new(layout: &Layout) -> Result<Self> {
        let id = std::process::id();
        let root_dir = layout.root.join("build").join(id.to_string());
        let run_dir = layout.run.join(format!("build-{id}"));
        layout.ensure()?;
        std::fs::create_dir_all(&root_dir).with_context(|| format!("cannot make {}", root_dir.display()))?;
        let images = root_dir.join("images");
        if !images.exists() {
            std::os::unix::fs::symlink(layout.images(), &images)
                .with_context(|| format!("cannot make {}", images.display()))?;
        }
        Ok(Self {
            config: runtime::Config {
                socket: run_dir.join("cri.sock"),
                root_dir,
                run_dir,
                cgroup_parent: "/corten-build".to_owned(),
                shim: shim::unpack(&layout.root)?,
                // Never made: commands run in the machine's network.
                bridge: "corten-build".to_owned(),
                cluster_cidrs: Vec::new(),
                pod_cidr: None,
                cni: None,
                systemd_bus: None,
                handlers: Vec::new(),
                admission: None,
            },
        })
    }

    /// Waits until it listens, or has failed.
    async fn ready(&self, served: &tokio::task::JoinHandle<runtime::Result<()>>) -> Result<()> {
        while tokio::net::UnixStream::connect(&self.config.socket).await.is_err() {
            if served.is_finished() {
                bail!("the build's container runtime could not be started");
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Removes whatever a build that was interrupted has left.
    async fn clear(self) -> Result<()> {
        let (root, run) = (self.config.root_dir.clone(), self.config.run_dir.clone());
        runtime::clear(self.config).await.context("cannot clean up after the build")?;
        for directory in [root, run] {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        Ok(())
    }
}

fn options(layout: &Layout, args: BuildArgs, context: PathBuf, socket: PathBuf) -> Result<Options> {
    if !context.is_dir() {
        bail!("{} is no directory to build in", context.display());
    }
    let mut arguments = BTreeMap::new();
    for text in &args.arguments {
        match text.split_once('=') {
            Some((name, value)) => arguments.insert(name.to_owned(), value.to_owned()),
            None => match std::env::var(text) {
                Ok(value) => arguments.insert(text.clone(), value),
                Err(_) => continue,
            },
        };
    }
    let label = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("{text:?}: a label is NAME=VALUE"),
    };
    Ok(Options {
        context,
        dockerfile: args.file,
        target: args.target,
        arguments,
        tags: args.tags,
        labels: args.labels.iter().map(label).collect::<Result<_>>()?,
        no_cache: args.no_cache,
        pull: args.pull,
        secrets: args.secrets.iter().map(|s| secret(s)).collect::<Result<_>>()?,
        caches: layout.root.join("build-cache"),
        socket,
        registries: Registries { insecure: args.insecure, ..Registries::default() },
    })
}

/// `id=ID,src=FILE`
fn secret(text: &str) -> Result<(String, PathBuf)> {
    let field = |names: [&str; 2]| {
        let fields = text.split(',').filter_map(|f| f.split_once('='));
        fields.into_iter().find(|(name, _)| names.contains(name)).map(|(_, value)| value.to_owned())
    };
    match (field(["id", "id"]), field(["src", "source"])) {
        (Some(id), Some(file)) => Ok((id, Path::new(&file).to_owned())),
        _ => bail!("{text:?}: a secret is id=ID,src=FILE"),
    }
}

/// One line for each step, and below it what its command writes.
fn printer(quiet: bool) -> Printer {
    Printer::new(move |event| match event {
        _ if quiet => {}
        Event::Step { number, total, text } => {
            let width = total.to_string().len();
            eprintln!("[{number:>width$}/{total}] {}", text.lines().next().unwrap_or_default());
        }
        Event::Cached => eprintln!("  as before"),
        Event::Pull(image) => eprintln!("  pulling {image}"),
        Event::Output(line) => eprintln!("  | {line}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        for (text, expected) in
            [("id=a,src=/b", Some("a")), ("type=file,id=a,source=b", Some("a")), ("id=a", None), ("", None)]
        {
            assert_eq!(secret(text).ok().map(|(id, _)| id).as_deref(), expected, "{text}");
        }
    }
}
