//! Pod addresses: leased from the node's pod CIDRs, written to disk before they are used.
//!
//! One small file per sandbox under the state directory, made by rename so that it is whole or absent. A lease
//! outlives the process; it does not need to outlive the machine, because no pod does, so nothing is synced.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hostport::HostPort;
use crate::{Error, IpNet, Result};

/// The addresses of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub ips: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
}

/// The addresses of one CIDR that pods may have: all but the network's own, the gateway's (the first) and the
/// broadcast address.
#[derive(Clone, Debug)]
struct Pool {
    cidr: IpNet,
    /// Where the search for a free address goes on: freed addresses rest as long as possible.
    next: u128,
}

impl Pool {
    fn new(cidr: IpNet) -> Self {
        Self { cidr, next: 0 }
    }

    /// How many addresses pods may have.
    fn size(&self) -> u128 {
        let bits = u32::from(self.cidr.max_prefix_len() - self.cidr.prefix_len());
        let all = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        all.saturating_sub(if self.cidr.addr().is_ipv4() { 3 } else { 2 })
    }

    /// The address `offset` after the gateway's.
    fn address(&self, offset: u128) -> IpAddr {
        nth(self.cidr, offset + 2)
    }

    fn take(&mut self, used: &HashSet<IpAddr>) -> Option<IpAddr> {
        let size = self.size();
        // Among one more candidates than there are leases, one is free.
        let tries = size.min(used.len() as u128 + 1);
        for step in 0..tries {
            let offset = (self.next + step) % size;
            let ip = self.address(offset);
            if !used.contains(&ip) {
                self.next = (offset + 1) % size;
                return Some(ip);
            }
        }
        None
    }
}

/// The address `n` after the network's own.
fn nth(cidr: IpNet, n: u128) -> IpAddr {
    match cidr {
        IpNet::V4(net) => IpAddr::from((u32::from(net.network()).wrapping_add(n as u32)).to_be_bytes()),
        IpNet::V6(net) => IpAddr::from((u128::from(net.network()).wrapping_add(n)).to_be_bytes()),
    }
}

/// The gateway's address in a pod CIDR: the first.
pub(crate) fn gateway(cidr: IpNet) -> IpAddr {
    nth(cidr, 1)
}

/// All leases of one bridge.
pub(crate) struct Ipam {
    bridge: String,
    directory: PathBuf,
    pools: Vec<Pool>,
    leases: HashMap<String, Lease>,
    used: HashSet<IpAddr>,
}

impl Ipam {
    /// Reads the leases under `directory`. A file that makes no sense is not a lease: it is removed.
    pub fn open(bridge: &str, directory: PathBuf) -> Result<Self> {
        let failed = |operation| {
            let directory = directory.clone();
            move |source| Error::io(operation, directory, source)
        };
        std::fs::create_dir_all(&directory).map_err(failed("create the directory"))?;
        let mut leases = HashMap::new();
        let mut used = HashSet::new();
        for entry in std::fs::read_dir(&directory).map_err(failed("list the directory"))? {
            let path = entry.map_err(failed("list the directory"))?.path();
            match read(&path) {
                Some((sandbox, lease)) => {
                    used.extend(lease.ips.iter().copied());
                    leases.insert(sandbox, lease);
                }
                None => {
                    tracing::warn!(path = %path.display(), "not a lease, removed");
                    std::fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
                }
            }
        }
        Ok(Self { bridge: bridge.to_owned(), directory, pools: Vec::new(), leases, used })
    }

    /// From now on leases come from these CIDRs, one address of each. Older leases stay until released.
    pub fn set_cidrs(&mut self, cidrs: &[IpNet]) -> Result<()> {
        let mut pools = Vec::new();
        for cidr in cidrs {
            let pool = Pool::new(cidr.trunc());
            if pool.size() == 0 {
                return Err(Error::CidrTooSmall { bridge: self.bridge.clone(), cidr: *cidr });
            }
            pools.push(pool);
        }
        // Go on behind the highest lease, as if this process had made all of them.
        for pool in &mut pools {
            let last = (self.used.iter().filter(|ip| pool.cidr.contains(*ip))).max();
            if let Some(last) = last {
                pool.next = (offset_of(pool.cidr, *last).saturating_sub(1)) % pool.size();
            }
        }
        self.pools = pools;
        Ok(())
    }

    pub fn cidrs(&self) -> Vec<IpNet> {
        self.pools.iter().map(|pool| pool.cidr).collect()
    }

    pub fn get(&self, sandbox: &str) -> Option<&Lease> {
        self.leases.get(sandbox)
    }

    pub fn sandboxes(&self) -> impl Iterator<Item = &str> {
        self.leases.keys().map(String::as_str)
    }

    /// The sandbox's lease, made now if it has none.
    pub fn lease(&mut self, sandbox: &str) -> Result<Lease> {
        check_id(sandbox)?;
        if let Some(lease) = self.leases.get(sandbox) {
            return Ok(lease.clone());
        }
        if self.pools.is_empty() {
            return Err(Error::NoPodCidr { bridge: self.bridge.clone() });
        }
        let mut ips = Vec::with_capacity(self.pools.len());
        for pool in &mut self.pools {
            ips.push(
                pool.take(&self.used)
                    .ok_or_else(|| Error::Exhausted { bridge: self.bridge.clone(), cidr: pool.cidr })?,
            );
        }
        let lease = Lease { ips, host_ports: Vec::new() };
        self.write(sandbox, &lease)?;
        self.used.extend(lease.ips.iter().copied());
        self.leases.insert(sandbox.to_owned(), lease.clone());
        Ok(lease)
    }

