//! Watching, observing, paging, compacting: on both engines.

use std::sync::Arc;

use store::{Error, Expect, Options, Store};

use crate::engines::ALL;
use crate::recorder::Recorder;

async fn put(store: &Store, key: &str, value: &str) -> u64 {
    store.put(key.to_owned(), value.to_owned(), Expect::Anything, None).await.unwrap().revision
}

#[tokio::test]
async fn pages_continue_where_the_last_ended() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options::default()).await;
        for name in ["a", "b", "c", "d"] {
            put(&store, &format!("/x/{name}"), name).await;
        }
        put(&store, "/y/a", "other").await;
        let mut after: Option<Vec<u8>> = None;
        let mut seen = Vec::new();
        loop {
            let page = store.range(b"/x/", after.as_deref(), 3, None).await.unwrap();
            seen.extend(page.entries.iter().map(|entry| entry.value.clone()));
            after = page.entries.last().map(|entry| entry.key.to_vec());
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, ["a", "b", "c", "d"], "{engine:?}");
    }
}

#[tokio::test]
async fn expectations_are_kept() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options::default()).await;
        let first = store.put("/a", "1", Expect::Absent, None).await.unwrap();
        assert_eq!(first.previous, None);
        let Err(Error::Conflict { current: Some(current) }) =
            store.put("/a", "2", Expect::Absent, None).await
        else {
            panic!("{engine:?}: created twice");
        };
        assert_eq!((&current.value[..], current.modified), (&b"1"[..], first.revision));
        let second = store.put("/a", "2", Expect::Revision(first.revision), None).await.unwrap();
        assert_eq!(second.previous.map(|entry| entry.value), Some("1".into()));
        let stale = store.delete("/a", Expect::Revision(first.revision), None).await;
        assert!(matches!(stale, Err(Error::Conflict { current: Some(_) })), "{engine:?}: {stale:?}");
        let gone = store.delete("/a", Expect::Revision(second.revision), None).await.unwrap();
        assert_eq!(gone.previous.map(|entry| entry.value), Some("2".into()));
        assert_eq!(store.get(b"/a").await.unwrap(), None);
        let nothing = store.delete("/a", Expect::Anything, None).await.unwrap();
        assert_eq!((nothing.previous, nothing.revision), (None, gone.revision));
        let missing = store.put("/a", "3", Expect::Revision(second.revision), None).await;
        assert!(matches!(missing, Err(Error::Conflict { current: None })), "{engine:?}: {missing:?}");
    }
}

#[tokio::test]
async fn a_slow_watch_is_told_that_it_missed_something() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options { recent_events: 2, ..Options::default() }).await;
        let from = store.revision();
        let mut watch = store.watch("/", from).unwrap();
        for value in ["1", "2", "3"] {
            put(&store, "/a", value).await;
        }
        let missed = watch.next().await;
        let expected = from + 1;
        assert!(
            matches!(missed, Err(Error::Compacted { requested, oldest }) if requested == from && oldest == expected),
            "{engine:?}: {missed:?}"
        );
        assert!(matches!(store.watch("/", from), Err(Error::Compacted { .. })));
        assert_eq!(store.watch("/", from + 1).unwrap().next().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn compacted_revisions_are_gone() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options::default()).await;
        let recorder = Recorder::default();
        store.observe(b"/", recorder.clone()).await.unwrap();
        let first = put(&store, "/a", "1").await;
        let second = put(&store, "/a", "2").await;
        assert_eq!(store.range(b"/", None, 9, Some(first)).await.unwrap().entries[0].value, "1");
        store.compact(second).await.unwrap();
        assert_eq!(recorder.0.lock().unwrap().compacted, second);
        let gone = store.range(b"/", None, 9, Some(first)).await;
        assert!(matches!(gone, Err(Error::Compacted { .. })), "{engine:?}: {gone:?}");
        assert!(matches!(store.watch("/", first), Err(Error::Compacted { .. })));
        assert_eq!(store.range(b"/", None, 9, Some(second)).await.unwrap().entries[0].value, "2");
        let later = store.compact(second + 1).await;
        assert!(matches!(later, Err(Error::Future { .. })), "{engine:?}: {later:?}");
        let future = store.range(b"/", None, 9, Some(second + 1)).await;
        assert!(matches!(future, Err(Error::Future { .. })), "{engine:?}: {future:?}");
        // Again is no error.
        store.compact(second).await.unwrap();
    }
}

#[tokio::test]
async fn observers_see_a_write_before_its_writer_does() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options::default()).await;
        put(&store, "/a/1", "before").await;
        put(&store, "/b/1", "elsewhere").await;
        let recorder = Recorder::default();
        store.observe(b"/a/", recorder.clone()).await.unwrap();
        let state = |recorder: &Recorder| {
            let told = recorder.0.lock().unwrap();
            told.state
                .values()
                .map(|(value, _)| String::from_utf8(value.clone()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(state(&recorder), ["before"]);
        let note: store::Note = Arc::new("parsed");
        store.put("/a/2", "after", Expect::Absent, Some(note)).await.unwrap();
        assert_eq!(state(&recorder), ["before", "after"]);
        store.put("/b/2", "elsewhere", Expect::Absent, None).await.unwrap();
        store.delete("/a/1", Expect::Anything, None).await.unwrap();
        assert_eq!(state(&recorder), ["after"]);
        let told = recorder.0.lock().unwrap();
        assert_eq!(told.notes, [Some("parsed"), None], "{engine:?}");
        assert_eq!(told.reached, store.revision());
    }
}

#[tokio::test]
async fn observers_that_join_under_way_miss_nothing() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options::default()).await;
        let writer = store.clone();
        let writing = tokio::spawn(async move {
            for count in 0..200 {
                put(&writer, &format!("/k{}", count % 7), &count.to_string()).await;
            }
        });
        let mut recorders = Vec::new();
        while !writing.is_finished() {
            let recorder = Recorder::default();
            store.observe(b"/", recorder.clone()).await.unwrap();
            recorders.push(recorder);
            tokio::task::yield_now().await;
        }
        writing.await.unwrap();
        for recorder in recorders {
            recorder.check(&store).await;
        }
    }
}

#[tokio::test]
async fn deletes_carry_what_was_deleted() {
    for engine in ALL {
        let place = engine.place();
        let store = place.open(Options::default()).await;
        let revision = put(&store, "/a", "1").await;
        let written = store.delete("/a", Expect::Revision(revision), None).await.unwrap();
        let events = store.watch("/", revision).unwrap().next().await.unwrap();
        assert_eq!(events.len(), 1, "{engine:?}");
        assert_eq!(events[0].revision, written.revision);
        assert!(events[0].entry.is_none());
        assert_eq!(events[0].previous.as_ref().unwrap().value, "1");
    }
}
