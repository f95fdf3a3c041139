//! Short, stable hashes of pod templates, safe in names and label values.

use serde::Serialize;

/// Characters without vowels and look-alikes, so that no hash spells a word.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over the JSON of an object, whose maps are sorted; `collisions` gives the next hash after a clash.
pub fn template_hash<T: Serialize>(template: &T, collisions: Option<i32>) -> String {
    let mut hash = Fnv(0x811c_9dc5);
    // Kubernetes types always serialise.
    if serde_json::to_writer(&mut hash, template).is_err() {
        hash.write_bytes(b"unserialisable");
    }
    if let Some(collisions) = collisions {
        hash.write_bytes(&collisions.to_le_bytes());
    }
    safe_encode(&hash.0.to_string())
}

/// Maps each character of a decimal number to one that is safe in names, as upstream does.
fn safe_encode(number: &str) -> String {
    number.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

struct Fnv(u32);

impl Fnv {
    fn write_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

impl std::io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_safe_and_move_on_collisions() {
        let hash = template_hash(&"template", None);
        assert_eq!(hash, template_hash(&"template", None));
        assert_ne!(hash, template_hash(&"template2", None));
        assert_ne!(hash, template_hash(&"template", Some(1)));
        assert!(hash.len() <= 10 && hash.bytes().all(|byte| ALPHABET.contains(&byte)));
        // FNV-1a of nothing is its offset basis.
        assert_eq!(Fnv(0x811c_9dc5).0, 2_166_136_261);
        assert_eq!(safe_encode("1234567890"), "56789bcdf4");
    }
}
