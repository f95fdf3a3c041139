//! Importing, naming, sharing and removing images.

use crate::common::{config, digest, file, oci_archive, tar};
use images::{Error, Image, Store, no_progress};

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn import(store: &Store, name: &str, layers: &[Vec<u8>]) -> Result<Image, Error> {
    let archive = oci_archive(name, layers, |_, blob| blob);
    let mut images = store.import_from(&archive[..], "test", None, &no_progress())?;
    Ok(images.remove(0))
}

fn layers_on_disk(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("layers")).unwrap().count()
}

#[test]
fn an_image_is_found_by_every_form_of_its_name() {
    let (_directory, store) = store();
    let image = import(&store, "docker.io/library/busybox:latest", &[tar(&[file("a", b"x")])]).unwrap();
    let short_id = &image.id[..19];
    for name in ["busybox", "busybox:latest", "library/busybox", &image.id, short_id, &image.repo_digests[0]]
    {
        assert_eq!(store.get(name).unwrap().map(|i| i.id), Some(image.id.clone()), "{name}");
    }
    for name in ["busybox:1", "other", "sha256:000000000000"] {
        assert!(store.get(name).unwrap().is_none(), "{name}");
    }
    assert_eq!(
        image.configuration().unwrap().config().as_ref().unwrap().cmd().as_ref().unwrap()[0],
        "/bin/true"
    );
}

#[test]
fn another_process_sees_changes_at_once() {
    let (_directory, store) = store();
    let other = Store::open(store.root()).unwrap();
    assert!(other.list().unwrap().is_empty());
    import(&store, "a.io/a:1", &[tar(&[file("a", b"x")])]).unwrap();
    assert_eq!(other.list().unwrap().len(), 1);
    store.remove("a.io/a:1").unwrap();
    assert!(other.list().unwrap().is_empty());
}

#[test]
fn layers_are_shared_and_live_as_long_as_somebody_needs_them() {
    let (_directory, store) = store();
    let (base, one, two) = (tar(&[file("base", b"b")]), tar(&[file("1", b"1")]), tar(&[file("2", b"2")]));
    let first = import(&store, "a.io/a:1", &[base.clone(), one]).unwrap();
    import(&store, "a.io/a:2", &[base, two]).unwrap();
    assert_eq!(layers_on_disk(&store), 3);

    let directories = store.snapshot(&first, "container-1").unwrap();
    assert!(directories[0].join("1").exists(), "topmost first");
    store.remove("a.io/a:1").unwrap();
    assert_eq!(layers_on_disk(&store), 3, "the container keeps its layers");
    store.release("container-1").unwrap();
    store.sweep();
    assert_eq!(layers_on_disk(&store), 2);
    store.remove("a.io/a:2").unwrap();
    assert_eq!(layers_on_disk(&store), 0);
}

#[test]
fn a_tag_moves_to_the_image_that_got_it_last() {
    let (_directory, store) = store();
    let old = import(&store, "a.io/a:1", &[tar(&[file("old", b"")])]).unwrap();
    let new = import(&store, "a.io/a:1", &[tar(&[file("new", b"")])]).unwrap();
    assert_eq!(store.get("a.io/a:1").unwrap().unwrap().id, new.id);
    assert!(store.get(&old.id).unwrap().unwrap().repo_tags.is_empty());
}

#[test]
fn docker_archives_are_read_too() {
    let (_directory, store) = store();
    let layer = tar(&[file("hello", b"world")]);
    let config = config(&[digest(&layer)]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["busybox:1.36"],"Layers":["l/layer.tar"]}]"#;
    let archive =
        tar(&[file("c.json", &config), file("l/layer.tar", &layer), file("manifest.json", manifest)]);
    let images = store.import_from(&archive[..], "test", None, &no_progress()).unwrap();
    assert_eq!(images[0].repo_tags, ["docker.io/library/busybox:1.36"]);
    let directories = store.snapshot(&images[0], "c").unwrap();
    assert_eq!(std::fs::read(directories[0].join("hello")).unwrap(), b"world");
}

