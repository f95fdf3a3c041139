//! The store against a model: whatever the writes, both hold the same, before and after closing and opening again.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Error, Expect, Options, Store};

use crate::engines::{Engine, Place};

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
        (Wish::Current, None) => (Expect::Revision(2), false),
        (Wish::Stale, _) => (Expect::Revision(u64::MAX), false),
    }
}

async fn listed(store: &Store) -> Model {
    let range = store.range(b"/k", None, usize::MAX, None).await.unwrap();
    range
        .entries
        .into_iter()
        .map(|entry| (entry.key.to_vec(), (entry.value.to_vec(), entry.created, entry.modified)))
        .collect()
}

/// On an engine that holds nothing.
fn run(place: &Place, runtime: &tokio::runtime::Runtime, ops: Vec<Op>) {
    let options = || Options { recent_events: 1000, ..Options::default() };
    runtime.block_on(async {
        let mut store = place.open(options()).await;
        for key in listed(&store).await.into_keys() {
            store.delete(key, Expect::Anything, None).await.unwrap();
        }
        let mut model = Model::new();
        let mut revision = store.revision();
        let mut since = revision;
        let mut history: BTreeMap<u64, Model> = BTreeMap::from([(revision, Model::new())]);
        for op in ops {
            let (key, value, expect) = match op {
                Op::Reopen => {
                    store.close();
                    store = place.open(options()).await;
                    since = revision;
                    assert_eq!(store.revision(), revision);
                    assert_eq!(listed(&store).await, model);
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
            assert_eq!(listed(&store).await, model);
            history.insert(revision, model.clone());
        }
        for (at, model) in history.range(since..) {
            let range = store.range(b"/k", None, usize::MAX, Some(*at)).await.unwrap();
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
        // The next case opens it again.
        store.close();
    });
}

/// All cases share one place, each begins by emptying it: a cluster takes a while to start.
fn check(engine: Engine, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = engine.place();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tested = runner.run(&prop::collection::vec(op(), 1..40), |ops| {
        run(&place, &runtime, ops);
        Ok(())
    });
    tested.unwrap();
}

#[test]
fn the_embedded_engine_holds_what_the_model_holds() {
    check(Engine::Embedded, 24);
}

#[test]
fn etcd_holds_what_the_model_holds() {
    check(Engine::Etcd, 12);
}
