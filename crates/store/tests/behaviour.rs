//! Watching, observing, paging, compacting.

use std::sync::{Arc, Mutex};

use store::{Error, Expect, Options, Store};

async fn put(store: &Store, key: &str, value: &str) -> u64 {
    store.put(key.to_owned(), value.to_owned(), Expect::Anything, None).await.unwrap().revision
}

#[tokio::test]
async fn pages_continue_where_the_last_ended() {
    let store = Store::in_memory().unwrap();
    for name in ["a", "b", "c", "d"] {
        put(&store, &format!("/x/{name}"), name).await;
    }
    put(&store, "/y/a", "other").await;
    let mut after: Option<Vec<u8>> = None;
    let mut seen = Vec::new();
    loop {
        let page = store.range(b"/x/", after.as_deref(), 3, None).unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.value.clone()));
        after = page.entries.last().map(|entry| entry.key.to_vec());
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_slow_watch_is_told_that_it_missed_something() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { recent_events: 2, ..Options::default() };
    let store = Store::open(&directory.path().join("state"), options).unwrap();
    let mut watch = store.watch("/", 0).unwrap();
    for value in ["1", "2", "3"] {
        put(&store, "/a", value).await;
    }
    assert!(matches!(watch.next().await, Err(Error::Compacted { requested: 0, oldest: 1 })));
    assert!(matches!(store.watch("/", 0), Err(Error::Compacted { .. })));
    assert_eq!(store.watch("/", 1).unwrap().next().await.unwrap().len(), 2);
}

#[tokio::test]
async fn compacted_revisions_are_gone() {
    let store = Store::in_memory().unwrap();
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    assert_eq!(store.range(b"/", None, 9, Some(first)).unwrap().entries[0].value, "1");
    store.compact(second).unwrap();
    assert!(matches!(store.range(b"/", None, 9, Some(first)), Err(Error::Compacted { .. })));
    assert_eq!(store.range(b"/", None, 9, Some(second)).unwrap().entries[0].value, "2");
    assert!(matches!(store.compact(second + 1), Err(Error::Future { .. })));
    assert!(matches!(store.range(b"/", None, 9, Some(second + 1)), Err(Error::Future { .. })));
}

#[tokio::test]
async fn observers_see_a_write_before_its_writer_does() {
    let store = Store::in_memory().unwrap();
    put(&store, "/a/1", "before").await;
    put(&store, "/b/1", "elsewhere").await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (found, told) = (seen.clone(), seen.clone());
    store
        .observe(
            b"/a/",
            move |entry| found.lock().unwrap().push((entry.value, None)),
            move |events, _| {
                let new = events.iter().map(|event| {
                    let note =
                        event.note.clone().and_then(|note| note.downcast::<&str>().ok()).map(|note| *note);
                    (event.entry.as_ref().map(|entry| entry.value.clone()).unwrap_or_default(), note)
                });
                told.lock().unwrap().extend(new);
            },
        )
        .unwrap();
    let note: store::Note = Arc::new("parsed");
    store.put("/a/2", "after", Expect::Absent, Some(note)).await.unwrap();
    store.put("/b/2", "elsewhere", Expect::Absent, None).await.unwrap();
    store.delete("/a/1", Expect::Anything, None).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [("before".into(), None), ("after".into(), Some("parsed")), ("".into(), None)]);
}

#[tokio::test]
async fn deletes_carry_what_was_deleted() {
    let store = Store::in_memory().unwrap();
    let revision = put(&store, "/a", "1").await;
    let written = store.delete("/a", Expect::Revision(revision), None).await.unwrap();
    let events = store.watch("/", revision).unwrap().next().await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].revision, written.revision);
    assert!(events[0].entry.is_none());
    assert_eq!(events[0].previous.as_ref().unwrap().value, "1");
}
