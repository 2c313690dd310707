//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

/// Metrics as text.
#[derive(Default)]
pub(in crate::server) struct Exposition(String);

/// A metric, to which samples are added.
pub(in crate::server) struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a metric whose value goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a metric that only grows until the server is restarted.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { out: &mut self.0, name }
    }

    /// Returns the text.
    pub fn text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{end} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_lines_that_no_label_can_break() {
        let mut out = Exposition::default();
        out.gauge("a", "What it is.").add(&[], 5);
        out.counter("b", "Another.").add(&[("x", "1"), ("y", "q\"\\\n")], 0.25);
        let expected = "# HELP a What it is.\n# TYPE a gauge\na 5\n# HELP b Another.\n# TYPE b counter\n\
                        b{x=\"1\",y=\"q\\\"\\\\\\n\"} 0.25\n";
        assert_eq!(out.text(), expected);
    }
}
