//! Giving images to nodes: each imports them itself, as `corten image import` does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cluster::node;
use cluster::record::{Node, Record};

use crate::layout::Layout;

/// Gives archives, or images that this machine has, to the nodes of that name, or to all.
pub fn load(layout: &Layout, record: &Record, only: &[String], images: &[String]) -> Result<()> {
    for name in only {
        record.node(name)?;
    }
    let nodes: Vec<&Node> =
        record.nodes.iter().filter(|node| only.is_empty() || only.contains(&node.name)).collect();
    for image in images {
        let held;
        let path = if Path::new(image).is_file() {
            Path::new(image)
        } else {
            held = Held::of(layout, image)?;
            &held.0
        };
        for name in load_archive(&nodes, path)? {
            println!("{name}");
        }
    }
    Ok(())
}

/// To every node at once. Returns what the images are called.
pub fn load_archive(nodes: &[&Node], path: &Path) -> Result<Vec<String>> {
    let import = |node: &Node| -> Result<String> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["image", "import", "-"]).env_clear();
        command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = node::run(node, command)?.wait_with_output().context("cannot wait for the import")?;
        if !output.status.success() {
            bail!("node {}: {}", node.name, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut names = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(|| import(node))).collect();
        for thread in running {
            let said = thread.join().map_err(|_| anyhow::anyhow!("an import crashed"))??;
            names = said.lines().map(str::to_owned).collect();
        }
        Ok(names)
    })
}

/// An archive that is removed when it has been used.
struct Held(std::path::PathBuf);

impl Held {
    /// Of standard input, or of an image that this machine's Corten, docker or podman has.
    fn of(layout: &Layout, image: &str) -> Result<Self> {
        let held = Self(std::env::temp_dir().join(format!("corten-load-{}.tar", std::process::id())));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(&held.0)
            .with_context(|| format!("cannot make {}", held.0.display()))?;
        if image == "-" {
            io::copy(&mut io::stdin().lock(), &mut file).context("cannot read standard input")?;
            return Ok(held);
        }
        // A machine without images of Corten's has no such directory, and needs none.
        let own = layout.images();
        if own.is_dir() {
            let store = images::Store::open(&own).context("cannot open the image store")?;
            if store.get(image)?.is_some() {
                let mut out = std::io::BufWriter::new(&mut file);
                store.export(&[image.to_owned()], &mut out, &images::no_progress())?;
                out.flush().context("cannot save the image")?;
                return Ok(held);
            }
        }
        for engine in ["docker", "podman"] {
            let saving = Command::new(engine)
                .args(["save", image])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            let Ok(mut saving) = saving else { continue };
            if let Some(mut output) = saving.stdout.take() {
                io::copy(&mut output.by_ref(), &mut file).context("cannot save the image")?;
            }
            if saving.wait().is_ok_and(|status| status.success()) {
                return Ok(held);
            }
        }
        bail!(
            "{image:?} is neither a file nor an image that this machine's Corten, docker or podman has; a registry's is pulled by the nodes themselves"
        )
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
