//! Snapshots of the embedded engine: what is in them, and what is not taken.

use std::path::Path;

use store::snapshot::{self, Summary};
use store::{Error, Expect, Options, Store};

async fn filled(path: &Path, entries: usize) -> Store {
    let store = Store::open(path, Options::default()).unwrap();
    for count in 0..entries {
        store.put(format!("/k{count}"), format!("value {count}"), Expect::Absent, None).await.unwrap();
    }
    store.delete("/k0", Expect::Anything, None).await.unwrap();
    store
}

#[tokio::test]
async fn a_restored_store_holds_the_same_later() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("state"), 50).await;
    let mut bytes = Vec::new();
    let saved = store.save(&mut bytes).unwrap();
    assert_eq!(saved, Summary { revision: 51, entries: 49, bytes: bytes.len() as u64 });
    let file = directory.path().join("snapshot");
    std::fs::write(&file, &bytes).unwrap();
    // The store goes on; what it does now is not in the snapshot.
    store.put("/later", "1", Expect::Absent, None).await.unwrap();

    let path = directory.path().join("restored");
    let restored = snapshot::restore(&file, &path, 1000).unwrap();
    assert_eq!(restored, Summary { revision: 1051, ..saved });
    let again = snapshot::restore(&file, &path, 1000);
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let restored = Store::open(&path, Options::default()).unwrap();
    assert_eq!(restored.revision(), 1051);
    let mut entries = store.range(b"/", None, usize::MAX, None).await.unwrap().entries;
    entries.retain(|entry| entry.key != "/later");
    assert_eq!(restored.range(b"/", None, usize::MAX, None).await.unwrap().entries, entries);
    // Who knew the old store is told that it does not know this one.
    assert!(matches!(restored.watch("/", 52), Err(Error::Compacted { .. })));
    let files: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
}

#[tokio::test]
async fn damage_is_found_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("state"), 3).await;
    let mut bytes = Vec::new();
    store.save(&mut bytes).unwrap();
    let file = directory.path().join("snapshot");
    let path = directory.path().join("restored");
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let restored = snapshot::restore(&file, &path, 0);
        assert!(matches!(restored, Err(Error::SnapshotDamaged(_))), "{restored:?}");
        assert!(!path.exists() && !path.with_extension("restoring").exists());
    };
    for place in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x20;
        refused(&damaged);
    }
    for length in [0, 10, 40, bytes.len() - 33, bytes.len() - 1] {
        refused(&bytes[..length]);
    }
    std::fs::write(&file, &bytes).unwrap();
    snapshot::restore(&file, &path, 0).unwrap();
}

#[tokio::test]
async fn defragmenting_gives_room_back_and_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let store = filled(&path, 2).await;
    let large = vec![b'x'; 1 << 20];
    for count in 0..16 {
        store.put(format!("/large{count}"), large.clone(), Expect::Absent, None).await.unwrap();
    }
    for count in 0..16 {
        store.delete(format!("/large{count}"), Expect::Anything, None).await.unwrap();
    }
    let size = || std::fs::metadata(&path).unwrap().len();
    let before = size();
    store.defragment().unwrap();
    assert!(size() < before / 2, "{} of {before}", size());
    let status = store.status().unwrap();
    assert_eq!((status.keys, status.revision), (1, store.revision()));
    assert_eq!(store.get(b"/k1").await.unwrap().unwrap().value, "value 1");
    store.put("/k2", "more", Expect::Absent, None).await.unwrap();
}
