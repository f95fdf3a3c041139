//! What `RUN --mount` shows a command that is in no layer.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::dockerfile::{Mount, MountKind};
use crate::glob::Ignore;
use crate::source::hex;
use crate::stage::Work;
use crate::tree::{Attached, view};
use crate::{Error, Result, copy};

/// Mounts that are there as long as this lives.
#[derive(Default)]
pub struct Mounted {
    /// Path of the host, path in the container, whether it is read-only.
    pub list: Vec<(PathBuf, String, bool)>,
    attached: Vec<Attached>,
    directories: Vec<tempfile::TempDir>,
}

impl Mounted {
    pub fn add(&mut self, host: PathBuf, target: String, readonly: bool) {
        self.list.push((host, target, readonly));
    }

    /// A file of our own, gone with this.
    pub fn file(&mut self, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("file");
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        self.directories.push(directory);
        Ok(path)
    }
}

/// What of the mounts makes a difference to the result.
pub fn key(work: &Work<'_>, mounts: &[Mount], line: usize) -> Result<Vec<String>> {
    let one = |mount: &Mount| {
        let mut key = format!("{mount:?}");
        if let (MountKind::Bind, None) = (mount.kind, &mount.from) {
            let source = work.build.context().map_err(|e| Error::at(line, e))?;
            for selected in
                source.select(&mount.source, &Ignore::default()).map_err(|e| Error::at(line, e))?
            {
                selected.items.iter().for_each(|item| key.push_str(&item.key()));
            }
        }
        if let (MountKind::Bind, Some(from)) = (mount.kind, &mount.from) {
            key.push_str(&work.build.layers_of(from).unwrap_or_default().join(","));
        }
        Ok(key)
    };
    mounts.iter().map(one).collect()
}

pub fn make(work: &Work<'_>, mounts: &[Mount], line: usize) -> Result<Mounted> {
    let mut mounted = Mounted::default();
    for mount in mounts {
        let target = work.absolute(&work.expand(&mount.target, line)?).display().to_string();
        let fail = || Error::during::<io::Error>(line, format!("--mount at {target}"));
        match mount.kind {
            MountKind::Bind => {
                let path = bind(work, mount, &mut mounted).map_err(|e| Error::at(line, e))?;
                mounted.add(path, target, true);
            }
            MountKind::Cache => {
                let name = hex(&Sha256::digest(mount.id.as_bytes()));
                let path = work.build.options.caches.join(name);
                fs::create_dir_all(&path).map_err(fail())?;
                mounted.add(path, target, false);
            }
            MountKind::Tmpfs => {
                let directory = tempfile::tempdir().map_err(fail())?;
                mounted.add(directory.path().to_owned(), target, false);
                mounted.directories.push(directory);
            }
            MountKind::Secret => match work.build.options.secrets.get(&mount.id) {
                Some(path) => {
                    let bytes =
                        fs::read(path).map_err(Error::during(line, format!("secret {:?}", mount.id)))?;
                    let file = mounted.file(&bytes, 0o400).map_err(fail())?;
                    mounted.add(file, target, true);
                }
                None if mount.required => {
                    return Err(Error::at(
                        line,
                        format!("the secret {:?} was not given: use --secret", mount.id),
                    ));
                }
                None => {}
            },
        }
    }
    Ok(mounted)
}

fn bind(work: &Work<'_>, mount: &Mount, mounted: &mut Mounted) -> std::result::Result<PathBuf, String> {
    let Some(from) = &mount.from else {
        let context = work.build.context()?;
        return copy::host_path(&context, &mount.source);
    };
    let layers = work.build.layers_of(from).ok_or_else(|| format!("--mount: there is no stage {from:?}"))?;
    let tree = view(&work.build.store, &layers).map_err(|e| format!("--mount: {e}"))?;
    let attached = Attached::at(&work.build.store, &tree).map_err(|e| format!("--mount: {e}"))?;
    let root = rustix::fs::open(attached.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
    let source = crate::source::Source::tree(root.map_err(|e| format!("--mount: {e}"))?);
    let path = copy::host_path(&source, &mount.source)?;
    mounted.attached.push(attached);
    Ok(path)
}
