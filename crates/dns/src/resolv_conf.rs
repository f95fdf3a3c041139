//! The resolvers of the node, from its `resolv.conf`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// As many as the C library asks.
const MAX_SERVERS: usize = 3;
const PORT: u16 = 53;

/// The file, read again whenever it has changed.
pub(crate) struct ResolvConf {
    path: PathBuf,
    /// Those that would be ourselves.
    excluded: Vec<SocketAddr>,
    read: Mutex<(Option<SystemTime>, Arc<[SocketAddr]>)>,
}

impl ResolvConf {
    pub fn new(path: PathBuf, excluded: &[SocketAddr]) -> Self {
        Self { path, excluded: excluded.to_vec(), read: Mutex::new((None, Arc::from([]))) }
    }

    /// Servers on ports that no file can name.
    #[cfg(test)]
    pub fn fixed(servers: &[SocketAddr]) -> Self {
        // The directory's time of change stands for the file's, and is never different.
        let path = PathBuf::from("/");
        let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        Self { path, excluded: Vec::new(), read: Mutex::new((modified, Arc::from(servers))) }
    }

    pub fn servers(&self) -> Arc<[SocketAddr]> {
        let modified = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        let mut read = self.read.lock();
        if read.0 != modified || modified.is_none() {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            *read = (modified, parse(&text, &self.excluded).into());
        }
        read.1.clone()
    }
}

fn parse(text: &str, excluded: &[SocketAddr]) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // A zone (`fe80::1%eth0`) needs an interface index, which link-local resolvers on nodes are too rare for.
        Some(SocketAddr::new(server.parse::<IpAddr>().ok()?, PORT))
    });
    servers.filter(|server| !excluded.contains(server)).take(MAX_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let check = |text: &str, expected: &[&str]| {
            let excluded = ["10.96.0.10:53".parse().expect("address")];
            let servers: Vec<String> = parse(text, &excluded).iter().map(ToString::to_string).collect();
            assert_eq!(servers, expected, "{text:?}");
        };
        check("nameserver 192.0.2.1\n", &["192.0.2.1:53"]);
        check("# x\nsearch a b\nnameserver\t2001:db8::1 # y\n", &["[2001:db8::1]:53"]);
        check("nameserver 10.96.0.10\nnameserver 192.0.2.1", &["192.0.2.1:53"]);
        check("nameserver nonsense\nnameserver\n;nameserver 192.0.2.1", &[]);
        check(&"nameserver 192.0.2.1\n".repeat(9), &["192.0.2.1:53"; 3]);
        check("", &[]);
    }
}
