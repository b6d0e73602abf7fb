//! A mapping as a file for people: what every layer has, what it is predicted to take, and why.

use super::MapReport;

impl MapReport {
    /// The mapping as TOML, with comments: [`MapReport::mapping`] to `prune --mapping`, and to people why.
    pub fn toml(&self) -> String {
        let ms = |s: f64| format!("{:.4} ms", 1e3 * s);
        let mut out = String::new();
        let mut say = |line: String| {
            out.push_str(&line);
            out.push('\n');
        };
        say(format!("# Pruning schemes of {}, mapped by {}.", name(&self.settings.model), self.map.by));
        say(format!(
            "# Dense {} on {}; under this mapping {} as measured",
            ms(self.dense_s),
            self.runtime,
            ms(self.latency.ratio * self.dense_s)
        ));
        say(format!(
            "# ({:.1} % of dense), {} as predicted; {:.2}x fewer weights.",
            100.0 * self.latency.ratio,
            ms(self.predicted_s),
            self.compression
        ));
        if let (Some(score), Some(dense)) = (self.score, self.dense_score) {
            say(format!("# Held out {:.2} % before any training (dense {:.2} %).", score.percent, dense.percent));
        }
        say("#".into());
        say("# One table per layer, by its name; a layer without one stays dense. rate: all weights over those that stay. Edit at will:"
            .into());
        say("# `secateur prune MODEL --mapping THIS …` checks that every scheme fits its layer.".into());
        for l in &self.layers {
            say(String::new());
            if l.scheme.is_dense() {
                say(format!("# {}: dense, {}: {}", l.name, ms(l.dense_s), l.why));
                continue;
            }
            say(format!(
                "# {} -> {} predicted; keeps {:.1} % of the squared weights; {}",
                ms(l.dense_s),
                ms(l.predicted_s),
                100.0 * l.energy,
                l.why
            ));
            say(format!("[layers.{}]", quoted(&l.name)));
            say(format!("regularity = {}", quoted(&l.scheme.regularity.to_string())));
            say(format!("rate = {:?}", l.scheme.rate));
        }
        out
    }
}

fn name(path: &std::path::Path) -> String {
    // A line break in a file's name would end the comment.
    path.file_name().unwrap_or_default().to_string_lossy().replace(['\n', '\r'], " ")
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemes::Mapping;

    #[test]
    fn any_name_can_be_quoted() {
        for name in ["conv", "a/b.c", "\"", "\\", "two\nlines", "tab\t", "\u{7f}é"] {
            let text = format!("[layers.{}]\nregularity = \"filter\"\nrate = 2.25\n", quoted(name));
            let mapping = Mapping::from_toml(&text).expect(&text);
            assert_eq!(mapping.layers.keys().collect::<Vec<_>>(), [name]);
        }
    }
}
