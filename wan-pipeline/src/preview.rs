//! A cheap look at latents: a map from them to colours, fitted from the VAE at hand.

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::noise::TorchGenerator;
use wan_core::{Backend, CancelToken, VaeMemory, VideoVae};
use wan_io::video::{FrameRate, FrameSink, VideoSpec};

use crate::latents::host;
use crate::{Error, Latents, Observer, Pipeline, Plan, Video};

/// Pictures that the map is fitted with, and their side in latent pixels.
const PICTURES: usize = 16;
const SIDE: usize = 8;
/// Frames of each, which are equal: one latent frame for the first, one for the rest.
const FRAMES: usize = 5;
/// The standard deviation of the noise that their latents get; that of latents is about 1.
const NOISE: f64 = 0.5;
/// How much large coefficients are held down, so that the map does not follow every sample.
const RIDGE: f64 = 1e-2;
/// How many pixels a latent pixel becomes, along each side.
const SCALE: usize = 4;

/// The maps of a VAE, which holds the first frame of a video alone, and the others four by four.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Colours {
    first: ColourMap,
    others: ColourMap,
}

/// A polynomial in the channels of a latent pixel, to red, green and blue in 0..1: of degree 2, or 1 where
/// there are too few pixels to fit so many terms.
#[derive(Debug, Clone, PartialEq)]
struct ColourMap {
    terms: Terms,
    /// One for each term.
    rows: Vec<[f64; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Terms {
    Linear,
    Quadratic,
}

impl ColourMap {
    /// Fits a map by least squares: `pixels` are latent channels, `colours` what they should become.
    fn fit(pixels: &[Vec<f64>], colours: &[[f64; 3]]) -> Self {
        let terms = Terms::for_pixels(pixels);
        let size = pixels.first().map_or(0, |pixel| terms.of(pixel).len());
        // The normal equations of ridge regression, which can always be solved.
        let mut system = vec![vec![0.0; size + 3]; size];
        for (pixel, colour) in pixels.iter().zip(colours) {
            let features = terms.of(pixel);
            for (row, &feature) in system.iter_mut().zip(&features) {
                let right = features.iter().chain(colour);
                row.iter_mut().zip(right).for_each(|(sum, value)| *sum += feature * value);
            }
        }
        let ridge = RIDGE * pixels.len().max(1) as f64;
        (0..size.saturating_sub(1)).for_each(|i| system[i][i] += ridge); // not the constant
        eliminate(&mut system);
        let row = |(i, row): (usize, &Vec<f64>)| [0, 1, 2].map(|c| row[size + c] / row[i]);
        Self { terms, rows: system.iter().enumerate().map(row).collect() }
    }

    fn colour(&self, pixel: &[f64]) -> [u8; 3] {
        let mut sums = [0.0; 3];
        for (value, row) in self.terms.of(pixel).into_iter().zip(&self.rows) {
            sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
        }
        sums.map(|sum| (sum.clamp(0.0, 1.0) * 255.0).round() as u8)
    }
}

impl Terms {
    /// How many pixels there must be for each term.
    const PIXELS: usize = 2;

    fn for_pixels(pixels: &[Vec<f64>]) -> Self {
        let count = pixels.first().map_or(0, |pixel| Self::Quadratic.of(pixel).len());
        if pixels.len() >= Self::PIXELS * count { Self::Quadratic } else { Self::Linear }
    }

    /// The values of the terms for the channels of a latent pixel, the constant last.
    fn of(self, pixel: &[f64]) -> Vec<f64> {
        let products =
            pixel.iter().enumerate().flat_map(|(i, a)| pixel[i..].iter().map(move |b| a * b));
        let products = products.filter(|_| self == Self::Quadratic);
        pixel.iter().copied().chain(products).chain([1.0]).collect()
    }
}

/// Gauss-Jordan elimination with pivoting: the square part becomes diagonal.
fn eliminate(system: &mut [Vec<f64>]) {
    for column in 0..system.len() {
        let size = |row: &Vec<f64>| row[column].abs();
        let rows = column..system.len();
        let pivot = rows.max_by(|&i, &j| size(&system[i]).total_cmp(&size(&system[j])));
        system.swap(column, pivot.unwrap_or(column));
        let pivot = system[column].clone();
        for (_, row) in system.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column] / pivot[column];
            row.iter_mut().zip(&pivot).for_each(|(value, p)| *value -= factor * p);
        }
    }
}

