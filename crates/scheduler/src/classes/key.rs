//! What makes pods alike: equal in everything that some judgement looks at.
//!
//! Keys are 128-bit hashes under random seeds, so that nobody can make two different pods collide.

use std::hash::{BuildHasher, Hash, Hasher};
use std::io;

use ahash::{AHasher, RandomState};
use serde::Serialize;

use crate::labels::Labels;
use crate::plugins::needed;
use crate::pod::{self, PodInfo};

pub type Key = u128;

/// Where keys come from. Keys of different makers say nothing about each other.
pub struct Keys {
    high: RandomState,
    low: RandomState,
}

impl Default for Keys {
    fn default() -> Self {
        Self { high: RandomState::new(), low: RandomState::new() }
    }
}

impl Keys {
    fn digest(&self) -> Digest {
        Digest { high: self.high.build_hasher(), low: self.low.build_hasher() }
    }

    /// Of what is looked at node by node; `names` counts changes of which classes stand for extended resources.
    pub fn local(&self, profile: usize, pod: &PodInfo, names: u64) -> Key {
        let own = *pod.key.get_or_init(|| {
            let mut digest = self.digest();
            pod.requests.hash(&mut digest);
            pod.scored.hash(&mut digest);
            pod.host_ports.hash(&mut digest);
            needed(pod).hash(&mut digest);
            pod::node_name(&pod.pod).hash(&mut digest);
            let Some(spec) = pod.spec() else { return digest.key() };
            digest.json(&spec.tolerations);
            spec.node_selector.hash(&mut digest);
            digest.json(&spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()));
            for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
                container.image.hash(&mut digest);
            }
            let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref());
            volumes.for_each(|image| image.reference.hash(&mut digest));
            digest.key()
        });
        let mut digest = self.digest();
        let names = if pod.requests.others.is_empty() { 0 } else { names };
        (profile, own, names).hash(&mut digest);
        digest.key()
    }

    /// Of what is looked at across nodes: `labels` are those that some selector may look at.
    pub fn cross(
        &self,
        local: Key,
        pod: &PodInfo,
        labels: &Labels,
        constraints: &impl std::fmt::Debug,
    ) -> Key {
        let mut digest = self.digest();
        local.hash(&mut digest);
        pod.namespace().hash(&mut digest);
        labels.hash(&mut digest);
        digest.debug(constraints);
        digest.debug(&pod.terms);
        digest.key()
    }
}

struct Digest {
    high: AHasher,
    low: AHasher,
}

impl Digest {
    fn json(&mut self, value: &impl Serialize) {
        // A hash takes any bytes.
        let _ = serde_json::to_writer(&mut *self, value);
        0_u8.hash(self);
    }

    fn debug(&mut self, value: &impl std::fmt::Debug) {
        let _ = io::Write::write_fmt(self, format_args!("{value:?}"));
        0_u8.hash(self);
    }

    fn key(&self) -> Key {
        u128::from(self.high.finish()) << 64 | u128::from(self.low.finish())
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.low.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.high.write(bytes);
        self.low.write(bytes);
    }
}

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Hasher::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
