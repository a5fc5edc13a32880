//! `--save-state`: a run in a file, written from time to time and at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use wan_io::counted;
use wan_pipeline::io::files::Destination;
use wan_pipeline::{Backend, Denoising, StateWriter};

use crate::Result;
use crate::pace::Saves;
use crate::progress::Progress;

/// What is written, if anything is to be, and when.
pub(crate) struct Saving {
    /// The file, opened before the work began, for what the run is at its end.
    end: Option<(PathBuf, StateWriter)>,
    /// Where it is, if it can be replaced again and again, which a pipe cannot.
    file: Option<PathBuf>,
    /// Whether the file is there.
    saved: bool,
    saves: Saves,
    start: Instant,
}

impl Saving {
    pub(crate) fn new(path: Option<&Path>, writer: Option<StateWriter>) -> Self {
        let end = path.map(Path::to_owned).zip(writer);
        let file = path.and_then(|path| match Destination::of(path) {
            Destination::Entry(file) => Some(file),
            Destination::Stream(_) => None,
        });
        Self { end, file, saved: false, saves: Saves::default(), start: Instant::now() }
    }

    /// Saves the run, if that is due, so that not even a killed program loses much. That it fails is no
    /// reason to end the run.
    pub(crate) fn save_if_due<B: Backend>(&mut self, run: &Denoising<B>, progress: &Progress) {
        let now = self.start.elapsed();
        // Decoding needs the most memory, and is where a run is most easily lost.
        let due = run.done() == run.steps() || self.saves.is_due(now);
        let Some(file) = self.file.as_ref().filter(|_| due) else { return };
        match run.save(file) {
            Ok(()) => self.saved = true,
            Err(error) => {
                progress.say(&format!("warning: the run goes on, but could not be saved: {error}"))
            }
        }
        self.saves.done(now, self.start.elapsed());
    }

    /// Saves a run that ends before its video is whole.
    pub(crate) fn finish<B: Backend>(self, run: &Denoising<B>, progress: &Progress) -> Result<()> {
        let Some((path, writer)) = self.end else { return Ok(()) };
        run.save_to(writer)?;
        let (done, file) = (run.done(), path.display());
        let steps = counted(run.steps() as u64, "step");
        progress.say(&format!("{done} of {steps} saved in {file}: --resume {file} goes on"));
        Ok(())
    }

    /// Removes what was saved of a run whose video is whole.
    pub(crate) fn remove(self, progress: &Progress) {
        if let Some(file) = self.file.filter(|_| self.saved)
            && let Err(error) = fs::remove_file(&file)
        {
            progress.say(&format!("warning: {} cannot be removed: {error}", file.display()));
        }
    }
}
