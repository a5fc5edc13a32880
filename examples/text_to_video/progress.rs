use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use wan_pipeline::{Event, HubEvent, Step};

/// One line that says what is being done.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:28} {bar:40} {pos}/{len} {prefix}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(0).with_style(style) }
    }

    pub(crate) fn reset(&self) {
        self.bar.reset();
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Says something above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    pub(crate) fn show(&self, event: Event) {
        match event {
            Event::Download(event) => self.show_download(event),
            Event::Verifying { done, total } => {
                self.bar.set_message("verifying, MB");
                self.bar.set_prefix("");
                self.to(megabytes(done), megabytes(total));
            }
            Event::Loading { role } => self.bar.set_message(format!("loading {role}")),
            Event::EncodingVideo { .. } => self.bar.set_message("encoding the video"),
            Event::PromptCut { prompt, kept, dropped } => self.say(&format!(
                "warning: the {prompt} is too long: the first {kept} tokens count, the last \
                 {dropped} have no effect"
            )),
            Event::DecodingInTiles { reason } => {
                self.say(&format!(
                    "warning: decoding again in tiles, for want of memory: {reason}"
                ));
            }
            Event::Frame { done, frames, .. } => {
                self.bar.set_message("decoding frames");
                self.bar.set_prefix("");
                self.to(done, frames);
            }
            _ => {}
        }
    }

    /// `first` steps were done before, the others took `elapsed`.
    pub(crate) fn show_step(&self, step: &Step, first: usize, elapsed: Duration) {
        let each = elapsed.as_secs_f64() / (step.done - first) as f64;
        let left = each * (step.steps - step.done) as f64;
        self.bar.set_message("denoising");
        self.bar.set_prefix(format!("{left:.1} s left"));
        self.to(step.done, step.steps);
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
                self.bar.set_message("downloading, MB");
                self.bar.set_prefix(format!("{:.1} MB/s", bytes_per_second / 1e6));
                self.to(megabytes(done), megabytes(total));
            }
            _ => {}
        }
    }

    fn to(&self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
    }
}

fn megabytes(bytes: u64) -> usize {
    (bytes / 1_000_000) as usize
}