#[test]
fn lies_are_found_out() {
    let lie = |which: &'static str, replacement: Vec<u8>| {
        let (_directory, store) = store();
        let archive = oci_archive("a.io/a:1", &[tar(&[file("a", b"x")])], |kind, blob| {
            if kind == which { replacement.clone() } else { blob }
        });
        let error = store.import_from(&archive[..], "test.tar", None, &no_progress()).unwrap_err();
        assert!(store.list().unwrap().is_empty());
        error.to_string()
    };
    assert!(lie("config", config(&[])).contains("digest"));
    assert!(lie("manifest", b"{}".to_vec()).contains("digest"));
    assert!(lie("layer", tar(&[file("a", b"y")])).contains("digest"));
    assert!(lie("layer", crate::common::gzip(b"not a tar at all, but longer than a header of five hundred and twelve bytes........................................................................................................................................................................................................................................................................................................................................................................................................................................................................................")).contains("unpack"));
}

#[test]
fn garbage_is_not_an_archive() {
    let (_directory, store) = store();
    for garbage in
        [&b""[..], b"garbage", &[0u8; 2048], &[0x1f, 0x8b, 0, 0], &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3]]
    {
        let error = store.import_from(garbage, "test.tar", None, &no_progress()).unwrap_err();
        assert!(error.to_string().starts_with("test.tar is not an image archive"), "{error}");
    }
}

mod any_bytes {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let (_directory, store) = super::store();
            let _ = store.import_from(&bytes[..], "fuzz", Some("a.io/a:1"), &images::no_progress());
        }
    }
}

#[test]
fn pinned_used_and_named_images_are_not_pruned() {
    let (_directory, store) = store();
    let layer = |name: &'static str| tar(&[file(name, b"x")]);
    let kept = import(&store, "a.io/kept:1", &[layer("kept")]).unwrap();
    let used = import(&store, "a.io/used:1", &[layer("used")]).unwrap();
    import(&store, "a.io/gone:1", &[layer("gone")]).unwrap();
    // A newer one takes its name: the older has none.
    import(&store, "a.io/moved:1", &[layer("old")]).unwrap();
    import(&store, "a.io/moved:1", &[layer("new")]).unwrap();
    store.tag("a.io/kept:1", "a.io/also:2").unwrap();
    store.pin("a.io/also:2", true).unwrap();
    store.snapshot(&used, "container").unwrap();
    assert_eq!(store.prune(false).unwrap().len(), 1);
    let removed = store.prune(true).unwrap();
    let names: Vec<&str> = removed.iter().flat_map(|i| &i.repo_tags).map(String::as_str).collect();
    assert_eq!(names, ["a.io/gone:1", "a.io/moved:1"]);
    assert_eq!(layers_on_disk(&store), 2);
    let kept = store.get(&kept.id).unwrap().unwrap();
    assert_eq!((kept.repo_tags.len(), kept.pinned), (2, true));
    assert!(store.tag("a.io/none:1", "a.io/x:1").is_err() && store.tag(&kept.id, "bad name").is_err());
}

#[test]
fn what_builds_note_stays_until_it_is_dropped() {
    let (directory, store) = store();
    let upper = directory.path().join("upper");
    std::fs::create_dir(&upper).unwrap();
    let making = store.making().unwrap();
    assert_eq!(store.commit(&making, &upper, &|_| false).unwrap(), None);
    std::fs::write(upper.join("made"), "x").unwrap();
    let layer = store.commit(&making, &upper, &|_| false).unwrap().unwrap();
    store.cache("key", &[layer.clone(), "note".to_owned()]).unwrap();
    drop(making);
    store.sweep();
    assert_eq!(store.cached("key").unwrap().unwrap(), [layer.clone(), "note".to_owned()]);
    assert_eq!(std::fs::read_to_string(store.layer_directory(&layer).unwrap().join("made")).unwrap(), "x");
    assert_eq!((store.cached("other").unwrap(), store.drop_cache().unwrap()), (None, 1));
    assert_eq!((layers_on_disk(&store), store.cached("key").unwrap()), (0, None));
}
