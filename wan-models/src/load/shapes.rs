//! What the shapes of a checkpoint tell about its model.

use super::{CheckpointError, TensorSource};

/// What the shapes of a checkpoint say; tensors by the names of diffusers.
pub(crate) struct Shapes<'a>(pub(crate) &'a dyn TensorSource);

impl Shapes<'_> {
    /// The shape of `name`.
    pub(crate) fn of<const D: usize>(&self, name: &str) -> Result<[usize; D], CheckpointError> {
        let (origin, label) = (self.0.origin(), self.0.label(name));
        let Some(tensor) = self.0.tensor(name) else {
            return Err(CheckpointError::Missing { origin, name: label });
        };
        let found = tensor.shape.to_vec();
        let axes = |_| CheckpointError::Axes { origin, name: label, found, axes: D };
        tensor.shape.try_into().map_err(axes)
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_some()
    }

    /// How many `name(0)`, `name(1)`, .. there are without a gap.
    pub(crate) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.has(&name(i))).count()
    }
}
