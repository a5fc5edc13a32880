//! From a checkpoint to a network.
//!
//! [`Network::load`] asks a [`Scope`] for its tensors by name and shape. [`load`] runs it twice:
//! once to compare names, shapes and dtypes with the checkpoint without reading any data, and, if
//! all agree, once to read it. So the modules themselves are the only list of what a checkpoint
//! must hold.
//!
//! Networks ask for tensors by canonical names, those of diffusers and transformers.
//! [`NetworkConfig::canonical_names`] recognises the layout of a file by its names and answers under
//! the canonical ones; errors name tensors as the file does.

use burn::tensor::{DType, TensorData};
use wan_io::files::FileError;
use wan_io::weights::StoredTensor;

mod cast;
mod checkpoint_error;
mod error;
mod kept;
mod layers;
mod meter;
mod mismatch;
mod names;
mod network;
mod options;
mod pages;
mod passed_over;
mod quantised;
mod reading;
mod renamed;
mod scope;
mod shapes;
mod source;
mod table;

pub use checkpoint_error::CheckpointError;
pub use error::LoadError;
pub(crate) use layers::Layers;
pub use mismatch::{Mismatch, WeightsError};
pub(crate) use names::{Layout, Layouts, Row, split_index};
pub use network::{Network, NetworkConfig};
pub use options::{ReadOptions, Residency};
pub use reading::{check, load};
pub(crate) use renamed::NameMap;
pub use scope::Scope;
pub(crate) use shapes::Shapes;
pub use source::TensorSource;
pub use table::HostTable;

/// The elements of a stored tensor in the dtype that a network computes in, read and cast on all threads.
///
/// # Errors
/// If they cannot be read, or the file has changed since it was opened.
pub fn decode(tensor: &StoredTensor, dtype: DType) -> Result<TensorData, FileError> {
    cast::decode(tensor, &[], dtype, tensor.shape, None)
}
