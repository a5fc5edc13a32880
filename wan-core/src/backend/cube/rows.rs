//! Norms: a group of threads a row, one pass of loads for each sum and one for the result, all in
//! f32.

use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{address_type, contiguous, empty_like, storage};

/// How threads are laid over rows: `lanes` of them share a row, and a cube has several rows if they
/// are short.
#[derive(Clone, Copy)]
struct Lanes {
    lanes: u32,
    rows: u32,
}

impl Lanes {
    /// Threads of a cube: as many as every device has.
    const CUBE: u32 = 256;

    fn for_width(width: usize) -> Self {
        let lanes = (width as u32).next_power_of_two().clamp(32, Self::CUBE);
        Self { lanes, rows: Self::CUBE / lanes }
    }

    fn launch<R: CubeRuntime>(&self, x: &CubeTensor<R>, rows: usize) -> (CubeCount, CubeDim) {
        let dim = CubeDim::new_2d(self.lanes, self.rows);
        let threads = rows.div_ceil(self.rows as usize) * Self::CUBE as usize;
        (calculate_cube_count_elemwise(&x.client, threads, dim), dim)
    }
}

/// What a layer norm does to the normalised rows.
pub(super) struct Affine<R: CubeRuntime> {
    /// `[groups, D]`, each for as many rows that follow each other.
    pub(super) scale: CubeTensor<R>,
    /// `[groups, D]`
    pub(super) shift: CubeTensor<R>,
    /// Added to each scale.
    pub(super) base: f32,
}

pub(super) fn layer_norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    affine: Option<Affine<R>>,
    eps: f64,
    dtype: DType,
) -> CubeTensor<R> {
    let x = contiguous(x);
    let (rows, width) = rows_of(&x);
    let (out, has_affine) = (empty_like(&x, dtype), affine.is_some());
    // A kernel has to be given something: without an affine part it is not read.
    let (scale, shift, base) = match affine {
        Some(Affine { scale, shift, base }) => (contiguous(scale), contiguous(shift), base),
        None => (x.clone(), x.clone(), 0.0),
    };
    let groups = if has_affine { rows_of(&scale).0 } else { 1 };
    let lanes = Lanes::for_width(width);
    let (count, dim) = lanes.launch(&x, rows);
    let types = [storage(&x), storage(&scale), storage(&out)];
    // SAFETY: rows are compared with their number, columns with the width.
    #[allow(unsafe_code)]
    unsafe {
        layer_norm_kernel::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            address_type(&[&x, &out]),
            x.into_array_arg(),
            scale.into_array_arg(),
            shift.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            width,
            rows / groups,
            base,
            eps as f32,
            has_affine,
            lanes.lanes as usize,
            types,
        );
    }
    out
}

pub(super) fn rms_norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    eps: f64,
    dtype: DType,
) -> CubeTensor<R> {
    scaled_rows(x, weight, Scaling::MeanSquare, eps as f32, dtype)
}

pub(super) fn channel_norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    silu: bool,
) -> CubeTensor<R> {
    let scaling = if silu { Scaling::LengthThenSilu } else { Scaling::Length };
    scaled_rows(x, weight, scaling, 1e-12, DType::F32)
}

fn scaled_rows<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    scaling: Scaling,
    eps: f32,
    dtype: DType,
) -> CubeTensor<R> {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let (rows, width) = rows_of(&x);
    let out = empty_like(&x, dtype);
    let lanes = Lanes::for_width(width);
    let (count, dim) = lanes.launch(&x, rows);
    let types = [storage(&x), storage(&out)];
    // SAFETY: rows are compared with their number, columns with the width.
    #[allow(unsafe_code)]
    unsafe {
        scaled_rows_kernel::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            address_type(&[&x, &out]),
            x.into_array_arg(),
            weight.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            width,
            eps,
            scaling,
            lanes.lanes as usize,
            types,
        );
    }
    out
}

