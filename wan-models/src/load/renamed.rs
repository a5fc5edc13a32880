//! A source seen through the names of a layout.

use std::collections::BTreeSet;
use std::sync::Arc;

use wan_io::weights::StoredTensor;

use super::TensorSource;
use super::quantised::Quantised;

/// The name in a layout for a canonical name.
pub(crate) type NameMap = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A source whose tensors have other names than those that networks ask for.
pub(crate) struct Renamed {
    pub(crate) source: Arc<dyn TensorSource>,
    pub(crate) map: NameMap,
    /// Names in the source that are no weights of the network.
    pub(crate) hidden: BTreeSet<String>,
    pub(crate) quantised: Quantised,
}

impl TensorSource for Renamed {
    fn names(&self) -> Vec<String> {
        let names = self.source.names().into_iter();
        names.filter(|name| !self.hidden.contains(name)).collect()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        let name = (self.map)(canonical);
        let mut tensor = self.source.tensor(&name)?;
        tensor.dtype = self.quantised.dtypes.get(&name).copied().unwrap_or(tensor.dtype);
        Some(tensor)
    }

    fn scale(&self, canonical: &str) -> &[f32] {
        let name = (self.map)(canonical);
        self.quantised.scales.get(&name).map_or_else(|| self.source.scale(&name), Vec::as_slice)
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

    fn rename(source: Arc<dyn TensorSource>, map: NameMap) -> Arc<dyn TensorSource> {
        let (hidden, quantised) = Default::default();
        Arc::new(Renamed { source, map, hidden, quantised })
    }

    #[test]
    fn tensors_under_other_names_are_found_and_named() {
        let renamed = || rename(Arc::new(Source), Box::new(|name| name.replace("new", "old")));
        let twice = rename(renamed(), Box::new(|name| name.replace("newer", "new")));
        for (source, name) in [(&*renamed(), "new.weight"), (&*twice, "newer.weight")] {
            assert!(source.tensor(name).is_some());
            assert!(source.tensor("other.weight").is_none());
            assert_eq!(source.label(name), "old.weight");
        }
    }
}
