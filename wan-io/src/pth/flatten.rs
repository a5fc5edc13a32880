//! The names of tensors: the keys on the way to them, joined with `.`.

use std::collections::BTreeMap;

use super::PthError;
use super::pickle::MAX_STEPS;
use super::tensor::{Numbers, View};
use super::value::{Container, Pickle, Value, size};

/// The most tensors in one checkpoint. The real ones have about a thousand.
const MAX_TENSORS: usize = 20_000;
/// How deep dicts and lists may lie in each other. The real ones have one to three levels.
const MAX_DEPTH: usize = 32;
/// The longest name in bytes.
const MAX_NAME: usize = 1024;

/// All tensors of `pickle` by name. `storages` are where its storages are in the file.
pub(super) fn tensors(
    pickle: &Pickle,
    storages: &[Numbers],
) -> Result<BTreeMap<String, View>, PthError> {
    let mut walk = Walk { pickle, storages, found: BTreeMap::new(), visits: 0 };
    match pickle.root {
        Value::Container(_) => walk.container(None, pickle.root, 0)?,
        Value::Tensor(_) => return Err(PthError::NoDict { found: "one tensor without a name" }),
        _ => return Err(PthError::NoDict { found: "a single value" }),
    }
    Ok(walk.found)
}

struct Walk<'p> {
    pickle: &'p Pickle<'p>,
    storages: &'p [Numbers],
    found: BTreeMap<String, View>,
    /// How many values were looked at. A value that is shared counts each time, so that those that
    /// share others by the dozen, level by level, end soon.
    visits: usize,
}

impl<'p> Walk<'p> {
    fn container(
        &mut self,
        name: Option<&str>,
        value: Value<'p>,
        depth: usize,
    ) -> Result<(), PthError> {
        let Some(container) = self.pickle.container(value) else { return Ok(()) };
        if depth == MAX_DEPTH {
            return Err(PthError::TooLarge { what: "levels of nesting", max: MAX_DEPTH });
        }
        match container {
            Container::List(items) | Container::Tuple(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.child(name, Value::Int(index as i64), *item, depth)?;
                }
            }
            Container::Dict(items) => {
                for (key, item) in items {
                    self.child(name, *key, *item, depth)?;
                }
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        parent: Option<&str>,
        key: Value<'p>,
        value: Value<'p>,
        depth: usize,
    ) -> Result<(), PthError> {
        self.visits += 1;
        if self.visits > MAX_STEPS {
            return Err(PthError::TooLarge {
                what: "values, counting shared ones",
                max: MAX_STEPS,
            });
        }
        match value {
            Value::Container(_) => {
                let name = join(parent, key)?;
                self.container(Some(&name), value, depth + 1)
            }
            Value::Tensor(index) => {
                let name = join(parent, key)?;
                self.tensor(name, index as usize)
            }
            _ => Ok(()),
        }
    }

    fn tensor(&mut self, name: String, index: usize) -> Result<(), PthError> {
        if self.found.len() == MAX_TENSORS {
            return Err(PthError::TooLarge { what: "tensors", max: MAX_TENSORS });
        }
        match self.view(index) {
            Err(reason) => Err(PthError::Tensor { name, reason }),
            Ok(_) if self.found.contains_key(&name) => {
                Err(PthError::Tensor { name, reason: "is there twice".into() })
            }
            Ok(view) => {
                self.found.insert(name, view);
                Ok(())
            }
        }
    }

    fn view(&self, index: usize) -> Result<View, String> {
        let tensor = &self.pickle.tensors[index];
        let sizes = |what: &str, value| {
            let sizes = self.pickle.sizes(value);
            sizes.ok_or_else(|| format!("must have {what} of at most 64 whole numbers from 0 up"))
        };
        let offset = size(tensor.offset).ok_or("must have a whole number from 0 up as offset")?;
        let (shape, strides) = (sizes("a shape", tensor.shape)?, sizes("strides", tensor.strides)?);
        View::in_storage(&self.storages[tensor.storage as usize], offset, shape, strides)
    }
}

fn join(parent: Option<&str>, key: Value) -> Result<String, PthError> {
    let number;
    let key = match key {
        Value::Text(text) => text,
        Value::Int(value) => {
            number = value.to_string();
            &number
        }
        _ => {
            let name = parent.unwrap_or_default().to_owned();
            let reason = "has a key that is neither text nor a whole number".into();
            return Err(PthError::Tensor { name, reason });
        }
    };
    if key.len() + parent.map_or(0, str::len) >= MAX_NAME {
        return Err(PthError::TooLarge { what: "bytes in a tensor's name", max: MAX_NAME });
    }
    Ok(parent.map_or_else(|| key.to_owned(), |parent| format!("{parent}.{key}")))
}
