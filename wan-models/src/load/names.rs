//! The names of a layout.

use std::sync::Arc;

use wan_io::weights::StoredTensor;

use super::TensorSource;

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
