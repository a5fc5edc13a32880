//! The layers that all networks are made of. Each knows its weights, what it computes in and what it
//! hands on.

mod conv3d;
mod linear;
mod norm;

pub(crate) use conv3d::{Conv3d, ConvForm};
pub(crate) use linear::Linear;
pub(crate) use norm::{ChannelNorm, LayerNorm, ModulatedNorm, RmsNorm};
