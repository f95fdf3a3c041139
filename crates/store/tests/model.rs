//! The store against a model: whatever the writes, both hold the same, before and after closing and opening again.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Error, Expect, Options, Store};

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, value: u8, expect: Wish },
    Delete { key: u8, expect: Wish },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Anything,
    Absent,
    Current,
    Stale,
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![Just(Wish::Anything), Just(Wish::Absent), Just(Wish::Current), Just(Wish::Stale)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0u8..6, any::<u8>(), wish()).prop_map(|(key, value, expect)| Op::Put { key, value, expect }),
        4 => (0u8..6, wish()).prop_map(|(key, expect)| Op::Delete { key, expect }),
        1 => Just(Op::Reopen),
    ]
}

/// Value, created, modified.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64, u64)>;

fn expectation(wish: Wish, current: Option<&(Vec<u8>, u64, u64)>) -> (Expect, bool) {
    match (wish, current) {
        (Wish::Anything, _) => (Expect::Anything, true),
        (Wish::Absent, current) => (Expect::Absent, current.is_none()),
        (Wish::Current, Some((_, _, modified))) => (Expect::Revision(*modified), true),
        (Wish::Current, None) => (Expect::Revision(1), false),
        (Wish::Stale, _) => (Expect::Revision(u64::MAX), false),
    }
}

fn listed(store: &Store) -> Model {
    let range = store.range(b"/k", None, usize::MAX, None).unwrap();
    range
        .entries
        .into_iter()
        .map(|entry| (entry.key.to_vec(), (entry.value.to_vec(), entry.created, entry.modified)))
        .collect()
}

fn run(ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let open = || Store::open(&path, Options { recent_events: 1000, ..Options::default() }).unwrap();
    runtime.block_on(async {
        let mut store = open();
        let mut model = Model::new();
        let mut history: BTreeMap<u64, Model> = BTreeMap::from([(0, Model::new())]);
        let mut since = 0;
        let mut revision = 0;
        for op in ops {
            let (key, value, expect) = match op {
                Op::Reopen => {
                    store.close();
                    store = open();
                    since = revision;
                    assert_eq!(store.revision(), revision);
                    assert_eq!(listed(&store), model);
                    continue;
                }
                Op::Put { key, value, expect } => (key, Some(vec![value]), expect),
                Op::Delete { key, expect } => (key, None, expect),
            };
            let key = format!("/k{key}").into_bytes();
            let current = model.get(&key).cloned();
            let (expect, holds) = expectation(expect, current.as_ref());
            let written = match &value {
                Some(value) => store.put(key.clone(), value.clone(), expect, None).await,
                None => store.delete(key.clone(), expect, None).await,
            };
            if !holds {
                let Err(Error::Conflict { current: told }) = written else {
                    panic!("{written:?} although the expectation does not hold");
                };
                assert_eq!(told.map(|entry| entry.modified), current.map(|(_, _, modified)| modified));
                continue;
            }
            let written = written.unwrap();
            match value {
                Some(value) => {
                    revision += 1;
                    let created = current.as_ref().map_or(revision, |(_, created, _)| *created);
                    model.insert(key, (value, created, revision));
                }
                None if current.is_some() => {
                    revision += 1;
                    model.remove(&key);
                }
                None => {}
            }
            assert_eq!(written.revision, revision);
            assert_eq!(
                written.previous.map(|entry| entry.value.to_vec()),
                current.map(|(value, _, _)| value)
            );
            assert_eq!(listed(&store), model);
            history.insert(revision, model.clone());
        }
        for (at, model) in history.range(since..) {
            let range = store.range(b"/k", None, usize::MAX, Some(*at)).unwrap();
            let found: Vec<_> =
                range.entries.iter().map(|entry| (entry.key.to_vec(), entry.modified)).collect();
            let expected: Vec<_> =
                model.iter().map(|(key, (_, _, modified))| (key.clone(), *modified)).collect();
            assert_eq!(found, expected, "at {at}");
        }
        let mut replayed = history.get(&since).cloned().unwrap_or_default();
        let mut watch = store.watch("/k", since).unwrap();
        let mut reached = since;
        while reached < revision {
            for event in watch.next().await.unwrap() {
                reached = event.revision;
                match event.entry {
                    Some(entry) => replayed
                        .insert(entry.key.to_vec(), (entry.value.to_vec(), entry.created, entry.modified)),
                    None => replayed.remove(&*event.key),
                };
            }
        }
        assert_eq!(replayed, model);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn holds_what_the_model_holds(ops in prop::collection::vec(op(), 1..40)) {
        run(ops);
    }
}
