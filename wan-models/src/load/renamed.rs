//! A source seen through the names of a layout.

use std::sync::Arc;

use wan_io::weights::StoredTensor;

use super::TensorSource;

/// The name in a layout for a canonical name.
pub(crate) type NameMap = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A source whose tensors have other names than those that networks ask for.
pub(crate) struct Renamed {
    pub(crate) source: Arc<dyn TensorSource>,
    pub(crate) map: NameMap,
}

impl TensorSource for Renamed {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        self.source.tensor(&(self.map)(canonical))
    }

    fn label(&self, canonical: &str) -> String {
        self.source.label(&(self.map)(canonical))
    }

    fn origin(&self) -> String {
        self.source.origin()
    }
}

#[cfg(test)]
mod tests {
    use wan_io::weights::Dtype;

    use super::*;

    /// One tensor, `old.weight`.
    struct Source;

    impl TensorSource for Source {
        fn names(&self) -> Vec<String> {
            vec!["old.weight".into()]
        }

        fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
            let tensor = StoredTensor::in_memory(Dtype::F32, &[2], &[0; 8][..]);
            (canonical == "old.weight").then_some(tensor)
        }

        fn origin(&self) -> String {
            "a file".into()
        }
    }

    #[test]
    fn tensors_under_other_names_are_found_and_named() {
        let renamed = || -> Arc<dyn TensorSource> {
            let map: NameMap = Box::new(|name| name.replace("new", "old"));
            Arc::new(Renamed { source: Arc::new(Source), map })
        };
        let twice =
            Renamed { source: renamed(), map: Box::new(|name| name.replace("newer", "new")) };
        for (source, name) in [(&*renamed(), "new.weight"), (&twice, "newer.weight")] {
            assert!(source.tensor(name).is_some());
            assert!(source.tensor("other.weight").is_none());
            assert_eq!(source.label(name), "old.weight");
        }
    }
}
