//! What becomes of results before they are copied to the host.

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::BoolElement;
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros_client};
use cubecl::prelude::*;

use super::launch::{address_type, contiguous, one_each};
use super::{Cube, Devices, raw};

/// Elements that a unit looks at.
const ELEMENTS: usize = 64;

/// Whether all elements are finite. A driver may compile arithmetic as if all were, so bits are looked at.
pub(super) fn is_finite<R: Devices, BT: BoolElement, const D: usize>(
    x: Tensor<Cube<R, BT>, D>,
) -> bool {
    let x = contiguous(raw(x.cast(DType::F32)));
    let (client, device) = (x.client.clone(), x.device.clone());
    let count = x.meta.num_elements();
    let found = zeros_client(client.clone(), device, [1].into(), DType::U32);
    let units = count.div_ceil(ELEMENTS);
    let (cubes, dim) = one_each(&client, units);
    // SAFETY: positions are compared with the number of elements.
    #[allow(unsafe_code)]
    unsafe {
        find_infinite_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            address_type(&[&x]),
            x.into_array_arg(),
            found.clone().into_array_arg(),
            count,
            units,
        );
    }
    let found: Tensor<Cube<R, BT>, 1, Int> = Tensor::from_primitive(found);
    found.into_data().iter::<u32>().all(|found| found == 0)
}

/// The pixels of frames `[1, 3, T, H, W]` in -1..1 as rgb24.
pub(super) fn rgb<R: Devices, BT: BoolElement>(frames: Tensor<Cube<R, BT>, 5>) -> Vec<u8> {
    let x = contiguous(raw(frames.permute([0, 2, 3, 4, 1]).cast(DType::F32)));
    let (client, device) = (x.client.clone(), x.device.clone());
    let count = x.meta.num_elements();
    let words = count.div_ceil(4);
    let shape = [words].into();
    let out = empty_device_contiguous_dtype(client.clone(), device, shape, DType::U32);
    let (cubes, dim) = one_each(&client, words);
    // SAFETY: positions are compared with the number of elements.
    #[allow(unsafe_code)]
    unsafe {
        rgb_kernel::launch_unchecked(
            &client,
            cubes,
            dim,
            address_type(&[&x]),
            x.into_array_arg(),
            out.clone().into_array_arg(),
            count,
            words,
        );
    }
    let out: Tensor<Cube<R, BT>, 1, Int> = Tensor::from_primitive(out);
    out.into_data().as_bytes()[..count].to_vec()
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn find_infinite_kernel(
    x: &Array<f32>,
    found: &mut Array<Atomic<u32>>,
    count: usize,
    units: usize,
) {
    let unit = ABSOLUTE_POS;
    if unit >= units {
        terminate!();
    }
    let mut some = 0u32;
    // Neighbours read neighbours.
    for i in 0..ELEMENTS {
        let at = i * units + unit;
        if at < count {
            let exponent = u32::reinterpret(x[at]) & 0x7f80_0000u32;
            some += u32::cast_from(exponent == 0x7f80_0000u32);
        }
    }
    if some > 0u32 {
        found[0].fetch_or(1u32);
    }
}

/// A word has four values, the first in its lowest byte.
#[cube(launch_unchecked, address_type = "dynamic")]
fn rgb_kernel(x: &Array<f32>, out: &mut Array<u32>, count: usize, words: usize) {
    if ABSOLUTE_POS >= words {
        terminate!();
    }
    let mut word = 0u32;
    #[unroll]
    for i in 0..4u32 {
        let at = 4 * ABSOLUTE_POS + i as usize;
        if at < count {
            let byte = u32::cast_from((x[at] + 1.0f32) / 2.0f32 * 255.0f32);
            word += byte << (8u32 * i);
        }
    }
    out[ABSOLUTE_POS] = word;
}