/// `softmax(scores scale + bias)` over the last axis; an axis of 1 of the bias stands for all of
/// `scores` `[B, H, S, L]`.
pub(super) fn softmax<R: CubeRuntime>(
    scores: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    scale: f32,
    dtype: DType,
) -> CubeTensor<R> {
    let scores = contiguous(scores);
    let (rows, width) = rows_of(&scores);
    let (out, has_bias) = (empty_like(&scores, dtype), bias.is_some());
    let [_, heads, queries, _] = scores.meta.shape().dims();
    let bias = contiguous(bias.unwrap_or_else(|| scores.clone()));
    let [b, h, q, _] = bias.meta.shape().dims();
    let step = |size: usize, step: usize| if size == 1 { 0 } else { step };
    let lanes = Lanes::for_width(width);
    let (count, dim) = lanes.launch(&scores, rows);
    let dtype = storage(&out);
    // SAFETY: rows are compared with their number, columns with the width; the bias is addressed by
    // its own strides.
    #[allow(unsafe_code)]
    unsafe {
        softmax_kernel::launch_unchecked(
            &scores.client.clone(),
            count,
            dim,
            address_type(&[&scores, &out, &bias]),
            scores.into_array_arg(),
            bias.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            width,
            heads,
            queries,
            step(b, h * q * width),
            step(h, q * width),
            step(q, width),
            scale,
            has_bias,
            lanes.lanes as usize,
            dtype,
        );
    }
    out
}

/// Rows and their width; `x` is contiguous.
fn rows_of<R: CubeRuntime>(x: &CubeTensor<R>) -> (usize, usize) {
    let shape = x.meta.shape();
    let width = shape[shape.num_dims() - 1];
    (shape.num_elements() / width, width)
}

/// Not above any score, and not infinite: WGSL has no literal for that, and its difference with itself
/// is not a number.
const LOWEST: f32 = f32::MIN;

/// What a row is divided by, and what comes after.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Scaling {
    /// The root of the mean square, plus eps below the root.
    MeanSquare,
    /// The length, at least eps, times `sqrt(D)`.
    Length,
    /// The same, then SiLU.
    LengthThenSilu,
}

