//! When something is worth a line in a log, and when a run is worth saving. Times are given by the caller.

use std::time::Duration;

/// Short runs say nothing.
const FIRST: Duration = Duration::from_secs(10);
/// Where nothing special happens, a line comes this often.
const REGULAR: Duration = Duration::from_secs(30);
/// Between lines for each tenth of a stage.
const LEAST: Duration = Duration::from_secs(5);
/// Saving takes at most this part of the time, once it is known how long it takes.
const SAVING: u32 = 100;

/// A part of the work, and how far it has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stage {
    pub(crate) name: String,
    /// What is counted, in the plural.
    pub(crate) unit: &'static str,
    pub(crate) done: usize,
    /// 0 where nothing is counted.
    pub(crate) all: usize,
    /// More to say about it.
    pub(crate) detail: String,
}

impl Stage {
    /// `12 of 50 steps`
    pub(crate) fn count(&self) -> String {
        format!("{} of {} {}", self.done, self.all, self.unit)
    }

    fn tenth(&self) -> usize {
        10 * self.done / self.all.max(1)
    }
}

/// Lines for a log, in place of a bar. Times are since the start of the program.
#[derive(Debug, Default)]
pub(crate) struct Log {
    stage: Stage,
    /// When the stage began, and how much of it was done then.
    began: (Duration, usize),
    /// The last line: when, in which stage, at which tenth of it.
    last: Option<(Duration, String, usize)>,
}

impl Log {
    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Notes how far the work is.
    pub(crate) fn set(&mut self, now: Duration, stage: Stage) {
        if stage.name != self.stage.name {
            self.began = (now, stage.done);
        }
        self.stage = stage;
    }

    /// How long the stage will take from now on, judged by what was done in it.
    pub(crate) fn left(&self, now: Duration) -> Option<Duration> {
        let (began, before) = self.began;
        let done = self.stage.done.checked_sub(before).filter(|done| *done > 0)?;
        let left = self.stage.all.saturating_sub(self.stage.done);
        Some(now.saturating_sub(began).mul_f64(left as f64 / done as f64))
    }

    /// A line, if it is time for one.
    pub(crate) fn line(&mut self, now: Duration) -> Option<String> {
        if now < FIRST || self.stage.name.is_empty() {
            return None;
        }
        let tenth = self.stage.tenth();
        let due = self.last.as_ref().is_none_or(|(last, stage, last_tenth)| {
            let since = now.saturating_sub(*last);
            *stage != self.stage.name || since >= REGULAR || tenth != *last_tenth && since >= LEAST
        });
        if !due {
            return None;
        }
        self.last = Some((now, self.stage.name.clone(), tenth));
        let mut line = self.stage.name.clone();
        if self.stage.all > 0 {
            line += &format!(": {}", self.stage.count());
        }
        if !self.stage.detail.is_empty() {
            line += &format!(", {}", self.stage.detail);
        }
        line += &format!(", {} elapsed", clock(now));
        if let Some(left) = self.left(now) {
            line += &format!(", about {} left", clock(left));
        }
        Some(line)
    }
}

/// `3.5 s`, or `1:02:03` where it is long.
pub(crate) fn about(time: Duration) -> String {
    match time.as_secs() {
        0..100 => format!("{:.1} s", time.as_secs_f64()),
        _ => clock(time),
    }
}

/// `1:02:03`
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Says when a run is saved again: after the first step, and then so rarely that it costs little.
#[derive(Debug, Default)]
pub(crate) struct Saves(Option<(Duration, Duration)>);

impl Saves {
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.0.is_none_or(|(end, cost)| now.saturating_sub(end) >= cost * SAVING)
    }

    /// Notes a save.
    pub(crate) fn done(&mut self, start: Duration, end: Duration) {
        self.0 = Some((end, end.saturating_sub(start)));
    }
}
