//! Pressure (PSI) in the summary: how long tasks stood still for want of CPU, memory or I/O.

use k8s_cri::v1 as cri;
use serde_json::{Value, json};

fn data(data: &cri::PsiData) -> Value {
    json!({"total": data.total, "avg10": data.avg10, "avg60": data.avg60, "avg300": data.avg300})
}

/// As a runtime tells it; nothing where its kernel does not.
pub fn of_cri(psi: Option<&cri::PsiStats>) -> Option<Value> {
    let psi = psi?;
    Some(json!({"full": data(psi.full.as_ref()?), "some": data(psi.some.as_ref()?)}))
}

/// Of the whole machine: `cpu`, `memory` or `io`.
pub fn of_node(what: &str) -> Option<Value> {
    of_text(&std::fs::read_to_string(format!("/proc/pressure/{what}")).ok()?)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`; the total is in microseconds there.
fn of_text(text: &str) -> Option<Value> {
    let line = |kind: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let word = |key: &str| {
            rest.split(' ').filter_map(|word| word.split_once('=')).find(|(known, _)| *known == key)
        };
        let average = |key: &str| word(key)?.1.parse::<f64>().ok();
        Some(cri::PsiData {
            total: word("total")?.1.parse::<u64>().ok()?.saturating_mul(1_000),
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
        })
    };
    let some = line("some")?;
    // Older kernels have none for the CPU.
    let full = line("full").unwrap_or_default();
    Some(json!({"full": data(&full), "some": data(&some)}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let some = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\n";
        let full = "full avg10=0.50 avg60=0.00 avg300=0.00 total=3\n";
        let found = of_text(&format!("{some}{full}")).unwrap();
        assert_eq!(found["some"], json!({"total": 12_000, "avg10": 1.5, "avg60": 0.25, "avg300": 0.0}));
        assert_eq!(found["full"]["total"], 3_000);
        assert_eq!(of_text(some).unwrap()["full"]["total"], 0);
        for nothing in ["", "some", "some avg10=1"] {
            assert_eq!(of_text(nothing), None, "{nothing}");
        }
    }
}
