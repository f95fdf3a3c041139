//! How often values up to each of some bounds were observed.

use crate::Page;

/// Its owner knows the upper bounds, ascending, and says the same each time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Not cumulative; what is above the last bound is in none.
    buckets: Vec<u64>,
    pub count: u64,
    pub sum: f64,
}

impl Histogram {
    pub fn observe(&mut self, bounds: &[f64], value: f64) {
        self.count += 1;
        self.sum += value;
        self.buckets.resize(bounds.len(), 0);
        let bucket = bounds.iter().position(|bound| value <= *bound);
        if let Some(bucket) = bucket.and_then(|bucket| self.buckets.get_mut(bucket)) {
            *bucket += 1;
        }
    }
}

impl Page {
    /// The samples of one histogram; [`Page::family`] goes before those of all.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], bounds: &[f64], told: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut write = |bound: &str, count: u64| {
            self.sample(&bucket, &[labels, &[("le", bound)]].concat(), float(count));
        };
        let mut below = 0;
        for (position, bound) in bounds.iter().enumerate() {
            below += told.buckets.get(position).copied().unwrap_or(0);
            write(&bound.to_string(), below);
        }
        write("+Inf", told.count);
        self.sample(&format!("{name}_sum"), labels, told.sum);
        self.sample(&format!("{name}_count"), labels, float(told.count));
    }
}

/// Exact up to 2^53, which is what the text form's readers have, too.
#[allow(clippy::cast_precision_loss)]
pub fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let mut told = Histogram::default();
        for value in [0.1, 0.2, 60.0] {
            told.observe(&[0.1, 50.0], value);
        }
        let mut page = Page::default();
        page.histogram("h", &[("a", "b")], &[0.1, 50.0], &told);
        assert_eq!(
            page.text(),
            "h_bucket{a=\"b\",le=\"0.1\"} 1\nh_bucket{a=\"b\",le=\"50\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 3\n\
             h_sum{a=\"b\"} 60.3\nh_count{a=\"b\"} 3\n"
        );
    }
}
