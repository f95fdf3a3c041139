//! Field numbers and API markers (`+listType=map`, `+patchMergeKey=name`), read from the source text of the k8s-pb
//! crate: prost keeps them in attributes and comments only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A protobuf message and what is said about it.
#[derive(Debug, Default)]
pub struct Message {
    pub markers: Markers,
    pub fields: Vec<ProtoField>,
}

#[derive(Debug, Default)]
pub struct ProtoField {
    /// In snake case, as Rust says it.
    pub name: String,
    pub tag: u32,
    /// The message it holds, in the same package; `None` for scalars and messages of other packages.
    pub message: Option<String>,
    pub markers: Markers,
}

/// `+key=value` lines of a comment, in order; a key may occur more than once.
#[derive(Debug, Default, Clone)]
pub struct Markers(Vec<(String, String)>);

impl Markers {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// Messages by lower-case published name (`io.k8s.api.core.v1.httpgetaction`): prost and Kubernetes differ in case.
pub type Messages = BTreeMap<String, Message>;

/// Reads all messages of the k8s-pb crate that this workspace resolves to.
pub fn read() -> Result<Messages> {
    let source = source_of("k8s-pb")?;
    let mut messages = Messages::new();
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("mod.rs") {
                let package = package_of(folder.strip_prefix(&source)?);
                let text =
                    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                parse(&text, &package, &mut messages).with_context(|| format!("parse {}", path.display()))?;
            }
        }
    }
    Ok(messages)
}

/// The `src` folder of a crate that cargo has unpacked.
fn source_of(name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--manifest-path"])
        .arg(manifest)
        .output()
        .context("run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == name)
        .with_context(|| format!("no crate {name}"))?;
    let manifest = package["manifest_path"].as_str().context("package without manifest")?;
    Ok(Path::new(manifest).with_file_name("src"))
}

/// `api/core/v1` -> `io.k8s.api.core.v1`.
fn package_of(folder: &Path) -> String {
    let parts: Vec<_> = folder
        .iter()
        .map(|part| {
            part.to_string_lossy()
                .replace("apiextensions_apiserver", "apiextensions-apiserver")
                .replace("kube_aggregator", "kube-aggregator")
        })
        .collect();
    format!("io.k8s.{}", parts.join("."))
}

fn parse(text: &str, package: &str, messages: &mut Messages) -> Result<()> {
    let mut markers = Markers::default();
    let mut tag = None;
    let mut current: Option<(String, Message)> = None;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("///") {
            if let Some(marker) = comment.trim().strip_prefix('+') {
                let (key, value) = marker.split_once('=').unwrap_or((marker, ""));
                markers.0.push((key.to_owned(), value.to_owned()));
            }
        } else if line.starts_with("#[prost(") {
            let number = line.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next());
            tag = Some(number.with_context(|| format!("no tag: {line}"))?.parse::<u32>()?);
        } else if let Some(name) = line.strip_prefix("pub struct ") {
            let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
            current = Some((name, Message { markers: std::mem::take(&mut markers), fields: Vec::new() }));
            if line.ends_with("{}") {
                finish(package, &mut current, messages);
            }
        } else if line == "}" {
            finish(package, &mut current, messages);
            markers = Markers::default();
        } else if let (Some((_, message)), Some(number), Some(field)) =
            (&mut current, tag.take(), line.strip_prefix("pub "))
        {
            let (name, mut kind) = field
                .split_once(':')
                .map(|(name, kind)| (name, kind.to_owned()))
                .with_context(|| format!("no type: {line}"))?;
            // rustfmt breaks long types over several lines.
            while !kind.ends_with(',') {
                let Some(more) = lines.next() else { bail!("unfinished field {name}") };
                kind.push_str(more);
            }
            message.fields.push(ProtoField {
                name: name.trim_start_matches("r#").to_owned(),
                tag: number,
                message: message_of(&kind),
                markers: std::mem::take(&mut markers),
            });
        }
    }
    Ok(())
}

fn finish(package: &str, current: &mut Option<(String, Message)>, messages: &mut Messages) {
    if let Some((name, message)) = current.take() {
        messages.insert(format!("{package}.{name}").to_lowercase(), message);
    }
}

/// `Foo` of `::core::option::Option<Foo>`.
fn message_of(kind: &str) -> Option<String> {
    let inner = kind
        .trim()
        .trim_end_matches(',')
        .trim()
        .strip_prefix("::core::option::Option<")?
        .strip_suffix('>')?;
    let inner = inner
        .strip_prefix("::prost::alloc::boxed::Box<")
        .and_then(|boxed| boxed.strip_suffix('>'))
        .unwrap_or(inner);
    let simple =
        inner.chars().next().is_some_and(char::is_uppercase) && inner.chars().all(char::is_alphanumeric);
    simple.then(|| inner.to_owned())
}
