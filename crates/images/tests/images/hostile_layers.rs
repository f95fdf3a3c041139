//! Whatever a layer says, nothing outside its directory is touched, and nothing of a refused image stays.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Entry, dir, file, link, oci_archive, tar};
use images::{Error, Store, no_progress};
use tar::EntryType;

struct Machine {
    _directory: tempfile::TempDir,
    outside: PathBuf,
    store: Store,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "untouched").unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { _directory: directory, outside, store }
    }

    fn import(&self, layers: &[Vec<u8>]) -> Result<Vec<PathBuf>, Error> {
        let archive = oci_archive("example.com/test:1", layers, |_, blob| blob);
        let images = self.store.import_from(&archive[..], "test", None, &no_progress())?;
        self.store.snapshot(&images[0], "container")
    }

    fn one(&self, entries: &[Entry<'_>]) -> Result<PathBuf, Error> {
        self.import(&[tar(entries)]).map(|mut layers| layers.remove(0))
    }

    fn assert_outside_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"]);
        assert_eq!(fs::read_to_string(self.outside.join("precious")).unwrap(), "untouched");
    }

    fn assert_nothing_stays(&self) {
        assert!(self.store.list().unwrap().is_empty());
        self.store.sweep();
        for part in ["layers", "tmp"] {
            let left = fs::read_dir(self.store.root().join(part)).unwrap().count();
            assert_eq!(left, 0, "{part}");
        }
    }
}

#[test]
fn links_that_lead_out_stay_inside() {
    let machine = Machine::new();
    let outside = machine.outside.to_str().unwrap();
    let to_precious = format!("{outside}/precious");
    let up = "../../../../../../../../../../../../../../../../tmp";
    // Each: entries that put a link, then try to write through it.
    let check = |entries: &[Entry<'_>]| {
        let machine = Machine::new();
        let _ = machine.one(entries);
        machine.assert_outside_untouched();
    };
    check(&[link(EntryType::Symlink, "a", outside), file("a/precious", b"gone")]);
    check(&[link(EntryType::Symlink, "a", outside), file("a/new", b"x")]);
    check(&[link(EntryType::Symlink, "a", &to_precious), file("a", b"gone")]);
    check(&[link(EntryType::Symlink, "a", up), file("a/new", b"x")]);
    check(&[
        link(EntryType::Symlink, "a", outside),
        link(EntryType::Link, "b", "a/precious"),
        file("b", b"x"),
    ]);
    check(&[link(EntryType::Symlink, "a", outside), file("a/.wh.precious", b"")]);
    check(&[link(EntryType::Symlink, "a", outside), file("a/.wh..wh..opq", b"")]);
    check(&[link(EntryType::Symlink, "a", "/proc/self/cwd"), file("a/new", b"x")]);
    machine.assert_outside_untouched();
}

#[test]
fn refused_layers_leave_nothing() {
    let check = |entries: &[Entry<'_>], why: &str| {
        let machine = Machine::new();
        let error = machine.one(entries).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
        machine.assert_nothing_stays();
    };
    check(&[file("../escape", b"x")], "..");
    check(&[file("a/../../escape", b"x")], "..");
    check(&[link(EntryType::Link, "passwd", "../../etc/passwd")], "..");
    check(&[link(EntryType::Link, "a", "missing")], "No such file");
    check(&[file("fine", b"x"), link(EntryType::Char, "null-device", "")], "device 0:0");
    check(&[file(".wh.", b"")], "whiteout");
    check(&[file(".wh...", b"")], "whiteout");
}

#[test]
fn absolute_paths_are_below_the_root() {
    let machine = Machine::new();
    let layer =
        machine.one(&[file("/etc/inside", b"x"), link(EntryType::Link, "hard", "/etc/inside")]).unwrap();
    assert_eq!(fs::read(layer.join("etc/inside")).unwrap(), b"x");
    assert_eq!(fs::read(layer.join("hard")).unwrap(), b"x");
}

#[test]
fn whiteouts_hide_what_lies_below() {
    let machine = Machine::new();
    let lower = tar(&[dir("d"), file("d/old", b"1"), dir("gone"), file("gone/x", b"1"), file("file", b"1")]);
    let upper = tar(&[
        dir("d"),
        file("d/.wh..wh..opq", b""),
        file("d/new", b"2"),
        file(".wh.gone", b""),
        file(".wh..wh.plnk", b""),
    ]);
    let layers = machine.import(&[lower, upper]).unwrap();
    let merged = mount(&layers, machine.outside.parent().unwrap());
    let mut names: Vec<String> = walk(&merged.0);
    names.sort();
    assert_eq!(names, ["d", "d/new", "file"]);
}

#[test]
fn a_later_entry_replaces_an_earlier_one_of_another_kind() {
    let machine = Machine::new();
    let layer = machine
        .one(&[dir("a"), file("a/b", b"1"), file("a", b"2"), file("c", b"1"), dir("c"), file("c/d", b"3")])
        .unwrap();
    assert_eq!(fs::read(layer.join("a")).unwrap(), b"2");
    assert_eq!(fs::read(layer.join("c/d")).unwrap(), b"3");
}

/// An overlayfs mount that is gone with the guard.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn mount(lower: &[PathBuf], work: &Path) -> Mounted {
    let merged = work.join("merged");
    fs::create_dir(&merged).unwrap();
    let lower: Vec<&str> = lower.iter().map(|l| l.to_str().unwrap()).collect();
    let options = format!("lowerdir={}", lower.join(":"));
    let options = std::ffi::CString::new(options).unwrap();
    rustix::mount::mount("overlay", &merged, "overlay", rustix::mount::MountFlags::RDONLY, &*options)
        .unwrap();
    Mounted(merged)
}

fn walk(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
    names
}

#[test]
fn a_name_without_end_is_not_taken_into_memory() {
    let machine = Machine::new();
    let name = vec![b'a'; 20 << 20];
    let long =
        Entry { path: "././@LongLink", kind: EntryType::GNULongName, target: "", data: &name, mode: 0 };
    let error = machine.one(&[long, file("x", b"")]).unwrap_err();
    assert!(error.to_string().contains("header is larger"), "{error}");
    machine.assert_nothing_stays();
}
