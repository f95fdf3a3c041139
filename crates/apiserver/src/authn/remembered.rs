//! Answers of others, remembered for a while, by the SHA-256 of the question.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ring::digest;

/// More than these at a time, and what has expired is dropped; if that is not enough, everything.
const MOST: usize = 4096;

pub struct Remembered<T>(Mutex<HashMap<[u8; 32], (Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// What a question is remembered by. The question itself may be a secret.
pub fn key(question: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, question);
    // A SHA-256 is 32 bytes long.
    digest.as_ref().try_into().unwrap_or_default()
}

impl<T: Clone> Remembered<T> {
    pub fn get(&self, key: &[u8; 32]) -> Option<T> {
        let known = self.0.lock();
        known.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, answer)| answer.clone())
    }

    pub fn put(&self, key: [u8; 32], answer: T, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let mut known = self.0.lock();
        let now = Instant::now();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| now < *until);
            if known.len() >= MOST {
                known.clear();
            }
        }
        known.insert(key, (now + ttl, answer));
    }

    pub fn forget(&self) {
        self.0.lock().clear();
    }
}
