//! What all launches of kernels need.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
pub(super) use burn_cubecl::kernel::into_contiguous as contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::ir::{AddressType, StorageType};
use cubecl::prelude::*;

/// Memory for a result of the same shape.
pub(super) fn empty_like<R: CubeRuntime>(x: &CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let shape = x.meta.shape().clone();
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, dtype)
}

/// The type of its numbers.
pub(super) fn storage<R: CubeRuntime>(x: &CubeTensor<R>) -> StorageType {
    x.dtype.into()
}

/// Integers that are large enough to index all of these.
pub(super) fn address_type<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|x| x.required_address_type()).max().unwrap_or_default()
}

/// Cubes that have a unit for each of `count` elements, and perhaps some more.
pub(super) fn one_each<R: CubeRuntime>(
    client: &ComputeClient<R>,
    count: usize,
) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, count);
    (calculate_cube_count_elemwise(client, count, dim), dim)
}
