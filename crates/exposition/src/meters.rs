//! What a part counts and times of its own work.
//!
//! A family is described once, in a table; whoever does the work says [`Meters::count`] or [`Meters::observe`] with its
//! labels.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::Page;
use crate::histogram::{Histogram, float};

#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

#[derive(Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// By upper bounds.
    Histogram(&'static [f64]),
}

/// Of a counter there is only the count, of a gauge only the sum: what it was set to.
type Meter = Histogram;

type Labels = Vec<(&'static str, String)>;

/// Labels come from a fixed set of words; should they not, memory is bounded all the same.
const MOST: usize = 4096;

/// The meters of one part, by family and labels.
#[derive(Debug)]
pub struct Meters {
    families: &'static [Family],
    meters: Mutex<BTreeMap<(&'static str, Labels), Meter>>,
}

impl Meters {
    pub const fn new(families: &'static [Family]) -> Self {
        Self { families, meters: Mutex::new(BTreeMap::new()) }
    }

    pub fn count(&self, name: &'static str, labels: &[(&'static str, &str)]) {
        self.add(name, labels, 1);
    }

    /// With nothing to add, what has not happened yet is told as such.
    pub fn add(&self, name: &'static str, labels: &[(&'static str, &str)], number: u64) {
        self.change(name, labels, |_, meter| meter.count += number);
    }

    pub fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.change(name, labels, |_, meter| meter.sum = value);
    }

    pub fn took(&self, name: &'static str, labels: &[(&'static str, &str)], took: Duration) {
        self.observe(name, labels, took.as_secs_f64());
    }

    pub fn observe(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.change(name, labels, |family, meter| {
            if let Kind::Histogram(bounds) = family.kind {
                Histogram::observe(meter, bounds, value);
            }
        });
    }

    fn change(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
        change: impl FnOnce(&Family, &mut Meter),
    ) {
        let Some(family) = self.families.iter().find(|family| family.name == name) else {
            debug_assert!(false, "{name} is not in the table");
            return;
        };
        let labels: Labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let mut meters = self.meters.lock();
        let (known, key) = (meters.len(), (name, labels));
        if known < MOST || meters.contains_key(&key) {
            change(family, meters.entry(key).or_default());
        }
    }

    /// Writes down whatever has been heard of.
    pub fn write(&self, page: &mut Page) {
        let meters = self.meters.lock().clone();
        for Family { name, kind, help } in self.families {
            let mut own = meters.iter().filter(|((of, _), _)| of == name).peekable();
            if own.peek().is_none() {
                continue;
            }
            let word = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            page.family(name, word, help);
            for ((_, labels), meter) in own {
                let labels: Vec<(&str, &str)> =
                    labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
                match kind {
                    Kind::Counter => page.sample(name, &labels, float(meter.count)),
                    Kind::Gauge => page.sample(name, &labels, meter.sum),
                    Kind::Histogram(bounds) => page.histogram(name, &labels, bounds, meter),
                }
            }
        }
    }

    pub fn text(&self) -> String {
        let mut page = Page::default();
        self.write(&mut page);
        page.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_heard_of_is_written() {
        let meters = Meters::new(&[
            Family { name: "done_total", kind: Kind::Counter, help: "What was done." },
            Family { name: "never_total", kind: Kind::Counter, help: "Not heard of." },
            Family { name: "now", kind: Kind::Gauge, help: "How it is." },
            Family { name: "took_seconds", kind: Kind::Histogram(&[0.1, 50.0]), help: "How long." },
        ]);
        meters.count("done_total", &[("what", "a")]);
        meters.add("done_total", &[("what", "b")], 0);
        meters.set("now", &[], 0.5);
        meters.took("took_seconds", &[], Duration::from_millis(250));
        meters.observe("took_seconds", &[], 60.0);
        assert_eq!(
            meters.text(),
            "\
# HELP done_total What was done.
# TYPE done_total counter
done_total{what=\"a\"} 1
done_total{what=\"b\"} 0
# HELP now How it is.
# TYPE now gauge
now 0.5
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{le=\"0.1\"} 0
took_seconds_bucket{le=\"50\"} 1
took_seconds_bucket{le=\"+Inf\"} 2
took_seconds_sum 60.25
took_seconds_count 2
"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let meters =
            Meters::new(&[Family { name: "done_total", kind: Kind::Counter, help: "What was done." }]);
        for number in 0..2 * MOST {
            meters.count("done_total", &[("what", &number.to_string())]);
        }
        assert_eq!(meters.meters.lock().len(), MOST);
    }
}
