//! A group of threads for each row, which meet for its sums and its largest value.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

/// How threads are laid over rows: `lanes` of them share a row, and a cube has several rows if they
/// are short.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    pub(super) lanes: u32,
    rows: u32,
}

impl Lanes {
    /// Threads of a cube: as many as every device has.
    pub(super) const CUBE: u32 = 256;

    pub(super) fn for_width(width: usize) -> Self {
        let lanes = (width as u32).next_power_of_two().clamp(32, Self::CUBE);
        Self { lanes, rows: Self::CUBE / lanes }
    }

    pub(super) fn launch<R: CubeRuntime>(
        &self,
        x: &CubeTensor<R>,
        rows: usize,
    ) -> (CubeCount, CubeDim) {
        let dim = CubeDim::new_2d(self.lanes, self.rows);
        let threads = rows.div_ceil(self.rows as usize) * Self::CUBE as usize;
        (calculate_cube_count_elemwise(&x.client, threads, dim), dim)
    }
}

/// Rows and their width; `x` is contiguous.
pub(super) fn rows_of<R: CubeRuntime>(x: &CubeTensor<R>) -> (usize, usize) {
    let shape = x.meta.shape();
    let width = shape[shape.num_dims() - 1];
    (shape.num_elements() / width, width)
}

/// The sum of a value over the threads that share a row, the same in each of them: by halves, so that
/// it does not depend on timing.
#[cube]
pub(super) fn sum_of_lanes(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] lanes: usize,
) -> f32 {
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
pub(super) fn largest_of_lanes(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] lanes: usize,
) -> f32 {
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
