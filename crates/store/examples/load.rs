//! How many durable writes a second: `load <file> <writers> <seconds> <bytes>`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::{Expect, Options, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default: u64| args.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
    let path = args.first().ok_or("usage: load <file> [writers] [seconds] [bytes]")?;
    let (writers, seconds, bytes) = (number(1, 32), number(2, 5), number(3, 1000) as usize);
    let store = Store::open(path.as_ref(), Options::default())?;
    let written = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, written) = (store.clone(), written.clone());
            tokio::spawn(async move {
                let mut count = 0u64;
                while Instant::now() < end {
                    let key = format!("/registry/core/configmaps/default/cm-{writer}-{count}");
                    let expect = Expect::Anything;
                    if let Err(error) = store.put(key, vec![b'x'; bytes], expect, None).await {
                        eprintln!("{error}");
                        return;
                    }
                    count += 1;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let written = written.load(Ordering::Relaxed);
    println!("{written} writes, {:.0} per second", written as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}
