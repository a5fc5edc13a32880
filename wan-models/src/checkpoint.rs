//! The layouts that checkpoints have: the names of their tensors, and what the shapes of these say
//! about the model.
//!
//! Models ask for tensors by the names of diffusers and transformers. Each model's `checkpoint`
//! function recognises the layout of a file by its names and answers under those of diffusers;
//! errors name tensors as the file does.

use std::sync::Arc;

use wan_io::weights::StoredTensor;

use crate::weights::TensorSource;

/// Why the tensors of a file are not those of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// None of the layouts has these names.
    #[error("{origin}: these are not the weights of {model}: there is no tensor {expected}")]
    NotThisModel {
        /// The file.
        origin: String,
        /// What was looked for.
        model: &'static str,
        /// The names of which one must be there.
        expected: String,
    },
    /// A tensor whose shape would tell the size of the model is missing.
    #[error("{origin}: {name} is missing")]
    Missing {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
    },
    /// A tensor whose shape would tell the size of the model has another number of axes.
    #[error("{origin}: {name} has shape {found:?}, but must have {axes} axes")]
    Axes {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The number of axes that it must have.
        axes: usize,
    },
    /// The shapes do not tell how the width is split into attention heads.
    #[error(
        "{origin}: a width of {width} does not tell the number of attention heads; put the model's \
         config.json beside the file"
    )]
    Heads {
        /// The file.
        origin: String,
        /// The width.
        width: usize,
    },
}

/// How a layout names what diffusers calls `name`.
pub(crate) type NameMap = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A source whose tensors have other names than those that models ask for.
pub(crate) struct Renamed {
    pub(crate) source: Arc<dyn TensorSource>,
    pub(crate) map: NameMap,
}

impl TensorSource for Renamed {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        self.source.tensor(name)
    }

    fn origin(&self) -> String {
        self.source.origin()
    }

    fn stored_name(&self, name: &str) -> String {
        (self.map)(name)
    }

    fn release_tensor(&self, name: &str) {
        self.source.release_tensor(name);
    }

    fn release(&self) {
        self.source.release();
    }
}

/// `name` with its beginning replaced as the first fitting row of the table says; whole parts
/// between dots only.
pub(crate) fn replace_start(name: &str, table: &[(&str, &str)]) -> String {
    let replaced = table.iter().find_map(|(start, replacement)| {
        let rest = name.strip_prefix(start)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{replacement}{rest}"))
    });
    replaced.unwrap_or_else(|| name.to_owned())
}

/// Splits `blocks.3.rest` after `blocks.` into 3 and `rest`.
pub(crate) fn split_index<'a>(name: &'a str, list: &str) -> Option<(usize, &'a str)> {
    let (index, rest) = name.strip_prefix(list)?.split_once('.')?;
    Some((index.parse().ok()?, rest))
}

/// What the shapes of a checkpoint say; tensors by the names of diffusers.
pub(crate) struct Shapes<'a>(pub(crate) &'a dyn TensorSource);

impl Shapes<'_> {
    /// The shape of `name`.
    pub(crate) fn of<const D: usize>(&self, name: &str) -> Result<[usize; D], CheckpointError> {
        let (origin, name) = (self.0.origin(), self.0.stored_name(name));
        let Some(tensor) = self.0.tensor(&name) else {
            return Err(CheckpointError::Missing { origin, name });
        };
        let found = tensor.shape.to_vec();
        let axes = |_| CheckpointError::Axes { origin, name, found, axes: D };
        tensor.shape.try_into().map_err(axes)
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.tensor(&self.0.stored_name(name)).is_some()
    }

    /// How many `name(0)`, `name(1)`, .. there are without a gap.
    pub(crate) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.has(&name(i))).count()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Mutex;

    use wan_io::weights::Dtype;

    use super::*;

    /// One tensor, `old.weight`, and what was released.
    #[derive(Default)]
    struct Source(Mutex<Vec<String>>);

    impl TensorSource for Source {
        fn names(&self) -> Vec<String> {
            vec!["old.weight".into()]
        }

        fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
            let bytes = Cow::Borrowed(&[0; 8][..]);
            (name == "old.weight").then_some(StoredTensor { dtype: Dtype::F32, shape: &[2], bytes })
        }

        fn origin(&self) -> String {
            "a file".into()
        }

        fn release_tensor(&self, name: &str) {
            self.0.lock().unwrap().push(name.to_owned());
        }
    }

    #[test]
    fn tensors_under_other_names_give_their_memory_back_too() {
        let stored = Arc::new(Source::default());
        let map: NameMap = Box::new(|name| name.replace("new", "old"));
        let renamed = Renamed { source: stored.clone(), map };
        renamed.release_tensor(&renamed.stored_name("new.weight"));
        assert_eq!(*stored.0.lock().unwrap(), ["old.weight"]);
    }
}
