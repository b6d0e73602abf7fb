//! What long work shows on standard error: a bar with the time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use secateur::{Event, Observer, Unfit};

use crate::interrupt;
use crate::numbers::{duration, percent, seconds};

/// Shows events, and passes on the wish to stop.
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    stage: Option<(String, Instant)>,
    quiet: bool,
    outlook: bool,
}

impl Progress {
    /// A display for one command; `quiet` shows nothing but what must be known.
    pub fn new(quiet: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, started: Instant::now(), stage: None, quiet, outlook: true }
    }

    /// For work without a budget.
    pub fn without_outlook(mut self) -> Self {
        self.outlook = false;
        self
    }

    /// One line, above the bar where there is one.
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn chat(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    fn end_stage(&mut self) {
        if let Some((what, since)) = self.stage.take()
            && self.bar.is_some()
        {
            let took = since.elapsed();
            // A stage that was over at once was recalled, or is no news.
            if took > Duration::from_millis(500) {
                self.line(&format!("  {what}: {}", duration(took.as_secs_f64())));
            }
        }
    }

    fn begin_stage(&mut self, what: &str) {
        self.end_stage();
        match &self.bar {
            Some(bar) => {
                bar.reset();
                bar.set_style(style("{spinner} {msg} ({elapsed})"));
                bar.set_message(what.to_owned());
            }
            None => self.chat(&format!("[{:>7}] {what}", duration(self.started.elapsed().as_secs_f64()))),
        }
        self.stage = Some((what.to_owned(), Instant::now()));
    }

    fn advance(&mut self, done: usize, total: usize, note: &str) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != Some(total as u64) {
            bar.set_length(total as u64);
            bar.set_style(style("{spinner} {prefix} [{bar:24}] {pos}/{len} {msg} ({eta} left)"));
            bar.set_prefix(self.stage.as_ref().map_or(String::new(), |s| s.0.clone()));
            bar.reset_eta();
        }
        bar.set_position(done as u64);
        bar.set_message(note.to_owned());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Observer for Progress {
    fn event(&mut self, event: Event) {
        match event {
            Event::Outlook { .. } if !self.outlook => {}
            Event::Outlook { dense_s, budget_s, floor_s, estimate_s } => {
                let share = |s: f64| percent(s / dense_s);
                self.chat(&format!("dense latency  {}", seconds(dense_s)));
                self.chat(&format!("budget         {} ({} of dense)", seconds(budget_s), share(budget_s)));
                self.chat(&format!(
                    "floor          {} ({} of dense), predicted for the smallest network",
                    seconds(floor_s),
                    share(floor_s)
                ));
                if let Some(s) = estimate_s {
                    self.chat(&format!("time needed    about {}", duration(s)));
                }
            }
            Event::Stage { what } => self.begin_stage(&what),
            Event::Progress { done, total, note } => self.advance(done, total, &note),
            Event::Recalled { what } => self.chat(&format!("  {what}: found in the journal, not done again")),
            Event::Measured { attempt, predicted_s, measured_s } => {
                self.chat(&format!("  attempt {attempt}: measured {}, predicted {}", seconds(measured_s), seconds(predicted_s)));
            }
            Event::Search { what, accuracy, latency_s, measured, scored, left_s } => {
                let best = accuracy.map_or("none at the budget yet".into(), |a| format!("best {a:.2} % held out"));
                let at = latency_s.map_or(String::new(), |s| format!(" at {}", seconds(s)));
                let left = left_s.filter(|s| *s > 0.0).map_or(String::new(), |s| format!("; {} left", duration(s)));
                self.chat(&format!("  {what}: {best}{at}; {measured} measured, {scored} scored{left}"));
            }
            Event::Paused { unfit, left_s } => {
                let what = match unfit {
                    Unfit::Noisy { noise, needed } => format!("too noisy (±{}, ±{} is needed)", percent(noise), percent(needed)),
                    Unfit::Slow { times } => format!("{times:.1} times slower than when this run began"),
                };
                self.chat(&format!("  paused: the device is {what}; it is tried again for {}", duration(left_s)));
            }
            Event::Note { text } => self.chat(&format!("  {text}")),
        }
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end_stage();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