/// `(x - mean) / sqrt(var + eps)`, then `* (base + scale) + shift`.
#[cube(launch_unchecked, address_type = "dynamic")]
fn layer_norm_kernel<I: Float, A: Float, O: Float>(
    x: &Array<I>,
    scale: &Array<A>,
    shift: &Array<A>,
    out: &mut Array<O>,
    rows: usize,
    width: usize,
    rows_in_group: usize,
    base: f32,
    eps: f32,
    #[comptime] has_affine: bool,
    #[comptime] lanes: usize,
    #[define(I, A, O)] _types: [StorageType; 3],
) {
    let mut shared = SharedMemory::<f32>::new(Lanes::CUBE as usize);
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    // Threads beyond the last row go along, since all have to meet at the sums.
    let start = select(row < rows, row, 0) * width;

    let mut sum = 0.0f32;
    let mut column = lane;
    while column < width {
        sum += f32::cast_from(x[start + column]);
        column += lanes;
    }
    let mean = sum_of_lanes(sum, &mut shared, lanes) / width as f32;

    let mut squares = 0.0f32;
    column = lane;
    while column < width {
        let centred = f32::cast_from(x[start + column]) - mean;
        squares += centred * centred;
        column += lanes;
    }
    let variance = sum_of_lanes(squares, &mut shared, lanes) / width as f32;
    let deviation = (variance + eps).sqrt();

    if row < rows {
        let group = row / rows_in_group * width;
        column = lane;
        while column < width {
            let mut y = (f32::cast_from(x[start + column]) - mean) / deviation;
            if has_affine {
                let factor = f32::cast_from(scale[group + column]) + base;
                y = y * factor + f32::cast_from(shift[group + column]);
            }
            out[start + column] = O::cast_from(y);
            column += lanes;
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn softmax_kernel<O: Float>(
    scores: &Array<f32>,
    bias: &Array<f32>,
    out: &mut Array<O>,
    rows: usize,
    width: usize,
    heads: usize,
    queries: usize,
    bias_of_batch: usize,
    bias_of_head: usize,
    bias_of_query: usize,
    scale: f32,
    #[comptime] has_bias: bool,
    #[comptime] lanes: usize,
    #[define(O)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(Lanes::CUBE as usize);
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    // Threads beyond the last row go along, since all have to meet at the sums.
    let row_or_first = select(row < rows, row, 0);
    let start = row_or_first * width;
    let bias_start = row_or_first / (heads * queries) * bias_of_batch
        + row_or_first / queries % heads * bias_of_head
        + row_or_first % queries * bias_of_query;

    // The largest of a row and the sum of the exponentials in one pass: the sum so far is scaled down
    // when something larger comes.
    let mut largest = f32::new(LOWEST);
    let mut sum = 0.0f32;
    let mut column = lane;
    while column < width {
        let mut score = scores[start + column] * scale;
        if has_bias {
            score += bias[bias_start + column];
        }
        let larger = max(largest, score);
        sum = sum * (largest - larger).exp() + (score - larger).exp();
        largest = larger;
        column += lanes;
    }
    let largest_of_row = largest_of_lanes(largest, &mut shared, lanes);
    let total = sum_of_lanes(sum * (largest - largest_of_row).exp(), &mut shared, lanes);

    if row < rows {
        column = lane;
        while column < width {
            let mut score = scores[start + column] * scale;
            if has_bias {
                score += bias[bias_start + column];
            }
            out[start + column] = O::cast_from((score - largest_of_row).exp() / total);
            column += lanes;
        }
    }
}

/// Rows divided by their root mean square or length, times a weight.
#[cube(launch_unchecked, address_type = "dynamic")]
fn scaled_rows_kernel<I: Float, O: Float>(
    x: &Array<I>,
    weight: &Array<f32>,
    out: &mut Array<O>,
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] scaling: Scaling,
    #[comptime] lanes: usize,
    #[define(I, O)] _types: [StorageType; 2],
) {
    let mut shared = SharedMemory::<f32>::new(Lanes::CUBE as usize);
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    // Threads beyond the last row go along, since all have to meet at the sum.
    let start = select(row < rows, row, 0) * width;

    let mut squares = 0.0f32;
    let mut column = lane;
    while column < width {
        let value = f32::cast_from(x[start + column]);
        squares += value * value;
        column += lanes;
    }
    let square = sum_of_lanes(squares, &mut shared, lanes);
    let divisor = if comptime!(scaling == Scaling::MeanSquare) {
        (square / width as f32 + eps).sqrt()
    } else {
        max(square.sqrt(), eps) / (width as f32).sqrt()
    };

    if row < rows {
        column = lane;
        while column < width {
            let mut y = f32::cast_from(x[start + column]) / divisor * weight[column];
            if comptime!(scaling == Scaling::LengthThenSilu) {
                y = y / (1.0f32 + (-y).exp());
            }
            out[start + column] = O::cast_from(y);
            column += lanes;
        }
    }
}

/// The sum of a value over the threads that share a row, the same in each of them: by halves, so that
/// it does not depend on timing.
#[cube]
fn sum_of_lanes(value: f32, shared: &mut SharedMemory<f32>, #[comptime] lanes: usize) -> f32 {
    let lane = UNIT_POS_X as usize;
    let place = UNIT_POS_Y as usize * lanes + lane;
    shared[place] = value;
    sync_cube();
    let mut half = lanes.runtime() / 2;
    while half > 0 {
        if lane < half {
            shared[place] = shared[place] + shared[place + half];
        }
        sync_cube();
        half /= 2;
    }
    let sum = shared[UNIT_POS_Y as usize * lanes];
    sync_cube(); // before it is written to again
    sum
}

/// The largest of a value over the threads that share a row.
#[cube]
fn largest_of_lanes(value: f32, shared: &mut SharedMemory<f32>, #[comptime] lanes: usize) -> f32 {
    let lane = UNIT_POS_X as usize;
    let place = UNIT_POS_Y as usize * lanes + lane;
    shared[place] = value;
    sync_cube();
    let mut half = lanes.runtime() / 2;
    while half > 0 {
        if lane < half {
            shared[place] = max(shared[place], shared[place + half]);
        }
        sync_cube();
        half /= 2;
    }
    let largest = shared[UNIT_POS_Y as usize * lanes];
    sync_cube(); // before it is written to again
    largest
}
