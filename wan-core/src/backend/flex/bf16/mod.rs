//! Products of bf16, summed up in f32.
//!
//! The right operand is packed once, in panels of 16 columns; in a panel the two values that follow each other
//! in depth stand side by side, as processors with products of bf16 want them, and as others can widen them with
//! one operation each. The left operand is packed as a task needs it. The kernels ([`CpuKernel`]) compute tiles
//! of some rows by two panels; [`kernels`] holds all that is unsafe here. Where they have no products of bf16, a task
//! widens the panels that it reads once for many rows, and the products are those of f32.

mod attention;
mod buffer;
mod conv3d;
#[allow(unsafe_code)]
mod kernels;
mod operands;
mod panels;
mod product;
#[cfg(test)]
mod tests;
mod winograd;

pub(crate) use attention::{Attention, Heads, attend_all};
pub(crate) use conv3d::{Input, convolve};
pub use kernels::{CpuKernel, CpuKernelError};
pub(crate) use operands::{Right, Value, pack_columns, pack_right, packed_shape};
pub(crate) use product::multiply;
