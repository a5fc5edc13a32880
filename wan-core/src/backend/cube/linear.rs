//! The linear layer, and the matrix products that attention consists of too.

use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::matmul::{MatmulStrategy, init_matmul_output, matmul as launch};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeRuntime};
use cubecl::ir::features::Tma;
use cubecl::prelude::CubePrimitive;
use cubecl::tf32;
use cubek::matmul::components::tile::TileMatmulKind;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::matmul::routines::BlueprintStrategy;
use cubek::matmul::routines::simple::SimpleArgs;
use cubek::std::InputBinding;

use super::launch::contiguous;
use super::{Cube, Devices, raw, tensor};

/// `x w + b`
pub(super) fn linear<R: Devices, BT: BoolElement>(
    x: Tensor<Cube<R, BT>, 2>,
    weight: Tensor<Cube<R, BT>, 2>,
    bias: Option<Tensor<Cube<R, BT>, 1>>,
) -> Tensor<Cube<R, BT>, 2> {
    let dtype = x.dtype();
    let y: Tensor<Cube<R, BT>, 2> = tensor(matmul(raw(x), raw(weight), dtype));
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// A weight `[out, in]` as `[in, out]` in row-major order. A transposed view would do for the result,
/// but not for the matrix products of burn 0.21 on CUDA, which read a column-major right side wrongly
/// (burn#5264).
pub(super) fn transposed<R: Devices, BT: BoolElement>(
    weight: Tensor<Cube<R, BT>, 2>,
) -> Tensor<Cube<R, BT>, 2> {
    let [rows, columns] = weight.dims();
    // Flattening a transposed view cannot be a view: it copies in row-major order.
    weight.transpose().reshape([rows * columns]).reshape([columns, rows])
}

/// The product of matrices of the same dtype, summed up in f32 and rounded to `dtype` once.
///
/// burn's own product measures on the first call which of many kernels is fastest, which takes most of a minute for a
/// shape. Where one kernel is known to be the fastest of them, it is taken at once. Among those for devices without matrix
/// units is one that is wrong for some sizes (burn#5626), and for small products the choice costs more than it saves; so
/// only large products on other matrix units are left to it. All others always take the same kernel and give the same
/// bits. Products of f32 stay products of f32, as in PyTorch: the matrix units of NVIDIA's GPUs would round the operands
/// to 11 bits (TF32).
pub(super) fn matmul<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    dtype: DType,
) -> CubeTensor<R> {
    assert_eq!(lhs.dtype, rhs.dtype, "matmul: the operands differ in dtype");
    if lhs.dtype == DType::F32 && rounds_to_tf32(&lhs) {
        return without_matrix_units(lhs, rhs, dtype);
    }
    if copies_tiles(&lhs) && suits_tiles(&lhs, &rhs) {
        // Of all with tiles of this size, whatever the shape, no side is too long to be copied (256).
        let args = SimpleArgs { multi_rows: false, tile_matmul: TileMatmulKind::Mma };
        let strategy = Strategy::SimpleTmaMma(BlueprintStrategy::Inferred(args));
        match launch_as(&strategy, contiguous(lhs.clone()), contiguous(rhs.clone()), dtype) {
            Ok(out) => return out,
            Err(error) => tracing::debug!("a product is left to burn: {error:?}"),
        }
    }
    let strategy = match has_matrix_units(&lhs) && is_large(&lhs, &rhs) {
        true => MatmulStrategy::Autotune,
        false => MatmulStrategy::Cube,
    };
    // It fails only where not even the plain kernel can be launched: a bug of ours.
    launch(lhs, rhs, None, strategy, dtype).expect("two matrices that fit each other")
}

fn without_matrix_units<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    dtype: DType,
) -> CubeTensor<R> {
    let launched = launch_as(&Strategy::SimpleUnit(Default::default()), lhs, rhs, dtype);
    launched.expect("two matrices that fit each other")
}

fn launch_as<R: CubeRuntime>(
    strategy: &Strategy,
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    dtype: DType,
) -> Result<CubeTensor<R>, MatmulSetupError> {
    let out = init_matmul_output(&lhs, &rhs, dtype);
    let [left, right, result] = [lhs.dtype, rhs.dtype, dtype].map(Into::into);
    let operands = MatmulGlobalElems { lhs: left, rhs: right, out: result };
    launch_ref(
        strategy,
        &out.client,
        InputBinding::new(lhs.binding(), left),
        InputBinding::new(rhs.binding(), right),
        out.clone().binding(),
        &mut MatmulElems::from_globals(&operands),
    )?;
    Ok(out)
}

/// Whether the device has instructions that copy tiles of matrices to shared memory (NVIDIA's TMA, from Hopper on).
pub(super) fn copies_tiles<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    x.client.properties().features.tma.contains(Tma::Base)
}

/// Whether rows are long enough to fill tiles, and begin where they can be copied from (each 16 bytes).
fn suits_tiles<R: CubeRuntime>(lhs: &CubeTensor<R>, rhs: &CubeTensor<R>) -> bool {
    let (rows, inner, columns) = (size(lhs, 2), size(lhs, 1), size(rhs, 1));
    let begin_well = inner.is_multiple_of(8) && columns.is_multiple_of(8);
    rows >= 32 && inner >= 64 && columns >= 64 && begin_well
}

/// Whether its matrix units take f32 only so.
pub(super) fn rounds_to_tf32<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    x.client.properties().supports_type(tf32::as_type_native_unchecked().storage_type())
}

/// Whether the device multiplies small matrices in one instruction.
pub(super) fn has_matrix_units<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    let features = &x.client.properties().features.matmul;
    !features.cmma.is_empty() || !features.mma.is_empty()
}

/// Whether only kernels for matrix units are tried, all of which are right for these sizes.
fn is_large<R: CubeRuntime>(lhs: &CubeTensor<R>, rhs: &CubeTensor<R>) -> bool {
    let (rows, inner, columns) = (size(lhs, 2), size(lhs, 1), size(rhs, 1));
    rows.min(inner).min(columns) >= 512 && inner.is_multiple_of(128) && columns.is_multiple_of(8)
}

/// The size of an axis, counted from the last.
fn size<R: CubeRuntime>(x: &CubeTensor<R>, from_last: usize) -> usize {
    let shape = x.meta.shape();
    shape[shape.num_dims() - from_last]
}
