use std::collections::HashMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use wan_io::counted;
use wan_pipeline::io::files::{Destination, WriteError};
use wan_pipeline::{
    Backend, CancelToken, Denoising, EmbeddingsWriter, Error, FrameSink, Latents, LatentsWriter,
    Metadata, StateWriter, VideoError, VideoSpec, VideoWriter,
};

use crate::Result;
use crate::grid::Grid;
use crate::options::Options;
use crate::progress::Progress;

/// A video to write: its size, and how it is made.
#[derive(Clone)]
pub(crate) struct Film {
    pub(crate) spec: VideoSpec,
    pub(crate) metadata: Metadata,
}

/// All files that a run writes, opened before the work begins.
pub(crate) struct Outputs {
    pub(crate) videos: Vec<Output>,
    /// How many videos there are.
    pub(crate) count: usize,
    /// Whether standard output gets one of them, and so nothing else.
    pub(crate) use_stdout: bool,
    latents: Option<LatentsWriter>,
    pub(crate) state: Option<StateWriter>,
    pub(crate) embeddings: Option<EmbeddingsWriter>,
    pub(crate) grid: Option<Grid>,
    films: Vec<Film>,
    previews: Vec<PathBuf>,
}

/// The file of one video; its frames are kept too where a contact sheet needs them.
pub(crate) struct Output {
    path: PathBuf,
    spec: VideoSpec,
    writer: VideoWriter,
    kept: Option<Vec<Vec<u8>>>,
}

impl Outputs {
    /// Opens everything.
    pub(crate) fn open(
        options: &Options,
        films: Vec<Film>,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<Self> {
        check_stream(options, films.len())?;
        let paths: Vec<PathBuf> =
            (1..=films.len()).map(|number| numbered(&options.out, number, films.len())).collect();
        let ending = if films.iter().all(|film| film.spec.frames == 1) { "png" } else { "gif" };
        let previews = match options.preview {
            Some(_) => paths.iter().map(|path| preview_path(path, ending)).collect(),
            None => Vec::new(),
        };
        check_different(options, paths.iter().chain(&previews))?;
        let mut videos = Vec::new();
        for (path, film) in paths.into_iter().zip(&films) {
            let writer = open_video(&path, film, progress, cancel)?;
            let kept = options.grid.is_some().then(Vec::new);
            videos.push(Output { path, spec: film.spec, writer, kept });
        }
        let mut all = all_outputs(options).map(|(_, path)| Destination::of(path));
        Ok(Self {
            count: videos.len(),
            use_stdout: all.any(|output| output.is_stdout()),
            videos,
            latents: options.save_latents.as_ref().map(LatentsWriter::create).transpose()?,
            state: options.save_state.as_ref().map(StateWriter::create).transpose()?,
            embeddings: options
                .save_embeddings
                .as_ref()
                .map(EmbeddingsWriter::create)
                .transpose()?,
            grid: options.grid.as_ref().map(|path| Grid::open(path, &films)).transpose()?,
            films,
            previews,
        })
    }

    /// Writes the latents, if they are to be written.
    pub(crate) fn write_latents<B: Backend>(&mut self, latents: &[Latents<B>]) -> Result<()> {
        if let Some(writer) = self.latents.take() {
            let metadata: Vec<_> = self.films.iter().map(|film| film.metadata.clone()).collect();
            writer.write(latents, &metadata)?;
        }
        Ok(())
    }

    /// Writes a preview of each video beside it.
    pub(crate) fn write_previews<B: Backend>(&self, run: &Denoising<B>) -> Result<()> {
        for (video, path) in self.previews.iter().enumerate() {
            run.preview(video)?.save(path)?;
        }
        Ok(())
    }
}

impl Output {
    pub(crate) fn frames(&self) -> usize {
        self.spec.frames as usize
    }

