//! A contact sheet: all videos of a batch side by side, with labels.

use std::path::{Path, PathBuf};

use wan_pipeline::{FrameSink, Metadata, VideoSpec, VideoWriter};

use crate::Result;
use crate::outputs::{Film, describe};

/// Pixels between cells.
const GAP: usize = 4;
/// Height of a line of text.
const LINE: usize = 16;
/// The narrowest cell that has room for a label.
const MIN_CELL: usize = 64;
/// The least width of the labels of rows.
const ROW_LABELS: usize = 144;

/// The sheet that is being put together.
pub(crate) struct Grid {
    path: PathBuf,
    spec: VideoSpec,
    writer: VideoWriter,
    layout: Layout,
    /// The frames of each video, row by row.
    cells: Vec<Vec<Vec<u8>>>,
}

struct Layout {
    rows: Vec<String>,
    columns: Vec<String>,
    /// Width and height of a frame.
    frame: [usize; 2],
    /// Width of a cell.
    cell: usize,
    /// Width of the labels of rows: 0 where there is one row.
    labels: usize,
}

impl Grid {
    /// Opens the file for a batch of `films`.
    pub(crate) fn open(path: &Path, films: &[Film]) -> Result<Self> {
        let (first, metadata) = (&films[0].spec, &films[0].metadata);
        let layout = Layout::new(films, [first.width as usize, first.height as usize]);
        let [width, height] = layout.size();
        let still = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
        let frames = if still { 1 } else { first.frames };
        let [width, height] = [width, height].map(|side| side as u32);
        let spec = VideoSpec { width, height, fps: first.fps, frames };
        let mut metadata = metadata.clone();
        metadata.seed = None;
        let writer = VideoWriter::create(path, &spec, &metadata)?;
        Ok(Self { path: path.to_owned(), spec, writer, layout, cells: Vec::new() })
    }

    /// Adds the frames of the next video.
    pub(crate) fn add(&mut self, frames: Vec<Vec<u8>>) {
        self.cells.push(frames);
    }

    /// Writes the sheet; says what it is.
    pub(crate) fn write(mut self) -> Result<String> {
        let empty = self.layout.labels();
        for frame in 0..self.spec.frames as usize {
            let mut sheet = empty.clone();
            for (i, frames) in self.cells.iter().enumerate() {
                sheet.paste(&frames[frame], self.layout.frame, self.layout.corner(i));
            }
            self.writer.write_frame(&sheet.pixels)?;
        }
        self.writer.finish()?;
        Ok(describe(&self.path, &self.spec))
    }
}

impl Layout {
    fn new(films: &[Film], frame: [usize; 2]) -> Self {
        let rows = rows(films);
        let per_row = films.len() / rows.len();
        let distinct = |of: fn(&Metadata) -> String| {
            films.iter().any(|film| of(&film.metadata) != of(&films[0].metadata))
        };
        let (seeds, scales) = (distinct(seed), distinct(guidance));
        // Seeds that were drawn differ from row to row: a column has none then.
        let of_column = films
            .iter()
            .enumerate()
            .all(|(i, film)| seed(&film.metadata) == seed(&films[i % per_row].metadata));
        let label = |film: &Film| column_label(&film.metadata, seeds, scales, of_column);
        let columns = films.iter().take(per_row).map(label).collect();
        let labels = if rows.len() > 1 { ROW_LABELS } else { 0 };
        Self { rows, columns, frame, cell: frame[0].max(MIN_CELL), labels }
    }

    fn row_height(&self) -> usize {
        self.frame[1].max(2 * LINE) + GAP
    }

    /// Even, as H.264 wants it.
    fn size(&self) -> [usize; 2] {
        let width = self.labels + self.columns.len() * (self.cell + GAP) + GAP;
        let height = LINE + self.rows.len() * self.row_height() + GAP;
        [width, height].map(|side| side.next_multiple_of(2))
    }

    /// Where the frame of a video begins.
    fn corner(&self, video: usize) -> [usize; 2] {
        let (row, column) = (video / self.columns.len(), video % self.columns.len());
        let left = self.labels + GAP + column * (self.cell + GAP) + (self.cell - self.frame[0]) / 2;
        [left, LINE + GAP + row * self.row_height()]
    }

    /// The sheet without videos.
    fn labels(&self) -> Picture {
        let [width, height] = self.size();
        let mut sheet = Picture { width, pixels: vec![32; width * height * 3] };
        for (column, label) in self.columns.iter().enumerate() {
            let left = self.labels + GAP + column * (self.cell + GAP);
            sheet.write(label, [left, GAP / 2], self.cell, 1);
        }
        if self.labels > 0 {
            let lines = (self.row_height() - GAP) / LINE;
            for (row, label) in self.rows.iter().enumerate() {
                let top = LINE + GAP + row * self.row_height();
                sheet.write(label, [GAP, top], self.labels - GAP, lines);
            }
        }
        sheet
    }
}

/// The prompts of a batch, whose videos stand in the order of the prompts; a single row if they do not
/// make rows of one length.
fn rows(films: &[Film]) -> Vec<String> {
    let rows: Vec<&[Film]> =
        films.chunk_by(|a, b| a.metadata.prompt == b.metadata.prompt).collect();
    let even = rows.iter().all(|row| row.len() == rows[0].len());
    let first = |row: &&[Film]| row[0].metadata.prompt.clone();
    if even { rows.iter().map(first).collect() } else { vec![first(&films)] }
}

fn guidance(metadata: &Metadata) -> String {
    let scale = metadata.guidance_scale.map(|scale| scale.to_string());
    scale.or(metadata.guidance.clone()).unwrap_or_default()
}

fn seed(metadata: &Metadata) -> String {
    metadata.seed.map(|seed| seed.to_string()).unwrap_or_default()
}

/// What makes a column differ from the others.
fn column_label(metadata: &Metadata, seeds: bool, scales: bool, one_seed: bool) -> String {
    let (seed, guidance) = (seed(metadata), guidance(metadata));
    match (seeds && one_seed, scales) {
        (true, true) => format!("{seed}, {guidance}"),
        (false, true) => format!("cfg {guidance}"),
        _ if one_seed => format!("seed {seed}"),
        _ => "random seed".into(),
    }
}

/// A picture in rgb24.
#[derive(Clone)]
struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    fn paste(&mut self, frame: &[u8], [width, _]: [usize; 2], [left, top]: [usize; 2]) {
        for (y, row) in frame.chunks_exact(3 * width).enumerate() {
            let start = 3 * ((top + y) * self.width + left);
            self.pixels[start..start + row.len()].copy_from_slice(row);
        }
    }

    /// Writes text into a box, broken where a line is full and cut where the last one is.
    fn write(&mut self, text: &str, [left, top]: [usize; 2], width: usize, lines: usize) {
        let (mut x, mut line) = (0, 0);
        for character in text.chars() {
            let Some(glyph) = unifont::get_glyph(character) else { continue };
            if x + glyph.get_width() > width {
                (x, line) = (0, line + 1);
            }
            if line == lines {
                return;
            }
            self.draw(glyph, [left + x, top + line * LINE]);
            x += glyph.get_width();
        }
    }

    fn draw(&mut self, glyph: &unifont::Glyph, [left, top]: [usize; 2]) {
        for y in 0..LINE {
            for x in (0..glyph.get_width()).filter(|&x| glyph.get_pixel(x, y)) {
                let start = 3 * ((top + y) * self.width + left + x);
                if let Some(pixel) = self.pixels.get_mut(start..start + 3) {
                    pixel.fill(230);
                }
            }
        }
    }
}
