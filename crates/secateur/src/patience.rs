//! Waiting for a device that is not fit to be measured on.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Relative};
use crate::error::{Error, Result};
use crate::events::{Event, Observer, Unfit};
use crate::run::Run;
use crate::settings::Settings;

/// Seconds between two looks at a device that was not fit, and the share of the patience that they are at most.
const PAUSE_S: f64 = 20.0;
const PAUSE_SHARE: f64 = 0.1;

/// How long a run waits, whom it tells, and what it leaves when it is stopped meanwhile.
pub(crate) struct Patience<'a> {
    seconds: f64,
    observer: &'a mut dyn Observer,
    /// Directory of the run.
    out: &'a Path,
}

impl<'a> Patience<'a> {
    /// That of a run.
    pub fn of(settings: &Settings, run: &'a Run, observer: &'a mut dyn Observer) -> Self {
        Self { seconds: settings.patience_s, observer, out: run.directory() }
    }

    /// Measures until every ratio is known within ±`needed`: a device that turned noisy or slow in mid-run pauses it instead of
    /// misleading it. One that stays slow is taken at its new pace: ratios hold all the same.
    ///
    /// # Errors
    /// [`latency::Error::TooNoisy`] when patience is over; [`Error::Interrupted`]; those of `measure`.
    pub fn measured(
        self,
        bench: &mut Bench,
        needed: f64,
        measure: &mut dyn FnMut(&mut Bench) -> Result<Vec<Relative>>,
    ) -> Result<Vec<Relative>> {
        let start = Instant::now();
        loop {
            let measured = measure(bench)?;
            let Some(unfit) = bench.unfit(&measured, needed) else { return Ok(measured) };
            let left_s = self.seconds - start.elapsed().as_secs_f64();
            match unfit {
                _ if left_s > 0.0 => {
                    self.observer.event(Event::Paused { unfit, left_s });
                    self.wait(PAUSE_S.min(self.seconds * PAUSE_SHARE).min(left_s))?;
                }
                Unfit::Noisy { noise, needed } => {
                    return Err(latency::Error::TooNoisy { what: "the pruned network's latency".into(), noise, needed }.into());
                }
                Unfit::Slow { times } => {
                    bench.accept_pace(&measured);
                    let text =
                        format!("the device stays {times:.1} times slower; latencies are shares of the dense network's at this pace");
                    self.observer.event(Event::Note { text });
                }
            }
        }
    }

    /// The same, of one ratio.
    ///
    /// # Errors
    /// As [`Patience::measured`].
    pub fn confirmed(self, bench: &mut Bench, needed: f64, measure: &mut dyn FnMut(&mut Bench) -> Result<Relative>) -> Result<Relative> {
        let all = self.measured(bench, needed, &mut |bench| Ok(vec![measure(bench)?]))?;
        all.into_iter().next().ok_or_else(|| Error::Setting("the runtime measured nothing".into()))
    }

    fn wait(&self, seconds: f64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            if self.observer.stop() {
                return Err(Error::Interrupted { out: self.out.to_owned() });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }
}
