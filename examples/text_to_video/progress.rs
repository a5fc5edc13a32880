use std::cell::Cell;
use std::fmt::Display;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use wan_pipeline::{Event, HubEvent};

use crate::pace::{Log, Stage};

/// Writes a line to stderr. Where nobody reads it any more, the work goes on all the same.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says what is being done: in a bar on a terminal, elsewhere in a plain line now and then.
pub(crate) struct Progress {
    start: Instant,
    bar: ProgressBar,
    log: Arc<Mutex<Log>>,
    /// Which video is being decoded, counted from 1, and of how many.
    video: Cell<(usize, usize)>,
    /// Ends the thread that writes the lines.
    lines: Option<Sender<()>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:28} {bar:40} {pos}/{len} {prefix}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style);
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if dumb {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let (start, log) = (Instant::now(), Arc::default());
        let lines = bar.is_hidden().then(|| write_lines(start, Arc::clone(&log)));
        Self { start, bar, log, video: Cell::new((1, 1)), lines }
    }

    pub(crate) fn reset(&self) {
        self.bar.reset();
    }

    /// All is done.
    pub(crate) fn clear(&self) {
        self.clear_bar();
        *locked(&self.log) = Log::default();
    }

    pub(crate) fn clear_bar(&self) {
        self.bar.finish_and_clear();
    }

    /// Says something above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// How far the work had come when it was stopped, in words.
    pub(crate) fn describe_stop(&self) -> String {
        let log = locked(&self.log);
        let Stage { name, all, .. } = log.stage();
        match (name.as_str(), all) {
            ("", _) => "stopped; no video was written".into(),
            (name, 0) => format!("stopped while {name}; no video was written"),
            (name, _) => {
                let count = log.stage().count();
                format!("stopped while {name}, after {count}; no video was written")
            }
        }
    }

    pub(crate) fn show(&self, event: Event) {
        match event {
            Event::Download(event) => self.show_download(event),
            Event::Verifying { done, total } => {
                self.set("verifying", "MB", megabytes(done), megabytes(total));
            }
            Event::Loading { role } => self.set(format!("loading {role}"), "", 0, 0),
            Event::EncodingVideo { .. } => self.set("encoding the video", "", 0, 0),
            Event::EncodingImages { found, size, fit, .. } => {
                if found != size {
                    let [from, to] = [found, size].map(|[width, height]| format!("{width}x{height}"));
                    self.say(&format!("the image is brought from {from} to {to} ({fit})"));
                }
                self.set("encoding the image", "", 0, 0);
            }
            Event::PromptCut { prompt, kept, dropped } => self.say(&format!(
                "warning: the {prompt} is too long: the first {kept} tokens count, the rest \
                 ({dropped}) has no effect"
            )),
            Event::NegativePromptUnused { requests, batch } => {
                let numbers: Vec<_> = requests.iter().map(|i| (i + 1).to_string()).collect();
                let on = match numbers.len() == batch {
                    true => String::new(),
                    false => format!(" on video {} of {batch}", numbers.join(", ")),
                };
                self.say(&format!(
                    "warning: without guidance (a scale of 1) the negative prompt has no effect{on}"
                ));
            }
            Event::SeedCut { seed, counts } => self.say(&format!(
                "warning: of a seed the low 32 bits count: {seed} gives the video of {counts}"
            )),
            Event::SlowDisk { role, bytes_per_second } => self.say(&format!(
                "the weights of the {role} come from the disk at {:.0} MB/s, more slowly than they are \
                 used: a faster disk or more memory would help",
                bytes_per_second / 1e6
            )),
            Event::DecodingInTiles { reason } => {
                self.say(&format!(
                    "warning: decoding again in tiles, for want of memory: {reason}"
                ));
            }
            Event::DecodingTile { done, total, .. } => {
                self.set(self.decoding_name(), "tiles", done, total);
            }
            Event::Frame { done, frames, .. } => self.decoding(done, frames),
            _ => {}
        }
    }

    /// `done` steps of all have been made, before or now.
    pub(crate) fn show_step(&self, done: usize, steps: usize) {
        self.set("denoising", "steps", done, steps);
        if let Some(left) = locked(&self.log).left(self.start.elapsed()) {
            self.bar.set_prefix(format!("{:.1} s left", left.as_secs_f64()));
        }
    }

    /// The frames from here on are those of this video, counted from 1, of so many.
    pub(crate) fn begin_video(&self, number: usize, count: usize, frames: usize) {
        self.video.set((number, count));
        self.decoding(0, frames);
    }

    /// So many frames of a stream have been written.
    pub(crate) fn show_stream(&self, done: usize, frames: usize) {
        self.set("streaming", "frames", done, frames);
    }

    fn decoding(&self, done: usize, frames: usize) {
        self.set(self.decoding_name(), "frames", done, frames);
    }

    fn decoding_name(&self) -> String {
        match self.video.get() {
            (_, 1) => "decoding".into(),
            (number, count) => format!("decoding video {number} of {count}"),
        }
    }

    fn show_download(&self, event: HubEvent) {
        match event {
            HubEvent::Resolved { repo, revision, commit } => {
                self.say(&format!("{repo}: {revision} is commit {commit}"));
            }
            HubEvent::CacheOnly { reason } => self.say(&format!("using the cache: {reason}")),
            HubEvent::NoLinks { cache, reason } => self.say(&format!(
                "{}: no symbolic links there ({reason}): files are hard links, or moved there",
                cache.display()
            )),
            HubEvent::Waiting { file } => {
                self.say(&format!("waiting for another process that downloads {file}"));
            }
            HubEvent::TokenRefused { source, reason } => {
                self.say(&format!("going on without the token from {source}: {reason}"));
            }
            HubEvent::Retrying { file, reason, wait } if wait.as_secs() == 0 => {
                self.say(&format!("{file}: trying again: {reason}"));
            }
            HubEvent::Retrying { file, reason, wait } => {
                self.say(&format!("{file}: trying again in {} s: {reason}", wait.as_secs()));
            }
            HubEvent::Downloading { done, total, bytes_per_second, .. } => {
                let (done, all) = (megabytes(done), megabytes(total));
                let detail = format!("{:.1} MB/s", bytes_per_second / 1e6);
                let name = "downloading".into();
                self.set_stage(Stage { name, unit: "MB", done, all, detail });
            }
            _ => {}
        }
    }

    fn set(&self, name: impl Into<String>, unit: &'static str, done: usize, all: usize) {
        self.set_stage(Stage { name: name.into(), unit, done, all, detail: String::new() });
    }

    fn set_stage(&self, stage: Stage) {
        self.bar.set_prefix(stage.detail.clone());
        self.bar.set_message(match stage.unit {
            "" => stage.name.clone(),
            unit => format!("{}, {unit}", stage.name),
        });
        if stage.all > 0 {
            self.bar.set_length(stage.all as u64);
            self.bar.set_position(stage.done as u64);
        }
        let now = self.start.elapsed();
        let line = {
            let mut log = locked(&self.log);
            log.set(now, stage);
            self.lines.as_ref().and_then(|_| log.line(now))
        };
        line.iter().for_each(say);
    }
}

/// Writes the lines that become due while nothing is told: a step can take an hour.
fn write_lines(start: Instant, log: Arc<Mutex<Log>>) -> Sender<()> {
    let (sender, end) = mpsc::channel();
    thread::spawn(move || {
        while end.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let line = locked(&log).line(start.elapsed());
            line.iter().for_each(say);
        }
    });
    sender
}

fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn megabytes(bytes: u64) -> usize {
    (bytes / 1_000_000) as usize
}