    /// Notes the host ports of a sandbox that has a lease; gives the lease.
    pub fn set_host_ports(&mut self, sandbox: &str, ports: &[HostPort]) -> Result<Option<Lease>> {
        let Some(mut lease) = self.leases.get(sandbox).cloned() else {
            return Ok(None);
        };
        lease.host_ports = ports.to_vec();
        self.write(sandbox, &lease)?;
        self.leases.insert(sandbox.to_owned(), lease.clone());
        Ok(Some(lease))
    }

    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// With the sandboxes that have them.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Lease)> {
        self.leases.iter().map(|(id, lease)| (id.as_str(), lease))
    }

    fn write(&self, sandbox: &str, lease: &Lease) -> Result<()> {
        let path = self.directory.join(sandbox);
        let temporary = self.directory.join(format!(".{sandbox}"));
        let json = serde_json::to_vec(lease).map_err(io::Error::from);
        json.and_then(|json| std::fs::write(&temporary, json))
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|source| Error::io("write the lease", path, source))
    }

    /// Gives the sandbox's addresses back. One without a lease is fine.
    pub fn release(&mut self, sandbox: &str) -> Result<()> {
        check_id(sandbox)?;
        let path = self.directory.join(sandbox);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove the lease", path, source));
            }
            _ => {}
        }
        if let Some(lease) = self.leases.remove(sandbox) {
            for ip in &lease.ips {
                self.used.remove(ip);
            }
        }
        Ok(())
    }
}

fn offset_of(cidr: IpNet, ip: IpAddr) -> u128 {
    match (cidr, ip) {
        (IpNet::V4(net), IpAddr::V4(ip)) => u128::from(u32::from(ip).wrapping_sub(u32::from(net.network()))),
        (IpNet::V6(net), IpAddr::V6(ip)) => u128::from(ip).wrapping_sub(u128::from(net.network())),
        _ => 0,
    }
}

fn check_id(id: &str) -> Result<()> {
    let usable = !id.is_empty()
        && id.len() <= 128
        && !id.starts_with('.')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if usable {
        return Ok(());
    }
    Err(Error::BadSandboxId { id: id.to_owned() })
}

fn read(path: &Path) -> Option<(String, Lease)> {
    let sandbox = path.file_name()?.to_str()?;
    check_id(sandbox).ok()?;
    let lease = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some((sandbox.to_owned(), lease))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(directory: &Path, cidrs: &[&str]) -> Ipam {
        let mut ipam = Ipam::open("br", directory.to_owned()).expect("open");
        let cidrs: Vec<IpNet> = cidrs.iter().map(|c| c.parse().expect("cidr")).collect();
        ipam.set_cidrs(&cidrs).expect("cidrs");
        ipam
    }

    #[test]
    fn leases_survive_a_restart_and_are_not_given_twice() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut ipam = open(directory.path(), &["10.0.0.0/29", "fd00::/120"]);
        let first = ipam.lease("a").expect("lease");
        let text: Vec<String> = first.ips.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.0.0.2", "fd00::2"]);
        std::fs::write(directory.path().join("torn"), "{\"ips").expect("write");
        let mut ipam = open(directory.path(), &["10.0.0.0/29", "fd00::/120"]);
        assert_eq!(ipam.lease("a").expect("lease"), first);
        let mut all = HashSet::from([first.ips[0]]);
        for id in ["b", "c", "d", "e"] {
            assert!(all.insert(ipam.lease(id).expect("lease").ips[0]), "given twice");
        }
        let full = ipam.lease("f").expect_err("five addresses of a /29").to_string();
        assert!(full.contains("10.0.0.0/29"), "{full}");
        ipam.release("b").expect("release");
        ipam.release("b").expect("release again");
        assert_eq!(ipam.lease("f").expect("lease").ips[0].to_string(), "10.0.0.3");
        assert!(!directory.path().join("torn").exists());
    }

    #[test]
    fn a_freed_address_rests() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut ipam = open(directory.path(), &["10.0.0.0/24"]);
        ipam.lease("a").expect("lease");
        ipam.release("a").expect("release");
        assert_eq!(ipam.lease("b").expect("lease").ips[0].to_string(), "10.0.0.3");
    }

    #[test]
    fn hostile_sandbox_ids_are_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut ipam = open(directory.path(), &["10.0.0.0/24"]);
        for id in ["", "../x", "a/b", ".hidden", "a\0"] {
            assert!(matches!(ipam.lease(id), Err(Error::BadSandboxId { .. })), "{id:?}");
        }
    }

    #[test]
    fn cidrs_without_room_are_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        for (cidr, fits) in [
            ("10.0.0.0/30", true),
            ("10.0.0.0/31", false),
            ("10.0.0.0/32", false),
            ("fd00::/126", true),
            ("fd00::/127", false),
            ("fd00::/64", true),
            ("::/0", true),
        ] {
            let mut ipam = Ipam::open("br", directory.path().to_owned()).expect("open");
            let result = ipam.set_cidrs(&[cidr.parse().expect("cidr")]);
            assert_eq!(result.is_ok(), fits, "{cidr}");
        }
    }

    proptest! {
        #[test]
        fn never_two_sandboxes_with_one_address(steps in proptest::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let directory = tempfile::tempdir().expect("tempdir");
            let mut ipam = open(directory.path(), &["10.0.0.0/28"]);
            for (id, lease) in steps {
                let id = format!("s{id}");
                if lease { ipam.lease(&id).expect("13 addresses, 12 sandboxes"); } else { ipam.release(&id).expect("release"); }
                let ips: Vec<IpAddr> = ipam.leases.values().flat_map(|l| l.ips.clone()).collect();
                let distinct: HashSet<&IpAddr> = ips.iter().collect();
                prop_assert_eq!(distinct.len(), ips.len());
                prop_assert_eq!(ipam.used.len(), ips.len());
            }
        }
    }
}
