//! `COPY` and `ADD`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::dockerfile::{Copy, Step};
use crate::git;
use crate::glob::Ignore;
use crate::source::{Item, Kind, Selected, Source, hex};
use crate::stage::Work;
use crate::tree::Tree;
use crate::{Error, Result};

/// As much as is fetched of a URL.
const LARGEST_DOWNLOAD: u64 = 16 << 30;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be put where.
enum Piece {
    /// Of the source: to this path.
    Item(Item, PathBuf),
    /// To be unpacked into this directory.
    Archive(Item, PathBuf),
    /// Text, or what was fetched.
    Contents(Item, tempfile::NamedTempFile, PathBuf),
}

/// Flags with variables put in.
struct Options {
    owner: Option<(u32, u32)>,
    mode: Option<u32>,
    /// The target is a directory, whatever is there.
    into: bool,
    target: PathBuf,
}

pub async fn run(work: &mut Work<'_>, step: &Step, order: &Copy, add: bool) -> Result<()> {
    let line = step.line;
    let fail = |message: String| Error::at(line, message);
    let expand = |text: &String| work.expand(text, line);
    let sources: Vec<String> = order.sources.iter().map(expand).collect::<Result<_>>()?;
    let target = expand(&order.target)?;
    let chown = order.chown.as_ref().map(expand).transpose()?;
    let chmod = order.chmod.as_ref().map(expand).transpose()?;
    let mode = chmod.as_deref().map(|m| mode(m).ok_or_else(|| fail(format!("--chmod={m} is no octal mode"))));
    let source = match &order.from {
        Some(from) => {
            let from = expand(from)?;
            work.build.tree_of(&from, line).await?
        }
        None => work.build.context().map_err(fail)?,
    };
    let tree = Tree::upon(&work.build.store, &work.image.layers)
        .map_err(Error::during(line, "mount the stage's layers"))?;
    let owner = chown.as_deref().map(|c| tree.owner(c)).transpose().map_err(fail)?;
    let several =
        sources.len() + order.documents.len() > 1 || sources.iter().any(|s| crate::glob::is_pattern(s));
    let ends_like_one =
        target.ends_with('/') || matches!(target.as_str(), "." | "..") || target.ends_with("/.");
    let path = work.absolute(&target);
    let is_directory = tree.is_directory(&path).map_err(Error::during(line, &target))?;
    let into = ends_like_one || is_directory;
    if several && !into {
        return Err(fail(format!("several sources need a directory as target: {target}/")));
    }
    let options = Options { owner, mode: mode.transpose()?, into, target: path };

    let exclude = Ignore::of(&order.exclude);
    let source = Arc::new(source);
    let mut pieces = Vec::new();
    // Kept until all of it is copied.
    let mut checkouts = Vec::new();
    for text in &sources {
        if let Some(repository) = git::parse(text).filter(|_| add) {
            let checkout = repository.fetch(order.keep_git_dir).await.map_err(fail)?;
            let fetched = Source::context(&checkout.path(), Ignore::default());
            let fetched = Arc::new(fetched.map_err(Error::during(line, text))?);
            for selected in fetched.select(".", &exclude).map_err(fail)? {
                let placed = placed(&fetched, selected, order, false, &options).map_err(fail)?;
                pieces.extend(placed.into_iter().map(|piece| (fetched.clone(), piece)));
            }
            checkouts.push(checkout);
            continue;
        }
        if add && is_url(text) {
            let fetched = fetch(text, order.checksum.as_deref()).await.map_err(fail)?;
            pieces.push((source.clone(), fetched_piece(text, fetched, &options).map_err(fail)?));
            continue;
        }
        for selected in source.select(text, &exclude).map_err(fail)? {
            let placed = placed(&source, selected, order, add, &options).map_err(fail)?;
            pieces.extend(placed.into_iter().map(|piece| (source.clone(), piece)));
        }
    }
    for document in &order.documents {
        let text =
            if document.expand { work.expand_document(&document.text, line)? } else { document.text.clone() };
        let target = named(&options, Path::new(&document.name));
        let (item, file) = contents(text.as_bytes(), options.mode.unwrap_or(0o644)).map_err(fail)?;
        pieces.push((source.clone(), Piece::Contents(item, file, target)));
    }
    for (_, piece) in &mut pieces {
        let (Piece::Item(item, _) | Piece::Archive(item, _) | Piece::Contents(item, ..)) = piece;
        if let Some((uid, gid)) = options.owner {
            (item.uid, item.gid) = (uid, gid);
        }
        if let Some(mode) = options.mode {
            item.mode = mode;
        }
    }

    let described: Vec<String> = pieces.iter().map(|(_, piece)| describe(piece)).collect();
    // What is copied counts, wherever it comes from.
    let mut key = vec!["COPY", target.as_str()];
    key.extend(described.iter().map(String::as_str));
    let working = work.image.text("WorkingDir").to_owned();
    key.push(&working);
    let key = work.key(&key);
    if work.recall(step, &key)? {
        return Ok(());
    }
    if options.into || pieces.iter().any(|(_, p)| matches!(p, Piece::Archive(..))) {
        tree.make_directory(&options.target).map_err(Error::during(line, &target))?;
    }
    for (source, piece) in &pieces {
        put(&tree, source, piece).map_err(fail)?;
    }
    work.commit(step, &key, &tree.upper(), &[])
}

