//! The shapes of a checkpoint, which tell the config of its network.

use super::{CheckpointError, TensorSource};

/// The shapes of a checkpoint, by canonical names.
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

    /// The shape of `name`, if there is such a tensor.
    pub(crate) fn find<const D: usize>(
        &self,
        name: &str,
    ) -> Result<Option<[usize; D]>, CheckpointError> {
        self.has(name).then(|| self.of(name)).transpose()
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_some()
    }

    /// The number of tensors `name(0)`, `name(1)`, .. without a gap.
    pub(crate) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.has(&name(i))).count()
    }
}
