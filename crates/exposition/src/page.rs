//! Metrics written line by line, where no library keeps them.

use std::fmt::Write as _;

/// Lines of metrics being written.
#[derive(Debug, Default)]
pub struct Page(String);

// Writing to a string cannot fail.
impl Page {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample_at(name, labels, value, None);
    }

    /// `at` is in milliseconds.
    pub fn sample_at(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Option<i64>) {
        self.0.push_str(name);
        for (number, (key, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{key}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let at = at.map(|at| format!(" {at}")).unwrap_or_default();
        let _ = writeln!(self.0, " {value}{at}");
    }

    pub fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.sample("a", &[("l", "x\"\\\n"), ("m", "y")], 1.5);
        page.sample_at("b", &[], 2.0, Some(7));
        assert_eq!(page.text(), "a{l=\"x\\\"\\\\\\n\",m=\"y\"} 1.5\nb 2 7\n");
    }
}