impl<B: Backend> Pipeline<B> {
    /// See [`Denoising::preview`](crate::Denoising::preview).
    pub(crate) fn preview(&self, latents: &Latents<B>, plan: &Plan) -> Result<Video, Error> {
        let maps = self.colours.lease().get_or_load(|| self.fit_colours())?;
        let [_, channels, frames, height, width] = latents.shape();
        let seconds =
            plan.fps.denominator().saturating_mul(self.model.vae.config.temporal_factor() as u32);
        let fps = FrameRate::fraction(plan.fps.numerator(), seconds).unwrap_or(plan.fps);
        let spec = VideoSpec {
            width: (SCALE * width) as u32,
            height: (SCALE * height) as u32,
            fps: fps.max(FrameRate::new(1)),
            frames: frames as u32,
        };
        let mut video = Video::with_spec(spec, plan.metadata());
        let (values, area) = (latents.to_vec(), height * width);
        for frame in 0..frames {
            let map = if frame == 0 { &maps.first } else { &maps.others };
            let at = |pixel| {
                let value = |c: usize| f64::from(values[(c * frames + frame) * area + pixel]);
                map.colour(&(0..channels).map(value).collect::<Vec<f64>>())
            };
            let colours: Vec<[u8; 3]> = (0..area).map(at).collect();
            video.write_frame(&enlarge(&colours, width))?;
        }
        Ok(video)
    }

    /// Encodes pictures of random colours, adds noise to their latents, and fits the maps to what these
    /// are decoded to. The noise teaches the maps which channels have no colour: those of a generated
    /// video are never as smooth as those of a picture.
    fn fit_colours(&self) -> Result<Colours, Error> {
        let vae = self.vae(&mut Observer::silent())?;
        let (cancel, side) =
            (CancelToken::default(), SIDE * self.model.vae.config.spatial_factor());
        let mut random = TorchGenerator::new(0);
        let (mut first, mut others) = (Samples::default(), Samples::default());
        for i in 0..PICTURES {
            let numbers = random.rand(12);
            let picture = if i % 2 == 0 { blend(&numbers, side) } else { disc(&numbers, side) };
            let data = TensorData::new(still(&picture, side), [1, 3, FRAMES, side, side]);
            let video: Tensor<B, 5> = Tensor::from_data(data, (&self.device, DType::F32));
            let clean = vae.encode(&video, VaeMemory::new(), &cancel)?;
            let latents = clean.clone() + self.draw(&mut random, clean.dims()) * NOISE;
            let chunks = vae.decode(latents.clone(), VaeMemory::new(), &cancel);
            for (frame, chunk) in chunks.enumerate() {
                let Some(chunk) = chunk?.frames() else { continue }; // there are no tiles
                let samples = if frame == 0 { &mut first } else { &mut others };
                samples.add(latents.clone().narrow(2, frame, 1), chunk);
            }
        }
        Ok(Colours { first: first.fit(), others: others.fit() })
    }
}

/// Latent pixels, and the mean colour of what they are decoded to.
#[derive(Default)]
struct Samples {
    pixels: Vec<Vec<f64>>,
    colours: Vec<[f64; 3]>,
}

impl Samples {
    /// Adds a latent frame `[1, C, 1, H, W]` and its frames `[1, 3, t, f H, f W]` in -1..1.
    fn add<B: Backend>(&mut self, latents: Tensor<B, 5>, frames: Tensor<B, 5>) {
        let ([_, channels, _, height, width], [_, _, t, rows, columns]) =
            (latents.dims(), frames.dims());
        let (values, colours, factor) = (host(latents), host(frames), rows / height);
        for pixel in 0..height * width {
            let value = |c: usize| f64::from(values[c * height * width + pixel]);
            self.pixels.push((0..channels).map(value).collect());
            let (top, left) = (pixel / width * factor, pixel % width * factor);
            let mean = |c: usize| {
                let at = |i: usize| {
                    let (frame, y, x) = (i / (factor * factor), i / factor % factor, i % factor);
                    let row = (c * t + frame) * rows + top + y;
                    f64::from(colours[row * columns + left + x]).clamp(-1.0, 1.0)
                };
                let count = t * factor * factor;
                ((0..count).map(at).sum::<f64>() / count as f64 + 1.0) / 2.0
            };
            self.colours.push([0, 1, 2].map(mean));
        }
    }

    fn fit(&self) -> ColourMap {
        ColourMap::fit(&self.pixels, &self.colours)
    }
}