    /// Completes the file; says what it is.
    pub(crate) fn finish(self, grid: &mut Option<Grid>) -> Result<String> {
        self.writer.finish()?;
        if let (Some(grid), Some(frames)) = (grid, self.kept) {
            grid.add(frames);
        }
        Ok(describe(&self.path, &self.spec))
    }
}

/// What a finished video is, in words.
pub(crate) fn describe(path: &Path, spec: &VideoSpec) -> String {
    let VideoSpec { width, height, fps, frames } = spec;
    let path = match Destination::of(path).is_stdout() {
        true => "standard output".into(),
        false => path.display().to_string(),
    };
    let rate = if *frames == 1 { String::new() } else { format!(" at {fps} fps") };
    let frames = counted((*frames).into(), "frame");
    format!("{path}: {frames} of {width}x{height}{rate}")
}

impl FrameSink for Output {
    fn write_frame(&mut self, rgb: &[u8]) -> std::result::Result<(), VideoError> {
        if let Some(frames) = &mut self.kept {
            frames.push(rgb.to_vec());
        }
        self.writer.write_frame(rgb)
    }
}

/// `v-3.mp4` for the third of several videos `v.mp4`, `frames-3/` for `frames/`.
fn numbered(path: &Path, number: usize, count: usize) -> PathBuf {
    match count {
        1 => path.to_owned(),
        _ => renamed(path, &format!("-{number}"), None),
    }
}

/// `v-preview.gif` beside `v.mp4`.
fn preview_path(path: &Path, ending: &str) -> PathBuf {
    renamed(path, "-preview", Some(ending))
}

fn renamed(path: &Path, suffix: &str, ending: Option<&str>) -> PathBuf {
    let is_folder = path.as_os_str().to_string_lossy().ends_with('/');
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(suffix);
    match (ending, path.extension()) {
        (Some(ending), _) => name.push(format!(".{ending}")),
        (None, Some(extension)) => {
            name.push(".");
            name.push(extension);
        }
        (None, None) if is_folder => name.push("/"),
        (None, None) => {}
    }
    path.with_file_name(name)
}

/// Opens a video. A named pipe takes a program that reads it, which may come later.
fn open_video(
    path: &Path,
    film: &Film,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<VideoWriter> {
    let mut said = false;
    loop {
        match VideoWriter::create(path, &film.spec, &film.metadata) {
            Err(VideoError::Write(WriteError::NoReader { .. })) => {
                if !said {
                    progress.say(&format!("waiting for a program that reads {}", path.display()));
                }
                said = true;
                cancel.check().map_err(Error::from)?;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            opened => return Ok(opened?),
        }
    }
}

/// Fails where a video, or what stands beside it, cannot go to a pipe or a device.
fn check_stream(options: &Options, videos: usize) -> Result<()> {
    let (out, name) = (Destination::of(&options.out), options.out.display());
    if !out.is_stream() {
        return Ok(());
    }
    if videos > 1 {
        return Err(format!("--out {name} is no file, so it takes one video, not {videos}").into());
    }
    if options.preview.is_some() {
        return Err(format!("--preview writes beside --out, but {name} is no file").into());
    }
    if out.is_stdout() && std::io::stdout().is_terminal() {
        let reason = "a video to standard output would fill the terminal: send it to a file or to a \
                      program, as in `--out - | ffmpeg ..`";
        return Err(reason.into());
    }
    Ok(())
}

/// The options that name outputs, where they are given.
fn all_outputs(options: &Options) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    [
        ("--out", Some(&options.out)),
        ("--save-latents", options.save_latents.as_ref()),
        ("--save-state", options.save_state.as_ref()),
        ("--save-embeddings", options.save_embeddings.as_ref()),
        ("--grid", options.grid.as_ref()),
    ]
    .into_iter()
    .filter_map(|(option, path)| Some((option, path?)))
}

/// Fails if two outputs are one file, by name or through links.
fn check_different<'a>(
    options: &'a Options,
    videos: impl Iterator<Item = &'a PathBuf>,
) -> Result<()> {
    let others = all_outputs(options).skip(1); // `--out`, which can be several
    let mut seen = HashMap::new();
    for (option, path) in videos.map(|path| ("--out", path)).chain(others) {
        if let Some(other) = seen.insert(Destination::of(path).place(), option) {
            return Err(format!("{other} and {option} both name {}", path.display()).into());
        }
    }
    Ok(())
}
