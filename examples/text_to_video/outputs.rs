use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wan_pipeline::{
    Backend, Denoising, EmbeddingsWriter, FrameSink, Latents, LatentsWriter, Metadata, StateWriter,
    VideoError, VideoSpec, VideoWriter,
};

use crate::Result;
use crate::grid::Grid;
use crate::options::Options;

/// A video to write: its size, and how it is made.
#[derive(Clone)]
pub(crate) struct Film {
    pub(crate) spec: VideoSpec,
    pub(crate) metadata: Metadata,
}

/// All files that a run writes, opened before the work begins.
pub(crate) struct Outputs {
    pub(crate) videos: Vec<Output>,
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
    pub(crate) fn open(options: &Options, films: Vec<Film>) -> Result<Self> {
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
            let writer = VideoWriter::create(&path, &film.spec, &film.metadata)?;
            let kept = options.grid.is_some().then(Vec::new);
            videos.push(Output { path, spec: film.spec, writer, kept });
        }
        Ok(Self {
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
    format!("{}: {frames} frames of {width}x{height} at {fps} fps", path.display())
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

/// Fails if two outputs have the same name.
fn check_different<'a>(
    options: &'a Options,
    videos: impl Iterator<Item = &'a PathBuf>,
) -> Result<()> {
    let others = [
        ("--save-latents", &options.save_latents),
        ("--save-state", &options.save_state),
        ("--save-embeddings", &options.save_embeddings),
        ("--grid", &options.grid),
    ];
    let others = others.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?)));
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (option, path) in videos.map(|path| ("--out", path)).chain(others) {
        let place = std::path::absolute(path)?;
        if let Some((other, _)) = seen.iter().find(|(_, seen)| *seen == place) {
            return Err(format!("{other} and {option} both name {}", path.display()).into());
        }
        seen.push((option, place));
    }
    Ok(())
}
