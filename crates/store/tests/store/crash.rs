//! A process that is killed in the middle of writing has lost nothing that it was told is written.
//!
//! The test runs itself as the writer: the child acknowledges writes on its output, the parent kills it and reads the
//! file that is left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Expect, Options, Store};

const DIRECTORY: &str = "STORE_CRASH_TEST_DIRECTORY";
const WRITERS: usize = 8;
const ROUNDS: usize = 4;

/// Writes for ever; a line for each acknowledged write.
fn write_for_ever(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let store = Store::open(&directory.join("state"), Options::default()).unwrap();
    let begin = store.revision();
    runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for count in 0.. {
                        let key = format!("/{writer}/{}", count % 7);
                        let value = format!("{begin}-{count}");
                        let written = if count % 5 == 4 {
                            store.delete(key.clone(), Expect::Anything, None).await.map(|_| "-".to_owned())
                        } else {
                            store.put(key.clone(), value.clone(), Expect::Anything, None).await.map(|_| value)
                        };
                        let line = format!("{key} {}\n", written.unwrap());
                        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        write_for_ever(directory.as_ref());
    }
    let directory = tempfile::tempdir().unwrap();
    // Per key, the acknowledged value ("-" for deleted) of the round that wrote it last.
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::acknowledged_writes_survive_kill_9", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // A whole line of what was written; the last one may be torn.
        let mut next = || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.strip_suffix('\n').map(str::to_owned)
        };
        let wanted = 150 + round * 37;
        let mut told = 0;
        let mut note = |line: &str| {
            if let Some((key, value)) = line.split_once(' ').filter(|(key, _)| key.starts_with('/')) {
                expected.insert(key.to_owned(), value.to_owned());
                return true;
            }
            false
        };
        while told < wanted {
            let line = next().expect("the writer goes on");
            told += usize::from(note(&line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it managed to say before it died counts too.
        while let Some(line) = next() {
            note(&line);
        }
        let store = Store::open(&directory.path().join("state"), Options::default()).unwrap();
        let read = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let get = |key: &str| read.block_on(store.get(key.as_bytes())).unwrap();
        for (key, value) in &expected {
            let found = get(key).map(|entry| entry.value);
            let found = found.as_ref().map_or("-", |value| std::str::from_utf8(value).unwrap());
            // Writes that were not acknowledged any more may have happened: each writer has at most one of them.
            if found != value {
                let newer = read.block_on(newest(&store, key));
                assert!(newer, "round {round}: {key} is {found}, acknowledged was {value}");
            }
        }
        // The next round begins from what is there.
        for (key, value) in &mut expected {
            let found = get(key);
            *value = found.map_or("-".to_owned(), |entry| String::from_utf8(entry.value.to_vec()).unwrap());
        }
        store.close();
    }
}

/// Whether the key of a writer is the one that its unacknowledged last write was about: that is possible for one key
/// per writer, and then every other key of that writer is as acknowledged.
async fn newest(store: &Store, key: &str) -> bool {
    let writer = key.rsplit_once('/').map_or("", |(writer, _)| writer);
    let entries = store.range(format!("{writer}/").as_bytes(), None, usize::MAX, None).await.unwrap().entries;
    let last = entries.iter().max_by_key(|entry| entry.modified);
    // A delete leaves no entry; a put must be the writer's newest.
    store
        .get(key.as_bytes())
        .await
        .unwrap()
        .is_none_or(|entry| last.is_some_and(|last| last.modified == entry.modified))
}