/// A picture of a disc of random colour, place and size on another colour.
fn disc(numbers: &[f32], side: usize) -> Vec<[f64; 3]> {
    let number = |i: usize| f64::from(numbers[i]);
    let vivid = |number: f64| (1.8 * number - 0.4).clamp(0.0, 1.0);
    let colour = |first: usize| [0, 1, 2].map(|c| vivid(number(first + c)));
    let (y, x, radius) = (number(6), number(7), 0.2 + 0.3 * number(8));
    let inside = |i: usize| {
        let at = |position: usize| (position as f64 + 0.5) / side as f64;
        (at(i / side) - y).hypot(at(i % side) - x) < radius
    };
    (0..side * side).map(|i| colour(if inside(i) { 0 } else { 3 })).collect()
}

/// A picture between four corners of random colour: pixels in 0..1, row by row.
fn blend(corners: &[f32], side: usize) -> Vec<[f64; 3]> {
    let corner = |i: usize, c: usize| f64::from(corners[3 * i + c]);
    let pixel = |i: usize| {
        let at = |position: usize| position as f64 / (side - 1) as f64;
        let (y, x) = (at(i / side), at(i % side));
        [0, 1, 2].map(|c| {
            let top = corner(0, c) * (1.0 - x) + corner(1, c) * x;
            let bottom = corner(2, c) * (1.0 - x) + corner(3, c) * x;
            top * (1.0 - y) + bottom * y
        })
    };
    (0..side * side).map(pixel).collect()
}

/// A video `[3, FRAMES, side, side]` in -1..1 that shows a picture.
fn still(picture: &[[f64; 3]], side: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(3 * FRAMES * side * side);
    for c in 0..3 {
        for _ in 0..FRAMES {
            values.extend(picture.iter().map(|pixel| (pixel[c] * 2.0 - 1.0) as f32));
        }
    }
    values
}

/// Each pixel as a square of `SCALE` by `SCALE`.
fn enlarge(colours: &[[u8; 3]], width: usize) -> Vec<u8> {
    let row = |row: &[[u8; 3]]| -> Vec<u8> {
        row.iter().flat_map(|colour| std::iter::repeat_n(*colour, SCALE)).flatten().collect()
    };
    colours.chunks_exact(width).flat_map(|colours| row(colours).repeat(SCALE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of many channels there are too few pixels for all products.
    #[test]
    fn a_plane_is_found_again_in_many_channels() {
        let mut random = TorchGenerator::new(2);
        let mut pixel = |_| random.rand_f64(48).iter().map(|number| 2.0 * number - 1.0).collect();
        let pixels: Vec<Vec<f64>> = (0..PICTURES * SIDE * SIDE).map(&mut pixel).collect();
        let colour = |p: &Vec<f64>| [0.5 + 0.3 * p[0], 0.4 + 0.2 * p[20] - 0.1 * p[47], 0.5];
        let colours: Vec<[f64; 3]> = pixels.iter().map(colour).collect();
        let found = ColourMap::fit(&pixels, &colours);
        assert_eq!((found.terms, found.rows.len()), (Terms::Linear, 49));
        for (pixel, expected) in pixels.iter().zip(colours) {
            for (found, expected) in found.colour(pixel).into_iter().zip(expected) {
                assert!((f64::from(found) - 255.0 * expected).abs() < 6.0, "{pixel:?}");
            }
        }
    }

    #[test]
    fn a_polynomial_is_found_again() {
        let mut random = TorchGenerator::new(1);
        // So large that the ridge is little beside them.
        let mut pixel = |_| random.rand_f64(4).iter().map(|number| 10.0 * number - 5.0).collect();
        let pixels: Vec<Vec<f64>> = (0..99).map(&mut pixel).collect();
        let colour = |p: &Vec<f64>| {
            [0.5 + 0.08 * p[0], 0.4 + 0.05 * p[1] - 0.02 * p[2], 0.5 + 0.015 * p[3] * p[0]]
        };
        let colours: Vec<[f64; 3]> = pixels.iter().map(colour).collect();
        let found = ColourMap::fit(&pixels, &colours);
        for (pixel, expected) in pixels.iter().zip(colours) {
            for (found, expected) in found.colour(pixel).into_iter().zip(expected) {
                assert!((f64::from(found) - 255.0 * expected).abs() < 4.0, "{pixel:?}");
            }
        }
    }
}
