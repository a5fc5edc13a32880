//! The tensors that a model is loaded from.

use wan_io::weights::{StoredTensor, Weights};

/// Something that holds named tensors: the files of one model.
pub trait TensorSource: Send + Sync {
    /// All names.
    fn names(&self) -> Vec<String>;

    /// The tensor `name`, if there is one.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>>;

    /// Where the tensors come from, for error messages.
    fn origin(&self) -> String;

    /// The name under which the tensor is stored that a model asks for by `name`. Models ask by the
    /// names of diffusers; [`checkpoint`](crate::checkpoint) knows those of other layouts.
    fn stored_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Says that a tensor has been read and will not be needed soon: a mapped file may give back its
    /// memory.
    fn release_tensor(&self, name: &str) {
        let _ = name;
    }

    /// The same for all tensors.
    fn release(&self) {}
}

impl TensorSource for Weights {
    fn names(&self) -> Vec<String> {
        Weights::names(self).map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        Weights::tensor(self, name)
    }

    fn origin(&self) -> String {
        Weights::origin(self).to_owned()
    }

    fn release_tensor(&self, name: &str) {
        Weights::release_tensor(self, name);
    }

    fn release(&self) {
        Weights::release(self);
    }
}
