//! `corten image`: the images of this machine, whether the node runs or not.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use images::{Auth, Image, Progress, ProgressFn, Registries, Store};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::ImageCommand;
use crate::layout::Layout;

pub async fn run(layout: &Layout, command: ImageCommand) -> Result<()> {
    let store = Store::open(&layout.images()).context("cannot open the image store")?;
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
        ImageCommand::Pull { image, creds, insecure } => {
            let auth = match creds {
                None => Auth::Anonymous,
                Some(creds) => {
                    let (user, password) =
                        creds.split_once(':').context("credentials are given as user:password")?;
                    Auth::Basic { user: user.to_owned(), password: password.to_owned() }
                }
            };
            let pulled =
                store.pull(&image, &auth, &Registries { insecure, ..Registries::default() }, &bars()).await?;
            println!("{}", title(&pulled));
        }
        ImageCommand::List => list(&store)?,
        ImageCommand::Rm { images } => {
            for image in images {
                let known = store.get(&image)?.with_context(|| format!("no such image: {image}"))?;
                store.remove(&image)?;
                println!("removed {}", title(&known));
            }
        }
    }
    Ok(())
}

fn title(image: &Image) -> &str {
    image.repo_tags.first().or(image.repo_digests.first()).unwrap_or(&image.id)
}

fn list(store: &Store) -> Result<()> {
    println!("{:<60} {:<14} {:>10}", "IMAGE", "IMAGE ID", "SIZE");
    for image in store.list()?.iter() {
        let id = image.id.trim_start_matches("sha256:");
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        for name in names {
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
