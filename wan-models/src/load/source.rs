//! The tensors that a network is loaded from.

use wan_io::weights::{StoredTensor, Weights};

/// Named tensors: the weight files of one network, or another source seen through the names of a
/// layout, with adapters, or with checks.
///
/// Networks ask by canonical names, those of diffusers and transformers. Files in another layout are
/// wrapped by [`NetworkConfig::canonical_names`](super::NetworkConfig::canonical_names). A source that
/// wraps another passes all five methods on.
pub trait TensorSource: Send + Sync {
    /// The names of all tensors, as the files have them. [`check`](super::check) compares them with
    /// the [labels](Self::label) of the tensors that a network asks for.
    fn names(&self) -> Vec<String>;

    /// The tensor with this canonical name, if there is one. Its elements are read later, if they are.
    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>>;

    /// The factors that the elements of the tensor with this canonical name must be multiplied with: one,
    /// or one for each row; empty if there are none.
    fn scale(&self, canonical: &str) -> &[f32] {
        let _ = canonical;
        &[]
    }

    /// The name that a file in this layout has for the tensor, for messages. The tensor need not be
    /// there.
    fn label(&self, canonical: &str) -> String {
        canonical.to_owned()
    }

    /// The place that the tensors come from, for messages.
    fn origin(&self) -> String;
}

/// Files answer under the names that they have.
impl TensorSource for Weights {
    fn names(&self) -> Vec<String> {
        Weights::names(self).map(str::to_owned).collect()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        Weights::tensor(self, canonical)
    }

    fn origin(&self) -> String {
        Weights::origin(self).to_owned()
    }
}