/// Where each item of a source goes.
fn placed(
    source: &Source,
    selected: Selected,
    order: &Copy,
    add: bool,
    options: &Options,
) -> std::result::Result<Vec<Piece>, String> {
    let Selected { path, is_directory, items } = selected;
    let mut base = options.target.clone();
    if order.parents {
        base.push(if is_directory { path.as_path() } else { path.parent().unwrap_or(Path::new("")) });
    }
    let mut pieces = Vec::new();
    if is_directory {
        let root = Item {
            from: path,
            to: PathBuf::new(),
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            modified: 0,
        };
        pieces.push(Piece::Item(root, base.clone()));
    }
    for item in items {
        if add && !is_directory && is_archive(source, &item)? {
            pieces.push(Piece::Archive(item, options.target.clone()));
        } else if is_directory {
            let to = base.join(&item.to);
            pieces.push(Piece::Item(item, to));
        } else {
            let name = item.from.file_name().unwrap_or_default().to_owned();
            let to = if options.into || order.parents { base.join(name) } else { base.clone() };
            pieces.push(Piece::Item(item, to));
        }
    }
    Ok(pieces)
}

fn named(options: &Options, name: &Path) -> PathBuf {
    if options.into { options.target.join(name) } else { options.target.clone() }
}

fn describe(piece: &Piece) -> String {
    match piece {
        Piece::Item(item, to) => format!("{} {}", to.display(), item.key()),
        Piece::Archive(item, to) => format!("{} unpacked {}", to.display(), item.key()),
        Piece::Contents(item, _, to) => format!("{} {}", to.display(), item.key()),
    }
}

fn put(tree: &Tree, source: &Source, piece: &Piece) -> std::result::Result<(), String> {
    let told = |to: &Path| {
        let shown = to.display().to_string();
        move |e: std::io::Error| format!("{shown}: {e}")
    };
    match piece {
        Piece::Item(item, to) => tree.add(source, item, to).map_err(told(to)),
        Piece::Contents(item, file, to) => {
            let reopened = file.reopen().map_err(told(to))?;
            tree.file(item, to, reopened).map_err(told(to))
        }
        Piece::Archive(item, to) => {
            let directory = tree.make_directory(to).map_err(told(to))?;
            let archive = source.read(item)?;
            images::unpack_archive(archive, directory).map_err(told(&item.from))
        }
    }
}

/// Whether `ADD` unpacks it: by what is in it, not by its name.
fn is_archive(source: &Source, item: &Item) -> std::result::Result<bool, String> {
    if !matches!(item.kind, Kind::File(_)) {
        return Ok(false);
    }
    let mut begin = Vec::new();
    let told = |e: std::io::Error| format!("{}: {e}", item.from.display());
    source.read(item)?.take(512).read_to_end(&mut begin).map_err(told)?;
    if begin.get(257..262) == Some(b"ustar") {
        return Ok(true);
    }
    if !images::is_compressed(&begin) {
        return Ok(false);
    }
    images::is_tar(source.read(item)?).map_err(told)
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A file in memory's place, as an item.
fn contents(bytes: &[u8], mode: u32) -> std::result::Result<(Item, tempfile::NamedTempFile), String> {
    let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    std::fs::write(file.path(), bytes).map_err(|e| e.to_string())?;
    let kind = Kind::File(hex(&Sha256::digest(bytes)));
    Ok((Item { from: PathBuf::new(), to: PathBuf::new(), kind, mode, uid: 0, gid: 0, modified: 0 }, file))
}

fn fetched_piece(
    url: &str,
    (digest, file): (String, tempfile::NamedTempFile),
    options: &Options,
) -> std::result::Result<Piece, String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.splitn(4, '/').nth(3).and_then(|p| p.rsplit('/').next()).unwrap_or_default();
    if options.into && (name.is_empty() || name == "." || name == "..") {
        return Err(format!("{url} names no file; give the target a name"));
    }
    let item = Item {
        from: PathBuf::new(),
        to: PathBuf::new(),
        kind: Kind::File(digest),
        mode: 0o600,
        uid: 0,
        gid: 0,
        modified: 0,
    };
    Ok(Piece::Contents(item, file, named(options, Path::new(name))))
}

/// Downloads a file; what it must be may be said.
async fn fetch(
    url: &str,
    checksum: Option<&str>,
) -> std::result::Result<(String, tempfile::NamedTempFile), String> {
    let told = |e: reqwest::Error| format!("{url}: {}", e.without_url());
    let client = reqwest::Client::builder().connect_timeout(PATIENCE).read_timeout(PATIENCE).build();
    let mut answer =
        client.map_err(told)?.get(url).send().await.and_then(|a| a.error_for_status()).map_err(told)?;
    let mut file = tempfile::NamedTempFile::new().map_err(|e| format!("{url}: {e}"))?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Some(bytes) = answer.chunk().await.map_err(told)? {
        size += bytes.len() as u64;
        if size > LARGEST_DOWNLOAD {
            return Err(format!("{url} is larger than {LARGEST_DOWNLOAD} bytes"));
        }
        hasher.update(&bytes);
        std::io::Write::write_all(&mut file, &bytes).map_err(|e| format!("{url}: {e}"))?;
    }
    let digest = hex(&hasher.finalize());
    match checksum {
        Some(wanted) if wanted != format!("sha256:{digest}") => {
            Err(format!("{url} is sha256:{digest}, not {wanted} as --checksum says"))
        }
        _ => Ok((digest, file)),
    }
}

fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// A place of the context that a container may see, for `RUN --mount`.
pub fn host_path(source: &Source, path: &str) -> std::result::Result<PathBuf, String> {
    let place = source.open(Path::new(path.trim_start_matches('/')), OFlags::PATH)?;
    crate::tree::path_of(&place).map_err(|e| format!("{path}: {e}"))
}
