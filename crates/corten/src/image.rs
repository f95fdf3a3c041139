//! `corten image`: the images of this machine, whether the node runs or not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use images::{Auth, Image, Progress, ProgressFn, Registries, Store};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::{ImageCommand, RegistryArgs};
use crate::layout::Layout;

pub async fn run(layout: &Layout, command: ImageCommand) -> Result<()> {
    let store = Store::open(&layout.images()).context("cannot open the image store")?;
    let known = |name: &str| store.get(name)?.with_context(|| format!("no such image: {name}"));
    match command {
        ImageCommand::Import { archive, name } => {
            let progress = bars();
            let imported = if archive == Path::new("-") {
                store.import_from(std::io::stdin().lock(), "standard input", name.as_deref(), &progress)?
            } else {
                store.import(&archive, name.as_deref(), &progress)?
            };
            for image in imported {
                println!("{}", title(&image));
            }
        }
        ImageCommand::Export { images, output } => export(&store, &images, &output)?,
        ImageCommand::Pull { image, registry } => {
            let (auth, registries) = registry_of(registry)?;
            let pulled = store.pull(&image, &auth, &registries, &bars()).await?;
            println!("{}", title(&pulled));
        }
        ImageCommand::Push { image, registry } => {
            let (auth, registries) = registry_of(registry)?;
            let digest = store.push(&image, &auth, &registries, &bars()).await?;
            println!("{image}@{digest}");
        }
        ImageCommand::Tag { image, name } => {
            store.tag(&image, &name)?;
        }
        ImageCommand::List { quiet } => list(&store, quiet)?,
        ImageCommand::Inspect { images } => {
            let shown = images.iter().map(|name| known(name).and_then(|image| inspect(&store, &image)));
            let shown = shown.collect::<Result<Vec<_>>>()?;
            println!("{}", serde_json::to_string_pretty(&shown)?);
        }
        ImageCommand::Pin { image } => println!("pinned {}", title(&store.pin(&image, true)?)),
        ImageCommand::Unpin { image } => println!("unpinned {}", title(&store.pin(&image, false)?)),
        ImageCommand::Rm { images } => {
            for image in images {
                let known = known(&image)?;
                store.remove(&image)?;
                println!("removed {}", title(&known));
            }
        }
        ImageCommand::Prune { all } => {
            let before = store.usage()?.bytes;
            for image in store.prune(all)? {
                println!("removed {}", title(&image));
            }
            if all {
                println!("dropped {} steps of builds", store.drop_cache()?);
            }
            println!("{} freed of images", HumanBytes(before.saturating_sub(store.usage()?.bytes)));
        }
    }
    Ok(())
}

fn registry_of(args: RegistryArgs) -> Result<(Auth, Registries)> {
    let auth = match (args.creds, args.identity_token) {
        (None, None) => Auth::Anonymous,
        (None, Some(token)) => Auth::Identity(token),
        (Some(creds), None) => {
            let (user, password) = creds.split_once(':').context("credentials are given as user:password")?;
            Auth::Basic { user: user.to_owned(), password: password.to_owned() }
        }
        (Some(_), Some(_)) => bail!("credentials and an identity token exclude each other"),
    };
    Ok((auth, Registries { insecure: args.insecure, ..Registries::default() }))
}

fn export(store: &Store, images: &[String], output: &Path) -> Result<()> {
    if output == Path::new("-") {
        let out = std::io::stdout();
        if out.is_terminal() {
            bail!("an archive is nothing for a terminal: give a file with --output");
        }
        return Ok(store.export(images, out.lock(), &bars())?);
    }
    // Whole or not at all.
    let mut beside = output.to_owned().into_os_string();
    beside.push(".part");
    let file = File::create(&beside).with_context(|| format!("cannot write {}", output.display()))?;
    let mut out = std::io::BufWriter::new(file);
    let written = store.export(images, &mut out, &bars()).map_err(anyhow::Error::from);
    let written =
        written.and_then(|()| Ok(out.flush()?)).and_then(|()| Ok(std::fs::rename(&beside, output)?));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(|| format!("cannot write {}", output.display()))
}

fn inspect(store: &Store, image: &Image) -> Result<serde_json::Value> {
    let layers = image.layers.iter().map(|diff_id| {
        let directory = store.layer_directory(diff_id)?;
        Ok(serde_json::json!({"diffID": diff_id, "directory": directory}))
    });
    Ok(serde_json::json!({
        "id": image.id, "repoTags": image.repo_tags, "repoDigests": image.repo_digests, "size": image.size,
        "pinned": image.pinned, "layers": layers.collect::<Result<Vec<_>>>()?,
        "configuration": serde_json::from_str::<serde_json::Value>(&image.config)?,
    }))
}

fn title(image: &Image) -> &str {
    image.repo_tags.first().or(image.repo_digests.first()).unwrap_or(&image.id)
}

fn list(store: &Store, quiet: bool) -> Result<()> {
    if quiet {
        store.list()?.iter().for_each(|image| println!("{}", image.id));
        return Ok(());
    }
    println!("{:<60} {:<14} {:>10}", "IMAGE", "IMAGE ID", "SIZE");
    for image in store.list()?.iter() {
        let id = image.id.trim_start_matches("sha256:");
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        let nameless = vec!["<none>".to_owned()];
        for name in if names.is_empty() { &nameless } else { names } {
            println!(
                "{:<60} {:<14} {:>10}",
                name,
                &id[..id.len().min(12)],
                HumanBytes(image.size).to_string()
            );
        }
    }
    Ok(())
}

/// A bar for each layer.
fn bars() -> ProgressFn {
    let all = MultiProgress::new();
    let bars: Mutex<HashMap<String, ProgressBar>> = Mutex::default();
    let style = ProgressStyle::with_template("{prefix:.bold} {bar:30} {bytes:>10}/{total_bytes:<10} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    Arc::new(move |event| {
        let Ok(mut bars) = bars.lock() else { return };
        match event {
            Progress::Layer { digest, size } => {
                let bar = all.add(ProgressBar::new(size.unwrap_or(0)).with_style(style.clone()));
                bar.set_prefix(digest.trim_start_matches("sha256:").chars().take(12).collect::<String>());
                bars.insert(digest, bar);
            }
            Progress::Read { digest, bytes } => {
                if let Some(bar) = bars.get(&digest) {
                    bar.inc(bytes);
                }
            }
            Progress::Done { digest } => {
                if let Some(bar) = bars.remove(&digest) {
                    bar.finish_with_message("done");
                }
            }
        }
    })
}
